//! The journal's files: torn, foreign, unwritable; and its lock.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::setup::fake::memory_dir;
use crate::setup::law::PATIENCE;

const SHORT: Duration = Duration::from_millis(60);
const CHANGE: &str = r#"{"action":"set_link","goal":{"function":"0000:01:00.0","interface":"eth0","up":true},"prior":{"up":false}}"#;

fn journal() -> (tempfile::TempDir, Journal) {
    let directory = memory_dir();
    let journal = Journal::open_or_create(&Home::under(directory.path())).unwrap();
    (directory, journal)
}

fn intent(step: u32) -> Record {
    Record::Intent { step, change: serde_json::from_str(CHANGE).unwrap(), device: None }
}

#[test]
fn records_are_read_back_and_ids_count_up() {
    let (_directory, journal) = journal();
    let lock = journal.lock(PATIENCE, |_| {}).unwrap();
    let mut first = journal.begin(&lock, "boot", &About::of(&["apply".to_owned()])).unwrap();
    first.record(&intent(0)).unwrap();
    first.record(&Record::Done { step: 0 }).unwrap();
    first.record(&intent(1)).unwrap();
    let second = journal.begin(&lock, "boot", &About::of(&[])).unwrap();

    let found = journal.transactions().unwrap();

    assert_eq!((first.id(), second.id()), (1, 2));
    let states: Vec<_> = found[0].steps.iter().map(|step| &step.state).collect();
    assert_eq!(states, [&StepState::Done, &StepState::Begun]);
    assert_eq!(found[0].header.argv, ["apply"]);
    assert!(found[0].is_open() && !found[1].is_open());
}

#[test]
fn a_torn_last_line_was_never_written_and_the_next_one_does_not_continue_it() {
    let (directory, journal) = journal();
    let lock = journal.lock(PATIENCE, |_| {}).unwrap();
    let mut writer = journal.begin(&lock, "boot", &About::of(&[])).unwrap();
    writer.record(&intent(0)).unwrap();
    writer.record(&Record::Done { step: 0 }).unwrap();
    drop(writer);
    let path = directory.path().join("run/000001.jsonl");
    let whole = fs::read(&path).unwrap();
    let header = whole.iter().position(|&byte| byte == b'\n').unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();

        let found = journal.transactions().unwrap();

        assert_eq!(found.len(), usize::from(length > header), "{length} bytes");
        if let [transaction] = &found[..] {
            let lines = whole[..length].iter().filter(|&&byte| byte == b'\n').count();
            assert_eq!(transaction.steps.len(), usize::from(lines > 1), "{length} bytes");
            if transaction.is_open() {
                journal.resume(&lock, 1).unwrap().record(&Record::Undone { step: 0 }).unwrap();
                assert!(!journal.transactions().unwrap()[0].is_open(), "{length} bytes");
            }
        }
    }
}

#[test]
fn corrupt_foreign_and_newer_journals_stop_everything_and_are_named() {
    let header = r#"{"schema":"thruway.journal","schema_version":1,"id":1,"boot_id":"b","tool_version":"0","argv":[],"begun_unix_s":0}"#;
    let done = r#"{"record":"done","step":0}"#;
    for (text, line, part) in [
        ("garbage\n".to_owned(), 1, "expected"),
        (
            format!("{}\n", header.replace("\"schema_version\":1", "\"schema_version\":2")),
            1,
            "thruway.journal 2",
        ),
        (format!("{}\n", header.replace("thruway.journal", "other")), 1, "other 1"),
        (format!("{}\n", header.replace("\"id\":1", "\"id\":7")), 1, "transaction 7"),
        (format!("{header}\n{{\"record\":\"magic\"}}\n{done}\n"), 2, "magic"),
        (format!("{header}\n{done}\n"), 2, "never begun"),
    ] {
        let (directory, journal) = journal();
        fs::write(directory.path().join("run/000001.jsonl"), &text).unwrap();

        let error = journal.transactions().unwrap_err();

        assert!(
            matches!(&error, JournalError::Foreign { line: found, reason, .. } if *found == line && reason.contains(part)),
            "{text}: {error}"
        );
    }
}

#[test]
fn a_second_one_waits_says_for_whom_and_gives_up() {
    let (_directory, journal) = journal();
    let _held = journal.lock(PATIENCE, |_| {}).unwrap();
    let mut told = String::new();

    let error = journal.lock(SHORT, |holder| told = holder.to_owned()).unwrap_err();

    let ours = format!("process {}", std::process::id());
    assert!(told.starts_with(&ours), "{told}");
    assert!(matches!(&error, JournalError::Locked { holder, .. } if holder.starts_with(&ours)), "{error}");
}

#[test]
fn eight_at_once_are_one_at_a_time() {
    let (directory, journal) = journal();
    let (inside, most) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let journal = Journal::open(&Home::under(directory.path())).unwrap().unwrap();
                for _ in 0..5 {
                    let lock = journal.lock(Duration::from_secs(60), |_| {}).unwrap();
                    assert!(!inside.swap(true, Ordering::SeqCst));
                    let mut writer = journal.begin(&lock, "boot", &About::of(&[])).unwrap();
                    writer.record(&intent(0)).unwrap();
                    most.fetch_max(usize::try_from(writer.id()).unwrap(), Ordering::SeqCst);
                    inside.store(false, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), 40);
    assert_eq!(journal.transactions().unwrap().len(), 40);
}

#[test]
fn links_in_the_place_of_journal_and_lock_are_refused() {
    let (directory, journal) = journal();
    let victim = directory.path().join("victim");
    fs::write(&victim, "old").unwrap();
    symlink(&victim, directory.path().join("run/lock")).unwrap();

    let error = journal.lock(SHORT, |_| {}).unwrap_err();

    assert!(matches!(error, JournalError::Storage(PrivateDirError::Unsafe { .. })), "{error}");
    fs::remove_file(directory.path().join("run/lock")).unwrap();
    let lock = journal.lock(SHORT, |_| {}).unwrap();
    symlink(&victim, directory.path().join("run/000001.jsonl")).unwrap();
    // Its number is taken; the next one is used, and reading stops at the link.
    assert_eq!(journal.begin(&lock, "boot", &About::of(&[])).unwrap().id(), 2);
    assert!(journal.transactions().is_err());
    assert_eq!(fs::read_to_string(&victim).unwrap(), "old");
}

#[test]
fn the_oldest_of_those_that_left_nothing_are_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open_or_create(&Home::under(directory.path())).unwrap();
    let lock = journal.lock(LOCK_PATIENCE, |_| {}).unwrap();
    journal.begin(&lock, "boot", &About::of(&[])).unwrap().record(&intent(0)).unwrap();
    for _ in 0..MOST_CLOSED + 5 {
        let mut writer = journal.begin(&lock, "boot", &About::of(&[])).unwrap();
        writer.record(&intent(0)).unwrap();
        writer.record(&Record::Undone { step: 0 }).unwrap();
    }

    let last = journal.begin(&lock, "boot", &About::of(&[])).unwrap().id();

    let ids: Vec<_> = journal.transactions().unwrap().iter().map(|one| one.header.id).collect();
    assert_eq!((ids.first(), ids.get(1), ids.last()), (Some(&1), Some(&7), Some(&last)), "an open one stays");
    assert_eq!(ids.len(), MOST_CLOSED + 2);
}
