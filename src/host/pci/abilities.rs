//! What a function can do and what of it is switched on, from the registers of its capabilities.
//!
//! PCIe 6.0, 7.5.3 (link, FLR), 7.7.1 and 7.7.2 (MSI, MSI-X), 7.8.4 (AER), 7.8.6 (resizable BAR), 7.8.9 (PASID), 10.5
//! (ATS, PRI). The bytes are those from which [`super::config`] takes its lists: no file is read here. Without privilege
//! the lists are unread, and so is all of this.

use serde::Serialize;

use super::config::{Capability, ExtendedCapability};
use crate::host::fact::Fact;
use crate::spec::pci::walk::{read_u16, read_u32};
use crate::spec::pci::{CapabilityId, msi, msix};
use crate::spec::pcie::{
    self, ExtendedCapabilityId, LinkSpeed, advanced_features, ats, express, pasid, power, pri, resizable_bar,
};

/// Abilities of one function. What it has no capability for is absent.
#[derive(Debug, Clone, Serialize)]
pub struct Abilities {
    /// The link above the function, or below it if it is a port.
    pub link: Fact<Link>,
    /// Whether it can be reset alone by its own registers: Function Level Reset of PCI Express or of conventional PCI.
    /// The kernel may know better than to use it; see `reset_methods`.
    pub function_level_reset: Fact<bool>,
    /// Whether it keeps its state on the way from D3hot to D0, so that this is no reset.
    pub no_soft_reset: Fact<bool>,
    /// Message Signalled Interrupts.
    pub msi: Fact<Vectors>,
    /// MSI-X.
    pub msi_x: Fact<Vectors>,
    /// Address Translation Services: the function keeps translations of the IOMMU.
    pub ats: Fact<Switch>,
    /// Page Request Interface: the function may ask for pages that are not there.
    pub pri: Fact<Switch>,
    /// Process Address Space IDs: the function has several address spaces.
    pub pasid: Fact<Pasid>,
    /// Advanced Error Reporting.
    pub aer: Fact<Aer>,
    /// BARs whose size can be chosen.
    pub resizable_bars: Fact<Vec<ResizableBar>>,
}

/// A link: what it runs at and what this end of it can.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Link {
    /// Speed in GT/s now; absent if the register holds no speed that is defined. It may fall while the link is idle.
    pub speed_gt_per_s: Option<f64>,
    /// Lanes in use; 0 if nothing is connected.
    pub width_lanes: u8,
    /// Highest speed in GT/s.
    pub max_speed_gt_per_s: Option<f64>,
    /// Most lanes.
    pub max_width_lanes: u8,
}

/// Interrupt vectors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vectors {
    /// How many the function can use.
    pub vectors: u16,
    /// Whether it uses them now.
    pub enabled: bool,
}

/// Something that is on or off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Switch {
    /// Whether it is on.
    pub enabled: bool,
}

/// Process Address Space IDs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pasid {
    /// Whether it is on.
    pub enabled: bool,
    /// Bits of an ID that the function has.
    pub max_width_bits: u8,
}

/// Advanced Error Reporting. The kernel clears errors when it has told of them in its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Aer {
    /// Uncorrectable Error Status.
    pub uncorrectable_status: u32,
    /// Correctable Error Status.
    pub correctable_status: u32,
}

/// A BAR whose size can be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResizableBar {
    /// Its index.
    pub index: u8,
    /// Its size now.
    pub size_bytes: u64,
    /// The sizes that it can have, from small to large.
    pub sizes_bytes: Vec<u64>,
}

/// The bytes and lists of one configuration space, and the file that they are from.
pub(super) struct Registers<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) conventional: &'a Fact<Vec<Capability>>,
    pub(super) extended: &'a Fact<Vec<ExtendedCapability>>,
    pub(super) source: &'a str,
}

impl Registers<'_> {
    /// What `read` makes of the registers at the offset of capability `id`; absent if the function does not have it.
    fn capability<T>(&self, id: CapabilityId, read: impl FnOnce(&[u8], u16) -> Option<T>) -> Fact<T> {
        self.conventional.as_ref().and_then(|list| {
            let offset = list.iter().find(|capability| capability.id == id).map(|found| found.offset);
            self.at(offset, read)
        })
    }

    /// The same for an extended capability.
    fn extended<T>(&self, id: ExtendedCapabilityId, read: impl FnOnce(&[u8], u16) -> Option<T>) -> Fact<T> {
        self.extended.as_ref().and_then(|list| {
            let offset = list.iter().find(|capability| capability.id == id.0).map(|found| found.offset);
            self.at(offset, read)
        })
    }

    fn at<T>(&self, offset: Option<u16>, read: impl FnOnce(&[u8], u16) -> Option<T>) -> Fact<T> {
        let Some(offset) = offset else { return Fact::NotPresent };
        read(self.bytes, offset).map_or_else(
            || Fact::Unreadable {
                source: self.source.to_owned(),
                reason: format!("the capability at {offset:#x} goes beyond the bytes that could be read"),
            },
            Fact::Known,
        )
    }
}

