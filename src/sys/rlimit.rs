//! Limits of our own process.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Lets this process lock at least `bytes` of memory, if it may: up to the hard limit, or beyond it with
/// CAP_SYS_RESOURCE. Returns the limit that is in force afterwards, `u64::MAX` for none (Linux: setrlimit(2),
/// RLIMIT_MEMLOCK).
///
/// # Errors
/// What getrlimit(2) answered. A limit that cannot be raised is no error.
pub fn raise_memlock(bytes: u64) -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    if soft >= bytes {
        return Ok(soft);
    }
    for (new_soft, new_hard) in [(bytes, hard.max(bytes)), (hard, hard)] {
        if setrlimit(Resource::RLIMIT_MEMLOCK, new_soft, new_hard).is_ok() {
            break;
        }
    }
    let (soft, _) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    Ok(soft)
}
