//! Kernel modules: unloading one. Loading is modprobe's, which knows what a module depends on.
//!
//! Spec: delete_module(2). Used by `setup`.

use std::ffi::CString;
use std::io;
use std::time::Duration;

use super::child::{self, ChildError, Job};

/// Unloads `name`, as `/sys/module` spells it, and nothing that it depends on, in a child, within `limit`.
///
/// # Errors
/// [`ChildError`]; `EWOULDBLOCK` while somebody uses it, `EBUSY` of one that cannot be unloaded, `ENOENT` of one that is
/// not loaded.
pub fn unload(name: &str, limit: Duration) -> Result<(), ChildError> {
    let name = CString::new(name).map_err(io::Error::from)?;
    child::run(Job::Unload { name: &name }, limit).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_why_not() {
        let error = unload("no_such_module", Duration::from_secs(10)).unwrap_err();

        let ChildError::Refused(error) = error else { panic!("{error:?}") };
        // EPERM without the privilege, ENOSYS of a kernel without modules.
        assert!(matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EPERM | libc::ENOSYS)), "{error}");
    }
}
