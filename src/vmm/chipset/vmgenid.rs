//! Generation identity: sixteen random bytes by which a guest sees that it is not the machine that it was.
//!
//! Microsoft, "Virtual Machine Generation ID" (2012). They lie in a page of their own, which the DSDT names, and differ from
//! start to start. Guests stir them into their random numbers, so that two that began as copies part ways. A reset is no
//! new generation.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sys::mmap::Mapping;
use crate::vmm::Lifecycle;
use crate::vmm::mapper::{Mapped, Mapper};

/// Guest-physical address of the page: among the chipset's addresses, where no BAR comes.
pub const ADDRESS: u64 = 0xFED4_8000;
const PAGE: u64 = 0x1000;
/// Where random bytes come from.
const SOURCE: &str = "/dev/urandom";

/// An identity of this start of the machine. It has no settings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmGenIdConfig {}

/// The page.
#[derive(Debug)]
pub struct VmGenId {
    identity: [u8; 16],
    page: File,
    _mapped: Mapped,
}

impl VmGenId {
    /// A new generation, where the guest finds it.
    ///
    /// # Errors
    /// What the kernel answered to the page's memory and its place.
    pub fn new(mapper: &dyn Mapper) -> io::Result<Self> {
        let mut identity = [0; 16];
        File::open(SOURCE)?.read_exact(&mut identity)?;
        let page: OwnedFd = memfd_create("vmgenid", MFdFlags::MFD_CLOEXEC)?;
        let page = File::from(page);
        page.set_len(PAGE)?;
        page.write_all_at(&identity, 0)?;
        let mapping = Arc::new(Mapping::new(&page, 0, usize::try_from(PAGE).unwrap_or(0), true)?);
        let mapped = mapper.map(ADDRESS, &mapping, PAGE)?;
        Ok(Self { identity, page, _mapped: mapped })
    }
}

impl Lifecycle for VmGenId {
    /// The guest could have written over it.
    fn reset(&self) {
        if let Err(error) = self.page.write_all_at(&self.identity, 0) {
            tracing::error!(%error, "generation identity");
        }
    }
}

#[cfg(test)]
mod tests {
    use vmm_sys_util::eventfd::EventFd;

    use super::*;
    use crate::vmm::mapper::AddressSpace;

    struct Anywhere;

    impl Mapper for Anywhere {
        fn map(&self, address: u64, memory: &Arc<Mapping>, size_bytes: u64) -> io::Result<Mapped> {
            assert_eq!((address, size_bytes), (ADDRESS, PAGE));
            Ok(Mapped::new(Arc::clone(memory)))
        }
        fn map_read_only(&self, _: u64, _: &Arc<Mapping>, _: u64) -> io::Result<Mapped> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn notify(&self, _: AddressSpace, _: u64, _: &Arc<EventFd>) -> io::Result<Mapped> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    fn content(device: &VmGenId) -> [u8; 16] {
        let mut bytes = [0; 16];
        device.page.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn every_start_has_another_identity_and_a_reset_brings_it_back() {
        let (first, second) = (VmGenId::new(&Anywhere).unwrap(), VmGenId::new(&Anywhere).unwrap());
        assert_ne!(content(&first), content(&second));
        let before = content(&first);
        first.page.write_all_at(&[0; 16], 0).unwrap();
        first.reset();
        assert_eq!(content(&first), before);
    }
}
