//! Reading a host of which some file may never answer.
//!
//! A file of sysfs is a function of some driver, which may wait for a device that is gone; a container's /proc/cpuinfo is a
//! process that may have died. No system call takes such a read back, so that it is left alone: the host is read in a
//! thread (and those that it starts), and when one file has not answered for a while, another thread starts from the
//! beginning, for which that file is unreadable. Where everything answers, that costs the noting down of each question.

use std::collections::{BTreeSet, HashMap};
use std::panic;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use super::{CpuidLeaf, DeviceNode, Fact, KvmAnswer, Route, Source, VfLinks};

/// How often the thread is looked after. Time is counted in looks, so that a machine that stands still as a whole for a
/// while finds nobody guilty.
const LOOK: Duration = Duration::from_millis(100);
/// Looks after which a file is given up: the first one, and those after it. Whoever met one that hangs waits less.
const FIRST_LOOKS: u32 = 10;
const FURTHER_LOOKS: u32 = 2;
/// When so many files hang, no more are asked.
const MOST_HANGING: u32 = 3;

/// Reads `source` as `read` does, and takes files that do not answer for unreadable.
///
/// # Panics
/// When `read` does.
pub fn patiently<T: Send + 'static>(
    source: Box<dyn Source>,
    read: impl Fn(&dyn Source) -> T + Send + Sync + 'static,
) -> T {
    let (source, read) = (Arc::<dyn Source>::from(source), Arc::new(read));
    let notes = Arc::new(Mutex::new(Notes::default()));
    loop {
        let attempt =
            Patient { inner: Arc::clone(&source), notes: Arc::clone(&notes), number: lock(&notes).attempt };
        let (done, result) = channel();
        let read = Arc::clone(&read);
        let reader = thread::spawn(move || drop(done.send(read(&attempt))));
        loop {
            match result.recv_timeout(LOOK) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) if lock(&notes).gives_up() => break,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let panic = reader.join().expect_err("a thread that sends nothing has panicked");
                    panic::resume_unwind(panic);
                }
            }
        }
    }
}

/// What is noted down of the questions.
#[derive(Debug, Default)]
struct Notes {
    /// Which attempt to read the host this is.
    attempt: u32,
    /// What each thread of the attempt has asked and not been answered.
    asked: HashMap<ThreadId, Question>,
    /// Files that do not answer.
    hanging: BTreeSet<String>,
}

/// A file that was asked.
#[derive(Debug)]
struct Question {
    path: String,
    /// How often it has been seen without an answer.
    looks: u32,
}

impl Notes {
    /// Looks after the reader; whether it is stuck and another attempt takes its place.
    fn gives_up(&mut self) -> bool {
        let limit = if self.hanging.is_empty() { FIRST_LOOKS } else { FURTHER_LOOKS };
        let mut is_stuck = false;
        for question in self.asked.values_mut() {
            question.looks += 1;
            if question.looks >= limit {
                self.hanging.insert(question.path.clone());
                is_stuck = true;
            }
        }
        if is_stuck {
            self.asked.clear();
            self.attempt += 1;
        }
        is_stuck
    }

    /// Whether `path` may be asked in attempt `attempt`.
    fn may_ask(&self, attempt: u32, path: &str) -> bool {
        self.attempt == attempt && self.hanging.len() < MOST_HANGING as usize && !self.hanging.contains(path)
    }
}

fn lock(notes: &Mutex<Notes>) -> std::sync::MutexGuard<'_, Notes> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A source that notes down which file it asks.
struct Patient {
    inner: Arc<dyn Source>,
    notes: Arc<Mutex<Notes>>,
    number: u32,
}

impl Patient {
    fn ask<T>(&self, path: &str, ask: impl FnOnce(&dyn Source) -> Fact<T>) -> Fact<T> {
        {
            let mut notes = lock(&self.notes);
            if !notes.may_ask(self.number, path) {
                return Fact::Unreadable { source: path.to_owned(), reason: "it does not answer".to_owned() };
            }
            let question = Question { path: path.to_owned(), looks: 0 };
            notes.asked.insert(thread::current().id(), question);
        }
        let answer = ask(self.inner.as_ref());
        let mut notes = lock(&self.notes);
        if notes.attempt == self.number {
            notes.asked.remove(&thread::current().id());
        }
        answer
    }
}

impl Source for Patient {
    fn read_limited(&self, path: &str, limit_bytes: u64) -> Fact<Vec<u8>> {
        self.ask(path, |inner| inner.read_limited(path, limit_bytes))
    }