impl Abilities {
    /// Decodes the registers.
    pub(super) fn read(registers: &Registers<'_>) -> Self {
        Self {
            link: registers.capability(CapabilityId::EXPRESS, link).and_then(|link| match link {
                Some(link) => Fact::Known(link),
                None => Fact::NotPresent,
            }),
            function_level_reset: function_level_reset(registers),
            no_soft_reset: registers.capability(CapabilityId::POWER_MANAGEMENT, |bytes, at| {
                Some(read_u16(bytes, at + power::CONTROL)? & power::NO_SOFT_RESET != 0)
            }),
            msi: registers.capability(CapabilityId::MSI, |bytes, at| {
                let control = read_u16(bytes, at + msi::CONTROL)?;
                let power_of_two = control >> msi::control::CAPABLE_SHIFT & msi::control::VECTORS_MASK;
                Some(Vectors { vectors: 1 << power_of_two, enabled: control & msi::control::ENABLE != 0 })
            }),
            msi_x: registers.capability(CapabilityId::MSI_X, |bytes, at| {
                let control = read_u16(bytes, at + msix::CONTROL)?;
                let vectors = (control & msix::control::SIZE_MASK) + 1;
                Some(Vectors { vectors, enabled: control & msix::control::ENABLE != 0 })
            }),
            ats: registers.extended(ExtendedCapabilityId::ATS, |bytes, at| {
                Some(Switch { enabled: read_u16(bytes, at + ats::CONTROL)? & ats::ENABLE != 0 })
            }),
            pri: registers.extended(ExtendedCapabilityId::PRI, |bytes, at| {
                Some(Switch { enabled: read_u16(bytes, at + pri::CONTROL)? & pri::ENABLE != 0 })
            }),
            pasid: registers.extended(ExtendedCapabilityId::PASID, |bytes, at| {
                let [_, width] = read_u16(bytes, at + pasid::CAPABILITIES)?.to_le_bytes();
                Some(Pasid {
                    enabled: read_u16(bytes, at + pasid::CONTROL)? & pasid::ENABLE != 0,
                    max_width_bits: width & pasid::MAX_WIDTH_MASK,
                })
            }),
            aer: registers.extended(ExtendedCapabilityId::AER, |bytes, at| {
                Some(Aer {
                    uncorrectable_status: read_u32(bytes, at + pcie::aer::UNCORRECTABLE_STATUS)?,
                    correctable_status: read_u32(bytes, at + pcie::aer::CORRECTABLE_STATUS)?,
                })
            }),
            resizable_bars: registers.extended(ExtendedCapabilityId::RESIZABLE_BAR, resizable_bars),
        }
    }
}

/// The outer option is for bytes that are not there, the inner one for a function that has no link.
#[expect(clippy::option_option, reason = "cut off and absent are two answers")]
fn link(bytes: &[u8], at: u16) -> Option<Option<Link>> {
    let kind = read_u16(bytes, at + express::CAPABILITIES)? & express::TYPE_MASK;
    if matches!(kind, express::TYPE_ROOT_COMPLEX_ENDPOINT | express::TYPE_EVENT_COLLECTOR) {
        return Some(None); // their Link registers are reserved or not there (PCIe 6.0, 7.5.3.6)
    }
    let (can, now) = (read_u32(bytes, at + express::LINK)?, read_u16(bytes, at + pcie::link::STATUS)?);
    let max_width_lanes = pcie::link::width_lanes(can);
    let link = Link {
        speed_gt_per_s: LinkSpeed::of(now.into()).gt_per_s(),
        width_lanes: pcie::link::width_lanes(now.into()),
        max_speed_gt_per_s: LinkSpeed::of(can).gt_per_s(),
        max_width_lanes,
    };
    Some((max_width_lanes != 0).then_some(link))
}

fn function_level_reset(registers: &Registers<'_>) -> Fact<bool> {
    let express = registers.capability(CapabilityId::EXPRESS, |bytes, at| {
        Some(read_u32(bytes, at + express::DEVICE_CAPABILITIES)? & express::FLR_CAPABLE != 0)
    });
    if !matches!(express, Fact::Known(false) | Fact::NotPresent) {
        return express;
    }
    match registers.capability(CapabilityId::ADVANCED_FEATURES, |bytes, at| {
        let [_, can] = read_u16(bytes, at + advanced_features::CAPABILITIES - 1)?.to_le_bytes();
        Some(can & advanced_features::FLR_CAPABLE != 0)
    }) {
        Fact::NotPresent => Fact::Known(false),
        conventional => conventional,
    }
}

fn resizable_bars(bytes: &[u8], at: u16) -> Option<Vec<ResizableBar>> {
    let register = |offset: u16| read_u32(bytes, at + offset);
    let count = resizable_bar::count(register(resizable_bar::FIRST_CONTROL)?);
    (0..u16::from(count))
        .map(|number| {
            let can = register(resizable_bar::FIRST_CAPABILITY + number * resizable_bar::STRIDE)?;
            let control = register(resizable_bar::FIRST_CONTROL + number * resizable_bar::STRIDE)?;
            Some(ResizableBar {
                index: resizable_bar::bar_index(control),
                size_bytes: resizable_bar::size_bytes(control),
                sizes_bytes: resizable_bar::sizes_bytes(can, control).collect(),
            })
        })
        .collect()
}
