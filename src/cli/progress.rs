//! A line on the terminal while something takes long, and nothing anywhere else.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::context::Context;

/// What takes less than this needs no line.
const PATIENCE: Duration = Duration::from_millis(500);

/// A line that moves, with `message` and the time since.
pub(super) fn spinner(message: String) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(message);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Does `work`; on a terminal a line with `message` says so once that takes longer than half a second.
pub(super) fn shown<T>(context: &Context, message: &str, work: impl FnOnce() -> T) -> T {
    if !context.can_animate() {
        return work();
    }
    let (done, waiting) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let bar = spinner(message.to_owned());
                let _ = waiting.recv(); // returns when `done` is dropped
                bar.finish_and_clear();
            }
        });
        let result = work();
        drop(done);
        result
    })
}