    fn read_wanted(&self, path: &str, wanted: &dyn Fn(&[u8]) -> usize) -> Fact<Vec<u8>> {
        self.ask(path, |inner| inner.read_wanted(path, wanted))
    }

    fn list(&self, path: &str) -> Fact<Vec<String>> {
        self.ask(path, |inner| inner.list(path))
    }

    fn link(&self, path: &str) -> Fact<String> {
        self.ask(path, |inner| inner.link(path))
    }

    fn device_node(&self, path: &str) -> Fact<DeviceNode> {
        self.ask(path, |inner| inner.device_node(path))
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> Fact<CpuidLeaf> {
        self.inner.cpuid(leaf, subleaf)
    }

    fn msr(&self, cpu: u32, register: u32) -> Fact<u64> {
        self.inner.msr(cpu, register)
    }

    fn kvm(&self) -> Fact<KvmAnswer> {
        self.inner.kvm()
    }

    fn kernel_log(&self) -> Fact<Vec<String>> {
        self.inner.kernel_log()
    }

    fn vf_links(&self) -> Fact<Vec<VfLinks>> {
        self.inner.vf_links()
    }

    fn routes(&self) -> Fact<Vec<Route>> {
        self.inner.routes()
    }

    fn is_redacted(&self) -> bool {
        self.inner.is_redacted()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::host::source::LiveSource;
    use crate::host::source::fake::{Entry, FakeHost};

    /// What a machine may take that has other things to do, and far less than for ever.
    const BUSY: Duration = Duration::from_secs(20);

    /// What the live host says of the files `names` of `directory`.
    fn read(directory: &std::path::Path, names: &[&str]) -> Vec<Fact<String>> {
        let paths: Vec<_> =
            names.iter().map(|name| directory.join(name).to_str().unwrap().to_owned()).collect();
        patiently(Box::new(LiveSource), move |source| paths.iter().map(|path| source.text(path)).collect())
    }

    #[test]
    fn a_file_that_hangs_is_unreadable_and_the_others_are_read() {
        let host = FakeHost::new(&[("/before", Entry::Text("1")), ("/behind", Entry::Text("2"))]);
        mkfifo(&host.path().join("hangs"), Mode::S_IRWXU).unwrap();
        let began = Instant::now();

        let facts = read(host.path(), &["before", "hangs", "behind", "none"]);

        assert!(began.elapsed() < BUSY, "{:?}", began.elapsed());
        assert_eq!((&facts[0], &facts[2]), (&Fact::Known("1".to_owned()), &Fact::Known("2".to_owned())));
        assert!(matches!(&facts[1], Fact::Unreadable { reason, .. } if reason == "it does not answer"));
        assert_eq!(facts[3], Fact::NotPresent);
    }

    #[test]
    fn files_that_hang_at_once_in_several_threads_are_each_found() {
        let host = FakeHost::new(&[("/text", Entry::Text("1"))]);
        for name in ["one", "two"] {
            mkfifo(&host.path().join(name), Mode::S_IRWXU).unwrap();
        }
        let paths = ["one", "text", "two"].map(|name| host.path().join(name).to_str().unwrap().to_owned());

        let facts = patiently(Box::new(LiveSource), move |source| {
            thread::scope(|scope| {
                let readers = paths.each_ref().map(|path| scope.spawn(|| source.text(path)));
                readers.map(|reader| reader.join().unwrap())
            })
        });

        assert_eq!(facts[1], Fact::Known("1".to_owned()));
        assert!(facts[0].is_unread() && facts[2].is_unread(), "{facts:?}");
    }

    #[test]
    fn nobody_waits_for_two_seconds() {
        assert!(LOOK * (FIRST_LOOKS + FURTHER_LOOKS * (MOST_HANGING - 1)) < Duration::from_secs(2));
    }

    #[test]
    fn a_host_of_which_nothing_answers_takes_no_longer() {
        let host = FakeHost::new(&[("/text", Entry::Text("1"))]);
        let names: Vec<_> = (0..100).map(|number| format!("hangs{number}")).collect();
        for name in &names {
            mkfifo(&host.path().join(name), Mode::S_IRWXU).unwrap();
        }
        let began = Instant::now();

        let facts = read(host.path(), &names.iter().map(String::as_str).collect::<Vec<_>>());

        assert!(began.elapsed() < BUSY, "{:?}", began.elapsed());
        assert!(facts.iter().all(Fact::is_unread));
    }

    #[test]
    #[should_panic(expected = "the reader's own")]
    fn a_panic_is_handed_on() {
        patiently(Box::new(LiveSource), |_| panic!("the reader's own"));
    }
}
