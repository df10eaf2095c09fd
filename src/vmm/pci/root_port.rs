//! A PCI Express root port: one bus with one device behind it, numbered and given windows by whoever enumerates the machine.
//! Its slot is full for good, or can be filled and emptied while the guest runs ([`hotplug`](super::hotplug)).
//!
//! PCIe 6.0, 7.5.1.3 (type 1 header), 7.5.3 (Express capability), 7.7.11 (ACS); PCI-to-PCI Bridge Architecture Specification
//! 1.2, 3.2.5. What lies behind a port is reachable as far as the port forwards it: the [`root`](super::root) asks it.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::spec::pci::{CapabilityId, ClassCode, Command, bridge};
use crate::spec::pcie::{EXTENDED_START, ExtendedCapabilityId, ExtendedHeader, acs};
use crate::vmm::Lifecycle;
use crate::vmm::bus::{AccessSize, Effects};
use crate::vmm::mapper::AddressSpace;
use crate::vmm::pci::capability::Capability;
use crate::vmm::pci::config_space::{ConfigSpace, ConfigSpaceError, Identity, touches};
use crate::vmm::pci::hotplug::{HotPlug, Wiring};
use crate::vmm::pci::{Bar, PciFunction, express};

/// Granularity of memory windows in bytes.
pub const MEMORY_STEP: u64 = 1 << 20;
/// Granularity of the window of ports.
pub const IO_STEP: u64 = 1 << 12;

/// Where its ACS structure lies.
const ACS: u16 = EXTENDED_START;

/// What a port forwards to the bus behind it; an empty range forwards nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// Port I/O, in multiples of [`IO_STEP`].
    pub io: Range<u64>,
    /// Memory below 4 GiB, in multiples of [`MEMORY_STEP`].
    pub memory: Range<u64>,
    /// Prefetchable memory anywhere, in multiples of [`MEMORY_STEP`].
    pub prefetchable: Range<u64>,
}

/// A root port on bus 0.
#[derive(Debug)]
pub struct RootPort {
    label: String,
    registers: Mutex<Registers>,
}

#[derive(Debug)]
struct Registers {
    config: ConfigSpace,
    /// None where the slot is full for good.
    hot_plug: Option<HotPlug>,
}

impl RootPort {
    /// Port `number` (1 to 31, which is the number of its slot, too) after power-on, with a device in its slot for good.
    ///
    /// # Errors
    /// Never with the capabilities of this file; they fit.
    pub fn new(number: u8) -> Result<Self, ConfigSpaceError> {
        Self::build(number, None)
    }

    /// Like [`Self::new`], with a slot that can be filled and emptied, and is empty.
    ///
    /// # Errors
    /// Never with the capabilities of this file; they fit.
    pub fn with_hot_plug(number: u8, wiring: Wiring) -> Result<Self, ConfigSpaceError> {
        Self::build(number, Some(wiring))
    }

    fn build(number: u8, wiring: Option<Wiring>) -> Result<Self, ConfigSpaceError> {
        let mut config = ConfigSpace::bridge(Identity {
            vendor_id: 0x1B36,
            device_id: 0x000C,
            revision: 0,
            class: ClassCode { base: 0x06, sub: 0x04, prog_if: 0x00 },
            subsystem_vendor_id: 0x1AF4,
            subsystem_id: 0x1100,
        });
        let _ = config.add_capability(&power())?;
        let capability = match &wiring {
            Some(wiring) => express::hot_plug_port(number, wiring.power),
            None => express::port(number),
        };
        let express = config.add_capability(&capability)?;
        let _ = config.add_capability(&Capability {
            id: CapabilityId::BRIDGE_SUBSYSTEM,
            body: [0u16, 0x1AF4, 0x1100].into_iter().flat_map(u16::to_le_bytes).collect(),
            writable: Vec::new(),
        })?;
        if wiring.is_some() {
            let _ = config.add_capability(&reservation())?;
        }
        let header = ExtendedHeader { id: ExtendedCapabilityId::ACS, version: 1, next: 0 };
        config.define(ACS, &header.to_u32().to_le_bytes());
        config.define(ACS + acs::CAPABILITIES, &acs::OF_ROOT_PORT.to_le_bytes());
        config.set_writable(ACS + acs::CONTROL, &acs::OF_ROOT_PORT.to_le_bytes());
        let hot_plug = match wiring {
            Some(wiring) => Some(HotPlug::new(&mut config, express, wiring)?),
            None => None,
        };
        let registers = Mutex::new(Registers { config, hot_plug });
        Ok(Self { label: format!("root port {number}"), registers })
    }

