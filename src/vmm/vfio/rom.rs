//! The expansion ROM that a host function brings with it. The kernel finds it, behind the device's register or where firmware
//! left a copy, and VFIO shows it as a region of its own.
//!
//! It is read when the guest first looks: chips behind ROMs are slow, and most guests never do.

use std::sync::{Arc, OnceLock};

use crate::spec::option_rom::{MAX_SIZE, MIN_SIZE};
use crate::spec::pci::ROM_BAR;
use crate::vmm::bus::{AccessSize, BusDevice, Effects, IoError};
use crate::vmm::pci::{Backing, Bar, Segment, rom};
use crate::vmm::vfio::device::HostFunction;

struct DeviceRom {
    label: String,
    host: Arc<dyn HostFunction>,
    /// Empty if it could not be read.
    content: OnceLock<Vec<u8>>,
}

/// What the function shows, if the device has a ROM.
pub(super) fn of_device(label: &str, host: &Arc<dyn HostFunction>) -> Option<Bar> {
    let region = host.region(ROM_BAR);
    let size = region.size.checked_next_power_of_two()?;
    if !region.readable || !(MIN_SIZE..=MAX_SIZE).contains(&size) {
        return None;
    }
    let device = DeviceRom { label: label.to_owned(), host: Arc::clone(host), content: OnceLock::new() };
    Some(rom::bar(size, Segment { offset: 0, size, backing: Backing::Trap(Arc::new(device)) }))
}

impl DeviceRom {
    fn content(&self) -> &[u8] {
        self.content.get_or_init(|| {
            let size = usize::try_from(self.host.region(ROM_BAR).size).unwrap_or(0);
            let mut content = vec![0; size];
            match self.host.read(ROM_BAR, 0, &mut content) {
                Ok(()) => content,
                Err(error) => {
                    tracing::warn!(function = self.label, %error, "cannot read its expansion ROM; the guest finds none");
                    Vec::new()
                }
            }
        })
    }
}

impl BusDevice for DeviceRom {
    fn read(&self, offset: u64, size: AccessSize) -> Result<u64, IoError> {
        let start = usize::try_from(offset).map_err(|_| IoError::InvalidRegister)?;
        let mut data = [0xFF; 8];
        let source = self.content().get(start..).unwrap_or_default();
        for (byte, source) in data.iter_mut().zip(source) {
            *byte = *source;
        }
        Ok(u64::from_le_bytes(data) & size.ones())
    }

    /// It is read-only.
    fn write(&self, _: u64, _: AccessSize, _: u64) -> Result<Effects, IoError> {
        Ok(Effects::empty())
    }
}
