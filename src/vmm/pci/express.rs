//! The PCI Express capability of functions of our own (PCIe 6.0, 7.5.3): what they are, and a link as fast as any.

use crate::spec::pci::CapabilityId;
use crate::spec::pcie::{express, link, slot};
use crate::vmm::pci::capability::Capability;
use crate::vmm::pci::hotplug::Power;

/// The capability of an endpoint of our own behind a port: on the same link, with no error to report.
#[must_use]
pub fn endpoint() -> Capability {
    let mut table = Structure::new(2 | express::TYPE_ENDPOINT, 0);
    table.put(express::DEVICE_CAPABILITIES, &express::ROLE_BASED_ERRORS.to_le_bytes());
    table.capability()
}

/// That of root port `number`, whose slot holds a device for good.
#[must_use]
pub fn port(number: u8) -> Capability {
    let mut table = Structure::port(number, 0);
    let status = Structure::LINK_STATUS | link::ACTIVE;
    table.put(link::STATUS, &status.to_le_bytes());
    table.put(express::SLOT_STATUS, &slot::PRESENT.to_le_bytes());
    table.capability()
}

/// That of root port `number`, whose slot is empty and can be filled and emptied at any time.
#[must_use]
pub fn hot_plug_port(number: u8, power: Power) -> Capability {
    let indicators = slot::HAS_ATTENTION_INDICATOR | slot::HAS_POWER_INDICATOR;
    let controls = slot::HAS_BUTTON | indicators | slot::ACTS_AT_ONCE;
    let (controller, switch) = match power {
        Power::Always => (0, 0),
        Power::Switched => (slot::HAS_POWER_CONTROLLER, slot::POWER_OFF),
    };
    let mut table = Structure::port(number, slot::HOT_PLUG | slot::SURPRISE | controls | controller);
    table.put(express::SLOT_CONTROL, &slot::INDICATORS_OFF.to_le_bytes());
    let events = slot::BUTTON | slot::PRESENCE_CHANGED | slot::LINK_CHANGED_ENABLE | slot::INTERRUPT;
    table.keep(express::SLOT_CONTROL, events | slot::INDICATORS | switch);
    table.capability()
}

/// A structure of version 2, on a link as fast as any: a virtual one has no speed.
struct Structure {
    body: Vec<u8>,
    writable: Vec<u8>,
}

impl Structure {
    const SPEED_16_GT: u16 = 4;
    const LINK_STATUS: u16 = Self::SPEED_16_GT | 16 << link::WIDTH_SHIFT | link::SLOT_CLOCK;

    /// `kind` is the capabilities register, `link_bits` stand beside speed and width.
    fn new(kind: u16, link_bits: u32) -> Self {
        let length = usize::from(express::SIZE_V2 - 2);
        let mut table = Self { body: vec![0; length], writable: vec![0; length] };
        table.put(express::CAPABILITIES, &kind.to_le_bytes());
        let speed_and_width = u32::from(Self::LINK_STATUS & !link::SLOT_CLOCK);
        table.put(express::LINK, &(speed_and_width | link_bits).to_le_bytes());
        table.put(link::STATUS, &Self::LINK_STATUS.to_le_bytes());
        // Speeds up to 16 GT/s, and the one that is wanted.
        table.put(express::LINK_2, &(0b1111u32 << 1).to_le_bytes());
        table.put(express::LINK_CONTROL_2, &Self::SPEED_16_GT.to_le_bytes());
        // Error reporting, payload and request sizes and their like are kept and mean nothing here.
        table.keep(express::DEVICE_CONTROL, 0x7FFF);
        table.keep(express::LINK_CONTROL, 0x00CB);
        table.keep(express::DEVICE_CONTROL_2, 0x001F);
        table.keep(express::LINK_CONTROL_2, 0x000F);
        table
    }

    fn port(number: u8, slot_bits: u32) -> Self {
        let kind = 2 | express::TYPE_ROOT_PORT | express::SLOT_IMPLEMENTED;
        let mut table =
            Self::new(kind, link::ACTIVE_REPORTING | u32::from(number) << link::PORT_NUMBER_SHIFT);
        table.put(express::DEVICE_CAPABILITIES, &express::ROLE_BASED_ERRORS.to_le_bytes());
        table.put(express::SLOT, &(u32::from(number) << slot::NUMBER_SHIFT | slot_bits).to_le_bytes());
        table.keep(express::ROOT_CONTROL, 0x000F);
        table
    }

    fn put(&mut self, offset: u16, data: &[u8]) {
        copy(&mut self.body, offset, data);
    }

    /// What is written to these bits stays.
    fn keep(&mut self, offset: u16, bits: u16) {
        copy(&mut self.writable, offset, &bits.to_le_bytes());
    }

    fn capability(self) -> Capability {
        Capability { id: CapabilityId::EXPRESS, body: self.body, writable: self.writable }
    }
}

/// `offset` counts from the start of the capability, whose first two bytes are not in the table.
fn copy(table: &mut [u8], offset: u16, data: &[u8]) {
    let start = usize::from(offset - 2);
    if let Some(cells) = table.get_mut(start..start + data.len()) {
        cells.copy_from_slice(data);
    }
}