    fn lock(&self) -> MutexGuard<'_, Registers> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the slot can be filled and emptied.
    #[must_use]
    pub fn is_hot_plug(&self) -> bool {
        self.lock().hot_plug.is_some()
    }

    /// Whether the device behind the port can be reached: it is there, and its slot gives it power.
    #[must_use]
    pub fn is_up(&self) -> bool {
        let Registers { config, hot_plug } = &*self.lock();
        hot_plug.as_ref().is_none_or(|slot| slot.is_up(config))
    }

    /// Whether the guest uses nothing of what is in the slot, and says so.
    #[must_use]
    pub fn is_let_go(&self) -> bool {
        let Registers { config, hot_plug } = &*self.lock();
        hot_plug.as_ref().is_some_and(|slot| slot.is_let_go(config))
    }

    /// Says that a device came into the slot or left it, which the guest is told. Nothing happens where the slot is full for good.
    pub fn set_presence(&self, present: bool) {
        let Registers { config, hot_plug } = &mut *self.lock();
        if let Some(slot) = hot_plug {
            slot.set_presence(config, present);
        }
    }

    /// The slot is full from the start: the guest finds the device there and is told of nothing.
    pub fn fill(&self) {
        let Registers { config, hot_plug } = &mut *self.lock();
        if let Some(slot) = hot_plug {
            slot.reset(config, true);
        }
    }

    /// Presses the slot's attention button: the guest is asked to let the device go. Whether it listens to the button.
    #[must_use]
    pub fn press_button(&self) -> bool {
        let Registers { config, hot_plug } = &mut *self.lock();
        hot_plug.as_mut().is_some_and(|slot| slot.press_button(config))
    }

    /// The bus behind the port; 0 until one is given.
    #[must_use]
    pub fn secondary_bus(&self) -> u8 {
        let [bus, ..] = self.lock().config.read(bridge::SECONDARY_BUS, AccessSize::Byte).to_le_bytes();
        bus
    }

    /// Numbers the bus behind the port and sets what it forwards, as firmware would.
    pub fn program(&self, bus: u8, forwarded: &Forwarded) {
        let Forwarded { io, memory, prefetchable } = forwarded;
        let low = |address: u64| u16::try_from(address >> 16 & 0xFFF0).unwrap_or(0);
        let upper = |address: u64| u32::try_from(address >> 32).unwrap_or(0);
        let port = |address: u64| u8::try_from(address >> 8 & 0xF0).unwrap_or(0);
        // A base above its limit forwards nothing.
        let bounds = |range: &Range<u64>, nothing: u64| {
            if range.is_empty() { (nothing, 0) } else { (range.start, range.end - 1) }
        };
        let ((io_base, io_limit), (base, limit)) = (bounds(io, 0xF000), bounds(memory, 0xFFF0_0000));
        let (fast_base, fast_limit) = bounds(prefetchable, 0xFFF0_0000);
        let mut registers = self.lock();
        let mut write = |offset, data: &[u8]| registers.config.set(offset, data);
        write(bridge::SECONDARY_BUS, &[bus, bus]);
        write(bridge::IO_BASE, &[port(io_base), port(io_limit)]);
        write(bridge::MEMORY_BASE, &low(base).to_le_bytes());
        write(bridge::MEMORY_LIMIT, &low(limit).to_le_bytes());
        write(bridge::PREFETCHABLE_BASE, &(low(fast_base) | bridge::PREFETCHABLE_64).to_le_bytes());
        write(bridge::PREFETCHABLE_LIMIT, &(low(fast_limit) | bridge::PREFETCHABLE_64).to_le_bytes());
        write(bridge::PREFETCHABLE_BASE_UPPER, &upper(fast_base).to_le_bytes());
        write(bridge::PREFETCHABLE_LIMIT_UPPER, &upper(fast_limit).to_le_bytes());
    }

