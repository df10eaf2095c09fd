//! A root on buses and a mapper that only remember, for the tests of this room and its neighbours.

use std::io;
use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::EventFd;

use crate::sys::mmap::Mapping;
use crate::vmm::bus::Bus;
use crate::vmm::layout;
use crate::vmm::mapper::{AddressSpace, Mapped, Mapper};
use crate::vmm::pci::root::{PciRoot, Windows};

/// What is in force: `map 0x..`, `read 0x..` and `notify 0x..`, in the order in which they were placed.
#[derive(Default, Clone)]
pub(crate) struct FakeMapper(pub(crate) Arc<Mutex<Vec<String>>>);

struct Guard(FakeMapper, String);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().retain(|entry| *entry != self.1);
    }
}

impl FakeMapper {
    fn place(&self, entry: String) -> io::Result<Mapped> {
        let mut entries = self.0.lock().unwrap();
        if entries.contains(&entry) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        entries.push(entry.clone());
        Ok(Mapped::new(Guard(self.clone(), entry)))
    }
}

impl Mapper for FakeMapper {
    fn map(&self, address: u64, _: &Arc<Mapping>, size_bytes: u64) -> io::Result<Mapped> {
        self.place(format!("map {address:#x}+{size_bytes:#x}"))
    }
    fn map_read_only(&self, address: u64, _: &Arc<Mapping>, size_bytes: u64) -> io::Result<Mapped> {
        self.place(format!("read {address:#x}+{size_bytes:#x}"))
    }
    fn notify(&self, _: AddressSpace, address: u64, _: &Arc<EventFd>) -> io::Result<Mapped> {
        self.place(format!("notify {address:#x}"))
    }
}

/// The windows of a machine with little RAM.
pub(crate) fn windows() -> Windows {
    Windows { pio: layout::PIO, mmio32: layout::MMIO32, mmio64: layout::mmio64(0, 39) }
}

/// A root with the host bridge alone.
pub(crate) fn root() -> Arc<PciRoot> {
    root_on(&Arc::default(), &FakeMapper::default())
}

/// A root whose memory BARs appear on `mmio` and `mapper`.
pub(crate) fn root_on(mmio: &Arc<Bus>, mapper: &FakeMapper) -> Arc<PciRoot> {
    PciRoot::new(windows(), Arc::clone(mmio), Arc::default(), Arc::new(mapper.clone()))
}
