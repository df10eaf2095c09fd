//! SR-IOV of a physical function: how many virtual functions it may have, has, where they are and how they are set up.

mod fit;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

use super::pci::{Attributes, Pci};
use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::source::{Source, VfLink};
use crate::spec::pci::{PciAddress, walk};
use crate::spec::pcie::ExtendedCapabilityId;
use crate::spec::sriov::{self, Registers};

pub(super) use fit::add as add_fits;
pub use fit::{AriFit, BusNumbers, Fit, Memory, VfBar};

/// State of a physical function's SR-IOV capability (Linux: Documentation/ABI/testing/sysfs-bus-pci).
#[derive(Debug, Clone, Serialize)]
pub struct Sriov {
    /// Most virtual functions that the driver offers.
    pub total_vfs: Fact<u16>,
    /// Virtual functions that exist now.
    pub num_vfs: Fact<u16>,
    /// Whether the kernel probes drivers for new virtual functions.
    pub drivers_autoprobe: Fact<bool>,
    /// Device ID of the virtual functions.
    pub vf_device_id: Fact<u16>,
    /// Distance from the physical function's requester ID to that of the first virtual function.
    pub offset: Fact<u16>,
    /// Distance between the requester IDs of two virtual functions.
    pub stride: Fact<u16>,
    /// What the extended capability itself says.
    pub capability: Fact<Capability>,
    /// Whether all of them would fit.
    pub fit: Fit,
    /// The virtual functions that exist, by index.
    pub vfs: Vec<VirtualFunction>,
}

/// The SR-IOV extended capability (PCIe 6.0, 9.3.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// Most virtual functions that the device offers; the driver may offer fewer.
    pub total_vfs: u16,
    /// Virtual functions that are there at first.
    pub initial_vfs: u16,
    /// Virtual functions that are enabled, or would be.
    pub num_vfs: u16,
    /// Whether they are enabled.
    pub enabled: bool,
    /// Whether they answer memory accesses.
    pub memory_enabled: bool,
    /// Whether function numbers above 7 are in use (ARI).
    pub ari_hierarchy: bool,
    /// Page sizes to which their BARs can be aligned.
    pub page_sizes_bytes: Vec<u64>,
    /// The page size that is chosen.
    pub page_size_bytes: Option<u64>,
    /// Which VF BARs there are, by index, as far as their registers say.
    pub vf_bars: Vec<u8>,
}

/// A virtual function that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VirtualFunction {
    /// Index, from 0.
    pub index: u16,
    /// Its address.
    pub address: Fact<PciAddress>,
    /// How the physical function's driver set it up; absent where that has no network interface.
    pub link: Fact<VfLink>,
}

/// Reads the state of `function`, if it is a physical function.
pub(super) fn collect(function: &Attributes<'_>, config: &Fact<Vec<u8>>) -> Option<Sriov> {
    function.names.known()?;
    function.path("sriov_totalvfs")?;
    let decimal = |name| function.get(name, |source, path| parse::number(source, path, 10));
    Some(Sriov {
        total_vfs: decimal("sriov_totalvfs"),
        num_vfs: decimal("sriov_numvfs"),
        drivers_autoprobe: function.get("sriov_drivers_autoprobe", parse::flag),
        vf_device_id: function.hex("sriov_vf_device"),
        offset: decimal("sriov_offset"),
        stride: decimal("sriov_stride"),
        capability: config.as_ref().and_then(|config| capability(config, &function.place("config"))),
        fit: Fit::collect(function),
        vfs: virtual_functions(function),
    })
}

/// Reads the extended capability. Without privilege the kernel gives 64 bytes, in which it cannot be.
fn capability(config: &[u8], path: &str) -> Fact<Capability> {
    let walk = walk::extended_capabilities(config);
    let found = walk.found.iter().find(|found| found.id == ExtendedCapabilityId::SR_IOV.0);
    match found.and_then(|found| Registers::read(config, found.offset)) {
        Some(registers) => Fact::Known(Capability::from(registers)),
        None if config.len() <= usize::from(crate::spec::pci::CONFIG_SPACE_SIZE) => {
            Fact::Denied { source: path.to_owned() }
        }
        None => Fact::Unreadable {
            source: path.to_owned(),
            reason: "the SR-IOV capability is not where it should be".to_owned(),
        },
    }
}

impl From<Registers> for Capability {
    fn from(registers: Registers) -> Self {
        Self {
            total_vfs: registers.total_vfs,
            initial_vfs: registers.initial_vfs,
            num_vfs: registers.num_vfs,
            enabled: registers.enabled(),
            memory_enabled: registers.memory_enabled(),
            ari_hierarchy: registers.ari_hierarchy(),
            page_sizes_bytes: sriov::page_sizes_bytes(registers.supported_page_sizes).collect(),
            page_size_bytes: sriov::page_sizes_bytes(registers.system_page_size).next(),
            vf_bars: (0..6).filter(|index| registers.has_vf_bar(usize::from(*index))).collect(),
        }
    }
}

/// Asks the drivers of physical functions that have virtual ones and a network interface how these are set up; hosts
/// without such are not asked. Needs [`crate::host::usage`].
pub(super) fn add_links(source: &dyn Source, pci: &mut Pci) {
    let Fact::Known(devices) = &mut pci.devices else { return };
    let mut answer: Option<Fact<BTreeMap<String, Vec<VfLink>>>> = None;
    for device in devices {
        let Some(sriov) = device.sriov.as_mut().filter(|sriov| !sriov.vfs.is_empty()) else { continue };
        let Some(interface) = device.usage.interfaces.known().and_then(|interfaces| interfaces.first())
        else {
            continue;
        };
        let links = answer.get_or_insert_with(|| {
            source.vf_links().map(|links| links.into_iter().map(|link| (link.interface, link.vfs)).collect())
        });
        for vf in &mut sriov.vfs {
            vf.link = links.as_ref().and_then(|links| {
                let mut told = links.get(&interface.name).into_iter().flatten();
                told.find(|link| link.index == vf.index).cloned().map_or(Fact::NotPresent, Fact::Known)
            });
        }
    }
}

fn virtual_functions(function: &Attributes<'_>) -> Vec<VirtualFunction> {
    let names = function.names.known().map_or(&[][..], Vec::as_slice);
    let mut vfs: Vec<_> = names
        .iter()
        .filter_map(|name| {
            let index = name.strip_prefix("virtfn")?.parse().ok()?;
            let address = function.get(name, |source, path| {
                source.link_name(path).parse(path, |target| target.parse::<PciAddress>())
            });
            Some(VirtualFunction { index, address, link: Fact::NotPresent })
        })
        .collect();
    vfs.sort_unstable_by_key(|vf| vf.index);
    vfs
}
