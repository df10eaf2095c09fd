//! The two ways to configuration space: ports 0xCF8 to 0xCFF (PCI 3.0, 3.2.2.3.2) and the memory-mapped ECAM window
//! (PCIe 6.0, 7.2.2).
//!
//! Both split what the guest asks for into accesses inside one doubleword, as [`PciRoot::config_read`] wants them, and read
//! ones where no function answers.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::spec::pci::EXTENDED_CONFIG_SPACE_SIZE;
use crate::vmm::bus::{AccessSize, BusDevice, Effects, IoError};
use crate::vmm::pci::root::{Address, PciRoot, Slot};

/// First of the eight ports.
pub const CONFIG_PORTS: u64 = 0xCF8;
/// How many ports [`ConfigPorts`] answers.
pub const CONFIG_PORTS_LENGTH: u64 = 8;

const ENABLE: u32 = 1 << 31;
/// Bytes of the address register; the data register follows and is as long.
const DATA: u64 = 4;
/// Offset of the reset control register, port 0xCF9, which answers byte accesses amid the address register.
const RESET_CONTROL: u64 = 1;

/// Bits of the reset control register (Intel ICH9 datasheet, 13.7.5).
mod reset_control {
    /// Type of the reset: hard when set.
    pub(super) const SYSTEM: u8 = 1 << 1;
    /// A change from 0 to 1 resets.
    pub(super) const RESET: u8 = 1 << 2;
    /// A full reset cycles power.
    pub(super) const FULL: u8 = 1 << 3;
}

/// The address and data ports, and the reset control register between them.
#[derive(Debug)]
pub struct ConfigPorts {
    root: Arc<PciRoot>,
    address: AtomicU32,
    reset_control: Mutex<u8>,
}

impl ConfigPorts {
    /// Ports to the functions of `root`.
    #[must_use]
    pub fn new(root: Arc<PciRoot>) -> Arc<Self> {
        Arc::new(Self { root, address: AtomicU32::new(0), reset_control: Mutex::new(0) })
    }

    /// Back to the state after power-on.
    pub fn reset(&self) {
        self.address.store(0, Ordering::Relaxed);
        *self.reset_control.lock().unwrap_or_else(PoisonError::into_inner) = 0;
    }

    /// The function and register that the address register selects for data port `port` (0 to 3).
    fn target(&self, port: u64, size: AccessSize) -> Result<(Address, u16), IoError> {
        if port.checked_add(size.bytes() as u64).is_none_or(|end| end > DATA) {
            return Err(IoError::Unaligned);
        }
        let address = self.address.load(Ordering::Relaxed);
        let [register, slot, bus, _] = address.to_le_bytes();
        if address & ENABLE == 0 {
            return Err(IoError::InvalidRegister);
        }
        let port = u16::try_from(port).map_err(|_| IoError::InvalidRegister)?;
        Ok((Address { bus, slot: Slot::from_bits(slot) }, u16::from(register & !0b11) + port))
    }
}

impl BusDevice for ConfigPorts {
    fn read(&self, offset: u64, size: AccessSize) -> Result<u64, IoError> {
        match (offset, size) {
            (0, AccessSize::Dword) => Ok(u64::from(self.address.load(Ordering::Relaxed))),
            (RESET_CONTROL, AccessSize::Byte) => {
                Ok(u64::from(*self.reset_control.lock().unwrap_or_else(PoisonError::into_inner)))
            }
            (DATA.., _) => {
                let (address, register) = self.target(offset - DATA, size)?;
                Ok(u64::from(self.root.config_read(address, register, size)))
            }
            _ => Err(IoError::InvalidAccessSize),
        }
    }

    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Result<Effects, IoError> {
        let [byte, ..] = value.to_le_bytes();
        match (offset, size) {
            (0, AccessSize::Dword) => {
                self.address.store(low_half(value), Ordering::Relaxed);
                Ok(Effects::empty())
            }
            (RESET_CONTROL, AccessSize::Byte) => {
                let kept = reset_control::SYSTEM | reset_control::RESET | reset_control::FULL;
                let mut register = self.reset_control.lock().unwrap_or_else(PoisonError::into_inner);
                let rising = byte & !*register & reset_control::RESET != 0;
                *register = byte & kept;
                Ok(if rising { Effects::RESET } else { Effects::empty() })
            }
            (DATA.., _) => {
                let (address, register) = self.target(offset - DATA, size)?;
                Ok(self.root.config_write(address, register, size, low_half(value)))
            }
            _ => Err(IoError::InvalidAccessSize),
        }
    }
}

/// The ECAM window: 4 KiB per function, 256 buses.
#[derive(Debug)]
pub struct Ecam {
    root: Arc<PciRoot>,
}

impl Ecam {
    /// A window to the functions of `root`.
    #[must_use]
    pub fn new(root: Arc<PciRoot>) -> Arc<Self> {
        Arc::new(Self { root })
    }
}