    /// What the registers say that the port forwards, whether or not the command register lets it.
    fn windows(config: &ConfigSpace) -> Forwarded {
        let word = |offset| u64::from(config.read(offset, AccessSize::Word));
        let dword = |offset| u64::from(config.read(offset, AccessSize::Dword));
        let byte = |offset| u64::from(config.read(offset, AccessSize::Byte));
        let range = |base: u64, limit: u64, step: u64| {
            if base <= limit { base..(limit | (step - 1)).saturating_add(1) } else { 0..0 }
        };
        let memory = |offset| (word(offset) & 0xFFF0) << 16;
        let fast = |offset, upper| memory(offset) | dword(upper) << 32;
        Forwarded {
            io: range((byte(bridge::IO_BASE) & 0xF0) << 8, (byte(bridge::IO_LIMIT) & 0xF0) << 8, IO_STEP),
            memory: range(memory(bridge::MEMORY_BASE), memory(bridge::MEMORY_LIMIT), MEMORY_STEP),
            prefetchable: range(
                fast(bridge::PREFETCHABLE_BASE, bridge::PREFETCHABLE_BASE_UPPER),
                fast(bridge::PREFETCHABLE_LIMIT, bridge::PREFETCHABLE_LIMIT_UPPER),
                MEMORY_STEP,
            ),
        }
    }

    /// Whether accesses to all of `start..end` reach the bus behind the port.
    #[must_use]
    pub fn forwards(&self, space: AddressSpace, start: u64, end: u64) -> bool {
        let Registers { config, .. } = &*self.lock();
        let windows = Self::windows(config);
        let inside = |window: &Range<u64>| window.start <= start && end <= window.end;
        match space {
            AddressSpace::Port => config.command().contains(Command::IO) && inside(&windows.io),
            AddressSpace::Memory => {
                config.command().contains(Command::MEMORY)
                    && (inside(&windows.memory) || inside(&windows.prefetchable))
            }
        }
    }

    /// Whether the bus behind the port is held in reset.
    #[must_use]
    pub fn holds_in_reset(&self) -> bool {
        let control = self.lock().config.read(bridge::CONTROL, AccessSize::Byte);
        control & u32::from(bridge::SECONDARY_BUS_RESET) != 0
    }
}

/// What firmware keeps free behind a slot that can be filled later, as this port's vendor tells it
/// (QEMU: `docs/pcie_pci_bridge.txt`): no ports of I/O, of which there is enough for ten windows, so that firmware would leave
/// out whole devices; of memory what it sees fit.
fn reservation() -> Capability {
    const RESOURCES: u8 = 1;
    const LENGTH: u8 = 32;
    const PORTS: Range<usize> = 8..16;
    let mut structure = [0xFF; LENGTH as usize];
    structure[PORTS].fill(0);
    structure[2..4].copy_from_slice(&[LENGTH, RESOURCES]);
    Capability { id: CapabilityId::VENDOR, body: structure[2..].to_vec(), writable: Vec::new() }
}

/// Power management (PCI-PM 1.2, 3.2): states D0 and D3hot, which change nothing here.
fn power() -> Capability {
    Capability {
        id: CapabilityId::POWER_MANAGEMENT,
        // Version 3; no soft reset.
        body: vec![0x03, 0, 0x08, 0, 0, 0],
        writable: vec![0, 0, 0x03, 0, 0, 0],
    }
}

impl Lifecycle for RootPort {
    fn reset(&self) {
        let Registers { config, hot_plug } = &mut *self.lock();
        let present = hot_plug.as_ref().is_some_and(|slot| slot.is_present(config));
        config.reset();
        if let Some(slot) = hot_plug {
            slot.reset(config, present);
        }
    }
}

impl PciFunction for RootPort {
    fn label(&self) -> &str {
        &self.label
    }

    fn config_read(&self, offset: u16, size: AccessSize) -> u32 {
        self.lock().config.read(offset, size)
    }

