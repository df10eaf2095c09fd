//! Two questions to /dev/kvm, and nothing else: which API it speaks, and whether it makes a virtual machine.

use std::io;

use kvm_ioctls::Kvm;

/// What KVM answered.
#[derive(Debug)]
pub struct KvmReply {
    /// KVM_GET_API_VERSION.
    pub api_version: i32,
    /// Whether KVM_CREATE_VM succeeded. The machine is gone again when this returns.
    pub create_vm: io::Result<()>,
}

/// Opens /dev/kvm and asks it.
///
/// # Errors
/// /dev/kvm cannot be opened. Where the node is there and no driver behind it, as on hosts whose device manager makes nodes
/// for modules that may come later, that is [`io::ErrorKind::NotFound`].
pub fn ask() -> io::Result<KvmReply> {
    let kvm = Kvm::new().map_err(|error| match error.errno() {
        libc::ENODEV | libc::ENXIO => io::ErrorKind::NotFound.into(),
        _ => io::Error::from(error),
    })?;
    Ok(KvmReply {
        api_version: kvm.get_api_version(),
        create_vm: kvm.create_vm().map(drop).map_err(Into::into),
    })
}
