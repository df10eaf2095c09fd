//! A line on the terminal while something takes long, and nothing anywhere else.

use std::cell::OnceCell;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::context::Context;

/// What takes less than this needs no line.
const PATIENCE: Duration = Duration::from_millis(500);

/// A line that moves, with `message` and the time since.
pub(super) fn spinner(message: String) -> ProgressBar {
    spinner_on(ProgressDrawTarget::stderr(), message)
}

fn spinner_on(terminal: ProgressDrawTarget, message: String) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, terminal).with_message(message);
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
    announced(PATIENCE, || spinner(message.to_owned()), work)
}

/// Does `work`, which tells how many bytes are done, of how many; on a terminal a bar shows it.
pub(super) fn bytes<T>(context: &Context, message: &str, work: impl FnOnce(&dyn Fn(u64, u64)) -> T) -> T {
    if !context.can_animate() {
        return work(&|_, _| ());
    }
    let bar = OnceCell::new();
    work(&|done, total| {
        let bar = bar.get_or_init(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            if let Ok(style) =
                ProgressStyle::with_template("{wide_msg} {bar:30} {bytes}/{total_bytes} {elapsed}")
            {
                bar.set_style(style);
            }
            bar.with_message(message.to_owned())
        });
        bar.set_position(done);
        if done == total {
            bar.finish_and_clear();
        }
    })
}

/// Does `work`, with the line that `announce` makes once it takes longer than `patience`. The line is gone before this
/// returns.
fn announced<T>(
    patience: Duration,
    announce: impl FnOnce() -> ProgressBar + Send,
    work: impl FnOnce() -> T,
) -> T {
    let (done, waiting) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if waiting.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                let bar = announce();
                let _ = waiting.recv(); // returns when `done` is dropped
                bar.finish_and_clear();
            }
        });
        let result = work();
        drop(done);
        result
    })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{Sender, channel};

    use indicatif::TermLike;

    use super::*;

    /// A terminal of 80 columns that tells what is done to it.
    #[derive(Debug)]
    struct Terminal(Sender<Done>);

    #[derive(Debug, PartialEq, Eq)]
    enum Done {
        Wrote(String),
        Cleared,
    }

    impl Terminal {
        fn tell(&self, done: Done) -> io::Result<()> {
            self.0.send(done).map_err(io::Error::other)
        }
    }

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.tell(Done::Wrote(text.to_owned()))
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.tell(Done::Wrote(text.to_owned()))
        }
        fn clear_line(&self) -> io::Result<()> {
            self.tell(Done::Cleared)
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_comes_when_patience_ends_and_is_gone_when_the_work_is_done() {
        let (told, telling) = channel();
        let terminal = ProgressDrawTarget::term_like(Box::new(Terminal(told)));
        let line = || spinner_on(terminal, "reading".to_owned());
        let said = announced(Duration::ZERO, line, || {
            loop {
                // The work takes until the line stands there.
                match telling.recv().unwrap() {
                    Done::Wrote(text) if text.contains("reading") => return text,
                    _ => {}
                }
            }
        });
        assert!(said.chars().count() <= 80, "{said}");
        let left = telling.iter().fold(true, |left, done| match done {
            Done::Cleared => false,
            Done::Wrote(text) => left || !text.trim().is_empty(),
        });
        assert!(!left, "the line is left behind");
    }

    #[test]
    fn quick_work_is_done_without_a_word() {
        let announce = || panic!("nobody has waited that long");
        assert_eq!(announced(Duration::from_secs(3600), announce, || 7), 7);
    }
}