/// Function and register at byte `offset` of the window.
fn ecam_target(offset: u64) -> Result<(Address, u16), IoError> {
    let size = u64::from(EXTENDED_CONFIG_SPACE_SIZE);
    let routing_id = u16::try_from(offset / size).map_err(|_| IoError::InvalidRegister)?;
    let register = u16::try_from(offset % size).map_err(|_| IoError::InvalidRegister)?;
    let [slot, bus] = routing_id.to_le_bytes();
    Ok((Address { bus, slot: Slot::from_bits(slot) }, register))
}

/// The parts of an access that lie inside one doubleword each, as byte distance and size.
fn parts(offset: u64, size: AccessSize) -> impl Iterator<Item = (u64, AccessSize)> {
    let bytes = size.bytes() as u64;
    let part = if offset % 4 + bytes <= 4 {
        size
    } else if offset.is_multiple_of(4) {
        AccessSize::Dword
    } else {
        AccessSize::Byte
    };
    (0..bytes).step_by(part.bytes()).map(move |distance| (distance, part))
}

impl BusDevice for Ecam {
    fn read(&self, offset: u64, size: AccessSize) -> Result<u64, IoError> {
        let mut value = 0;
        for (distance, part) in parts(offset, size) {
            let (address, register) = ecam_target(offset.saturating_add(distance))?;
            value |=
                (u64::from(self.root.config_read(address, register, part)) & part.ones()) << (8 * distance);
        }
        Ok(value)
    }

    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Result<Effects, IoError> {
        let mut effects = Effects::empty();
        for (distance, part) in parts(offset, size) {
            let (address, register) = ecam_target(offset.saturating_add(distance))?;
            let value = (value >> (8 * distance)) & part.ones();
            effects |= self.root.config_write(address, register, part, low_half(value));
        }
        Ok(effects)
    }
}

/// The low 32 bits of a bus value.
fn low_half(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmm::pci::root::testing::root;

    const SIZES: [AccessSize; 4] = [AccessSize::Byte, AccessSize::Word, AccessSize::Dword, AccessSize::Qword];

    #[test]
    fn ports_and_window_show_the_same_registers() {
        let root = root();
        let ports = ConfigPorts::new(Arc::clone(&root));
        let ecam = Ecam::new(root);
        assert_eq!(ecam.read(0, AccessSize::Dword), Ok(0x29C0_8086));
        assert_eq!(ecam.read(0, AccessSize::Qword).unwrap() & 0xFFFF_FFFF, 0x29C0_8086);
        assert_eq!(ecam.read(1, AccessSize::Dword).unwrap() & 0xFF_FFFF, 0x29_C080);
        let _ = ports.write(0, AccessSize::Dword, 0x8000_0000).unwrap();
        assert_eq!(ports.read(4, AccessSize::Dword), Ok(0x29C0_8086));
        assert_eq!(ports.read(6, AccessSize::Word), Ok(0x29C0));
        assert_eq!(ports.read(0, AccessSize::Dword), Ok(0x8000_0000));
    }

    #[test]
    fn absent_functions_other_buses_and_a_cleared_enable_bit_read_as_ones() {
        let root = root();
        let ports = ConfigPorts::new(Arc::clone(&root));
        assert!(ports.read(4, AccessSize::Dword).is_err());
        let _ = ports.write(0, AccessSize::Dword, 0x8001_0000).unwrap();
        assert_eq!(ports.read(4, AccessSize::Dword), Ok(0xFFFF_FFFF));
        let _ = ports.write(0, AccessSize::Dword, 0x8000_F800).unwrap();
        assert_eq!(ports.read(4, AccessSize::Dword), Ok(0xFFFF_FFFF));
        let ecam = Ecam::new(root);
        assert_eq!(ecam.read(31 << 15, AccessSize::Qword), Ok(u64::MAX));
        assert_eq!(ecam.read(1 << 20, AccessSize::Dword), Ok(0xFFFF_FFFF));
    }

    #[test]
    fn reset_control_resets_at_a_rising_edge_only() {
        let ports = ConfigPorts::new(root());
        assert_eq!(ports.write(1, AccessSize::Byte, 0x02), Ok(Effects::empty()));
        assert_eq!(ports.write(1, AccessSize::Byte, 0x06), Ok(Effects::RESET));
        assert_eq!(ports.write(1, AccessSize::Byte, 0x06), Ok(Effects::empty()));
        assert_eq!(ports.read(1, AccessSize::Byte), Ok(0x06));
        ports.reset();
        assert_eq!(ports.read(1, AccessSize::Byte), Ok(0));
    }

    #[test]
    fn every_offset_and_size_is_answered() {
        let root = root();
        let ports = ConfigPorts::new(Arc::clone(&root));
        let ecam = Ecam::new(root);
        for size in SIZES {
            for value in [0, 1, 0x8000_00FC, u64::MAX] {
                for offset in (0..16).chain([u64::MAX]) {
                    let _ = ports.write(0, AccessSize::Dword, 0x8000_00FC).unwrap();
                    let _ = ports.write(offset, size, value & size.ones());
                    let _ = ports.read(offset, size);
                }
                for offset in (0..0x1010).chain([0xF_FFFD, 0xF_FFFF, 0x10_0000, u64::MAX - 3, u64::MAX]) {
                    let _ = ecam.write(offset, size, value & size.ones());
                    let _ = ecam.read(offset, size);
                }
            }
        }
    }
}
