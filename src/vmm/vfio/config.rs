//! The guest's view of a host function's configuration space: a table that says for each byte who answers it.
//!
//! An access is split into bytes and each byte is filtered on its own, so one that spans two registers can reach nothing
//! that neither of them allows. What the table holds for which register is decided once, in [`layout`], from a copy of
//! the space that was read when the function was opened.

mod layout;
#[cfg(test)]
mod tests;

use crate::spec::pci::{Command, header, msix};
use crate::spec::pcie::{advanced_features, express, power};
use crate::vmm::bus::{AccessSize, Effects};
use crate::vmm::pci::capability::Capability;
use crate::vmm::pci::config_space::{ConfigSpace, touches};
use crate::vmm::pci::msi::Msi;
use crate::vmm::pci::msix::MsixPlace;

pub(super) use layout::{BarRegister, Limits, header_fault, lay_out};

/// Who answers a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Byte {
    /// Our own register; which bits the guest can write stands in the [`ConfigSpace`].
    Emulated,
    /// The device, reads and writes.
    Passthrough,
    /// The device; a write reaches it with all bits cleared but these.
    Masked(u8),
    /// Nobody: reads as zero.
    Hidden,
}

/// The MSI-X structures as the device has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MsixFacts {
    /// First byte of the capability.
    pub offset: u16,
    /// Vectors.
    pub vectors: u16,
    /// Table and pending bit array.
    pub place: MsixPlace,
}

/// First bytes of the capabilities that need more than the table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// MSI, with its control register.
    pub msi: Option<(u16, u16)>,
    /// MSI-X.
    pub msix: Option<MsixFacts>,
    /// PCI Express, if function level reset is offered in it.
    pub express_flr: Option<u16>,
    /// Advanced Features, if function level reset is offered in it.
    pub advanced_flr: Option<u16>,
    /// Power Management.
    pub power: Option<u16>,
}

/// A virtual configuration space.
#[derive(Debug)]
pub(super) struct VirtualConfig {
    space: ConfigSpace,
    bytes: Box<[Byte]>,
    places: Places,
}

/// Access to the device's real configuration space. A failed read gives ones; a failed write is dropped.
pub(super) trait HardwareConfig {
    fn read(&self, offset: u16, size: AccessSize) -> u32;
    fn write(&self, offset: u16, size: AccessSize, value: u32);
}

/// What a write asks the function to do, beyond its [`Effects`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// The command register or the power state changed.
    pub command: bool,
    /// An MSI register was written.
    pub msi: bool,
    /// The MSI-X control register was written.
    pub msix: bool,
    /// The guest asked for a function level reset.
    pub reset: bool,
}

impl VirtualConfig {
    pub(super) fn places(&self) -> Places {
        self.places
    }

    /// The registers that are our own.
    pub(super) fn space(&self) -> &ConfigSpace {
        &self.space
    }

    #[cfg(test)]
    pub(super) fn owner(&self, offset: u16) -> Byte {
        self.byte(usize::from(offset))
    }

    fn byte(&self, offset: usize) -> Byte {
        self.bytes.get(offset).copied().unwrap_or(Byte::Hidden)
    }

    /// The owners of the bytes of an access, and how many there are. Wider accesses than four bytes are cut.
    fn owners(&self, offset: u16, size: AccessSize) -> ([Byte; 4], usize) {
        let mut owners = [Byte::Hidden; 4];
        let length = size.bytes().min(4);
        for (at, owner) in (usize::from(offset)..).zip(owners.iter_mut().take(length)) {
            *owner = self.byte(at);
        }
        (owners, length)
    }

    /// The register at `offset`.
    pub(super) fn read(&self, offset: u16, size: AccessSize, hardware: &impl HardwareConfig) -> u32 {
        let (owners, length) = self.owners(offset, size);
        let from_device = |owner: &Byte| matches!(owner, Byte::Passthrough | Byte::Masked(_));
        let real = if owners.iter().any(from_device) { hardware.read(offset, size) } else { 0 };
        let own = self.space.read(offset, size).to_le_bytes();
        let mut value = [0; 4];
        for (byte, ((owner, own), real)) in
            value.iter_mut().take(length).zip(owners.iter().zip(own).zip(real.to_le_bytes()))
        {
            *byte = match owner {
                Byte::Emulated => own,
                Byte::Passthrough | Byte::Masked(_) => real,
                Byte::Hidden => 0,
            };
        }
        u32::from_le_bytes(value)
    }

