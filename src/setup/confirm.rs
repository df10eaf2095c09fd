//! Changes that are taken back by themselves unless somebody confirms them: for a host that is reached over what changes.
//!
//! The transaction says until when it waits, in seconds of the boot (CLOCK_BOOTTIME: time asleep counts, and nobody sets
//! it). A process that does not belong to the session that started it looks then whether the word came.

use std::io;

use nix::time::{ClockId, clock_gettime};

use super::journal::{Journal, JournalError, Lock, Record, Transaction};

/// Seconds since this boot began.
///
/// # Errors
/// What the kernel answered.
pub fn boot_time_s() -> io::Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
    Ok(u64::try_from(time.tv_sec()).unwrap_or_default())
}

/// The transactions that count in boot `boot_id` and wait for confirmation, oldest first.
///
/// # Errors
/// [`JournalError`].
pub fn awaited(journal: &Journal, boot_id: &str) -> Result<Vec<Transaction>, JournalError> {
    let mut transactions = journal.transactions()?;
    transactions.retain(|transaction| {
        transaction.counts_in(boot_id) && transaction.is_open() && transaction.confirm_by_boot_s.is_some()
    });
    Ok(transactions)
}

/// Confirms everything that waits for it; the numbers of those transactions.
///
/// # Errors
/// [`JournalError`]; what was confirmed before it stays so.
pub fn confirm(journal: &Journal, lock: &Lock, boot_id: &str) -> Result<Vec<u32>, JournalError> {
    let mut confirmed = Vec::new();
    for transaction in awaited(journal, boot_id)? {
        let id = transaction.header.id;
        journal.resume(lock, id)?.record(&Record::Confirmed)?;
        confirmed.push(id);
    }
    Ok(confirmed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::journal::{About, Home, LOCK_PATIENCE};

    #[test]
    fn what_was_confirmed_waits_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open_or_create(&Home::under(directory.path())).unwrap();
        let lock = journal.lock(LOCK_PATIENCE, |_| {}).unwrap();
        let change = serde_json::from_value(serde_json::json!({
            "action": "vf_autoprobe",
            "goal": {"pf": "0000:01:00.0", "on": false},
            "prior": {"on": true},
        }));
        let change: crate::setup::action::Change = change.unwrap();
        for confirm_by_boot_s in [None, Some(100), Some(200)] {
            let mut writer = journal.begin(&lock, "boot", &About::of(&[])).unwrap();
            if let Some(confirm_by_boot_s) = confirm_by_boot_s {
                writer.record(&Record::Awaits { confirm_by_boot_s }).unwrap();
            }
            writer
                .record(&Record::Intent { step: 0, change: Box::new(change.clone()), device: None })
                .unwrap();
        }
        journal.resume(&lock, 3).unwrap().record(&Record::Undone { step: 0 }).unwrap();

        let waiting = awaited(&journal, "boot").unwrap();
        let of_another_boot = awaited(&journal, "other").unwrap();
        let confirmed = confirm(&journal, &lock, "boot").unwrap();

        assert_eq!(waiting.iter().map(|one| one.header.id).collect::<Vec<_>>(), [2]);
        assert_eq!((of_another_boot.len(), confirmed), (0, vec![2]));
        assert_eq!(awaited(&journal, "boot").unwrap(), []);
    }
}
