//! How long work is shown while it happens. The room reports here; the command line draws it.

use std::time::Duration;

/// Where the room says what it is doing. Calls come from one thread, in the order begin, detail.., end.
pub trait Progress {
    /// A piece of work begins: `fetching linux-image-6.12.. (107 MB)`.
    fn begin(&self, what: &str);
    /// A line from a program that works for us.
    fn detail(&self, line: &str);
    /// The work that began last is done, after `elapsed`.
    fn end(&self, elapsed: Duration);
}

/// Shows nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str) {}
    fn detail(&self, _: &str) {}
    fn end(&self, _: Duration) {}
}

/// Does `work` between [`Progress::begin`] and [`Progress::end`].
pub(super) fn during<T, E>(
    progress: &dyn Progress,
    what: &str,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    progress.begin(what);
    let started = std::time::Instant::now();
    let result = work()?;
    progress.end(started.elapsed());
    Ok(result)
}