    /// A guest's write. Returns the effects on the BARs and what else the function has to look after.
    pub(super) fn write(
        &mut self,
        offset: u16,
        size: AccessSize,
        value: u32,
        hardware: &impl HardwareConfig,
    ) -> (Effects, Touched) {
        self.forward(offset, size, value, hardware);
        let (command, power_state) = (self.space.command(), self.power_state());
        let mut effects = self.space.write(offset, size, value);
        if let Some(place) = self.places.power
            && !matches!(self.power_state(), 0 | 3)
        {
            // PCI PM 1.2, 3.2.4: a write of a state that the function does not support changes nothing.
            let control = power::NO_SOFT_RESET | power_state;
            self.space.set(place + power::CONTROL, &control.to_le_bytes());
        }
        let woken = power_state != self.power_state();
        if woken {
            effects |= Effects::REMAP_BARS;
        }
        let touched = Touched {
            command: woken || command != self.space.command(),
            msi: self.places.msi.is_some_and(|(place, control)| {
                touches(offset, size, place, crate::spec::pci::msi::Layout::new(control).length)
            }),
            msix: self
                .places
                .msix
                .is_some_and(|facts| touches(offset, size, facts.offset + msix::CONTROL, 2)),
            reset: self.asks_for_reset(offset, size, value),
        };
        (effects, touched)
    }

    /// Gives the device its part of a write: in one piece if all of it is the device's, else byte by byte.
    fn forward(&self, offset: u16, size: AccessSize, value: u32, hardware: &impl HardwareConfig) {
        let (owners, length) = self.owners(offset, size);
        let mut data = value.to_le_bytes();
        let mut whole = true;
        for (byte, owner) in data.iter_mut().zip(owners).take(length) {
            match owner {
                Byte::Passthrough => {}
                Byte::Masked(writable) => *byte &= writable,
                Byte::Emulated | Byte::Hidden => whole = false,
            }
        }
        if whole && length == size.bytes() {
            hardware.write(offset, size, u32::from_le_bytes(data));
            return;
        }
        for (i, (byte, owner)) in (0u16..).zip(data.into_iter().zip(owners)).take(length) {
            if matches!(owner, Byte::Passthrough | Byte::Masked(_)) {
                hardware.write(offset.saturating_add(i), AccessSize::Byte, u32::from(byte));
            }
        }
    }

    fn asks_for_reset(&self, offset: u16, size: AccessSize, value: u32) -> bool {
        let written = |register: u16, bit: u8| {
            let at = register.checked_sub(offset).map(usize::from);
            let bytes = value.to_le_bytes();
            let data = bytes.get(..size.bytes().min(4)).unwrap_or_default();
            at.and_then(|at| data.get(at)).is_some_and(|byte| byte & bit != 0)
        };
        let [_, express_bit] = express::INITIATE_FLR.to_le_bytes();
        self.places.express_flr.is_some_and(|place| written(place + express::DEVICE_CONTROL + 1, express_bit))
            || self.places.advanced_flr.is_some_and(|place| {
                written(place + advanced_features::CONTROL, advanced_features::INITIATE_FLR)
            })
    }

    /// PowerState field: 0 is D0, 3 is D3hot.
    fn power_state(&self) -> u16 {
        let control =
            self.places.power.map_or(0, |place| self.space.read(place + power::CONTROL, AccessSize::Byte));
        u16::from(control.to_le_bytes()[0]) & power::STATE_MASK
    }

    /// Whether the function is in D0, where it decodes, masters the bus and interrupts.
    pub(super) fn awake(&self) -> bool {
        self.power_state() == 0
    }

    /// The spaces that the function decodes at this moment.
    pub(super) fn decode(&self) -> Command {
        if self.awake() { self.space.decode() } else { Command::empty() }
    }

    /// What the device's own command register should hold. Decoding is always on: the device's BARs lie at addresses of
    /// the host, where only this process reaches them, and the guest's decode bits say what is mapped into the guest. So
    /// no vCPU can ever touch a BAR that the device does not answer (CVE-2020-12888).
    pub(super) fn hardware_command(&self) -> Command {
        let mut command = self.space.command() | Command::IO | Command::MEMORY;
        if !self.awake() {
            command.remove(Command::BUS_MASTER);
        }
        command
    }

    /// The MSI-X control register.
    pub(super) fn msix_control(&self) -> u16 {
        let place = self.places.msix.map_or(0, |facts| facts.offset + msix::CONTROL);
        let [low, high, ..] = self.space.read(place, AccessSize::Word).to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    /// Brings the pending bits of `msi` into view.
    pub(super) fn refresh_msi(&mut self, msi: &Msi) {
        if let Some((offset, _)) = self.places.msi {
            msi.refresh_pending(&mut self.space, offset);
        }
    }

    /// Takes over the registers of a capability that another part of the function emulates.
    pub(super) fn define_capability(&mut self, offset: u16, capability: &Capability) {
        self.space.define(offset + 2, &capability.body);
        self.space.set_writable(offset + 2, &capability.writable);
    }

    /// Takes INTx away: it cannot be delivered.
    pub(super) fn drop_intx(&mut self) {
        self.space.define(header::INTERRUPT_PIN, &[0]);
    }

    /// Whether the function has an INTx pin.
    pub(super) fn has_intx(&self) -> bool {
        self.space.read(header::INTERRUPT_PIN, AccessSize::Byte) != 0
    }

    /// Our registers as after power-on. The device is reset by its owner.
    pub(super) fn reset(&mut self) {
        self.space.reset();
    }
}