    fn config_write(&self, offset: u16, size: AccessSize, value: u32) -> Effects {
        let Registers { config, hot_plug } = &mut *self.lock();
        let mut effects = config.write(offset, size, value);
        if let Some(slot) = hot_plug {
            let before = slot.is_up(config);
            slot.follow(config, offset, size);
            if slot.is_up(config) != before {
                effects |= Effects::REMAP_BARS;
            }
        }
        let routing = bridge::END_OF_WINDOWS - bridge::PRIMARY_BUS;
        if touches(offset, size, bridge::PRIMARY_BUS, routing) || touches(offset, size, bridge::CONTROL, 2) {
            effects |= Effects::REMAP_BARS;
        }
        effects
    }

    fn bar(&self, _: usize) -> Option<Bar> {
        None
    }

    fn bar_address(&self, _: usize) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::pci::header;

    fn port() -> RootPort {
        RootPort::new(3).unwrap()
    }

    fn on(port: &RootPort) {
        let _ = port.config_write(header::COMMAND, AccessSize::Word, 3);
    }

    #[test]
    fn a_port_says_what_it_is() {
        let port = port();
        assert_eq!(port.config_read(header::SUBCLASS, AccessSize::Word), 0x0604);
        assert_eq!(port.config_read(header::HEADER_TYPE, AccessSize::Byte), 1);
        let image: Vec<u8> = (0..0x1000)
            .map(|offset| u8::try_from(port.config_read(offset, AccessSize::Byte) & 0xFF).unwrap())
            .collect();
        let found: Vec<u8> =
            crate::vmm::pci::capability::capabilities(&image).iter().map(|entry| entry.id.0).collect();
        assert_eq!(found, [0x01, 0x10, 0x0D]);
        let extended = crate::vmm::pci::capability::extended_capabilities(&image);
        assert_eq!(extended.iter().map(|entry| entry.id).collect::<Vec<_>>(), [0x0D]);
    }

    #[test]
    fn what_is_programmed_is_forwarded_once_the_command_register_says_so() {
        let port = port();
        let forwarded = Forwarded {
            io: 0xC000..0xD000,
            memory: 0xC010_0000..0xC030_0000,
            prefetchable: 0x20_0000_0000..0x21_0000_0000,
        };
        port.program(5, &forwarded);
        assert_eq!(port.secondary_bus(), 5);
        assert_eq!(RootPort::windows(&port.lock().config), forwarded);
        let memory = |start, end| port.forwards(AddressSpace::Memory, start, end);
        assert!(!memory(0xC010_0000, 0xC010_1000));
        on(&port);
        assert!(memory(0xC010_0000, 0xC030_0000) && memory(0x20_0000_0000, 0x21_0000_0000));
        assert!(!memory(0xC00F_F000, 0xC010_1000) && !memory(0xC020_0000, 0xC030_1000));
        assert!(port.forwards(AddressSpace::Port, 0xC000, 0xC100));
        assert!(!port.forwards(AddressSpace::Port, 0xD000, 0xD100));
    }

    #[test]
    fn empty_windows_forward_nothing_and_registers_after_power_on_neither_at_0() {
        let port = port();
        port.program(1, &Forwarded::default());
        on(&port);
        assert_eq!(RootPort::windows(&port.lock().config), Forwarded::default());
        assert!(!port.forwards(AddressSpace::Memory, 0xFFF0_0000, 0xFFF0_1000));
    }

    #[test]
    fn every_register_takes_every_value() {
        let port = port();
        for offset in (0..0x1000).chain([u16::MAX]) {
            for size in [AccessSize::Byte, AccessSize::Word, AccessSize::Dword, AccessSize::Qword] {
                for value in [0, 1, 0x8000_0000, 0xFFF0_0000, u32::MAX] {
                    let _ = port.config_write(offset, size, value);
                    let _ = port.config_read(offset, size);
                    let _ = port.forwards(AddressSpace::Memory, u64::from(value), u64::MAX);
                }
            }
        }
        assert_eq!(port.config_read(0, AccessSize::Dword), 0x000C_1B36);
        assert_eq!(port.config_read(header::HEADER_TYPE, AccessSize::Byte), 1);
    }
}
