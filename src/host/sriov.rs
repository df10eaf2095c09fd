//! SR-IOV of a physical function: how many virtual functions it may have, has, and where they are.

use serde::Serialize;

use super::pci::Attributes;
use crate::host::fact::Fact;
use crate::host::parse;
use crate::spec::pci::PciAddress;

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
    /// The virtual functions that exist, by index.
    pub vfs: Vec<VirtualFunction>,
}

/// A virtual function that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VirtualFunction {
    /// Index, from 0.
    pub index: u16,
    /// Its address.
    pub address: Fact<PciAddress>,
}

/// Reads the state of `function`, if it is a physical function.
pub(super) fn collect(function: &Attributes<'_>) -> Option<Sriov> {
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
        vfs: virtual_functions(function),
    })
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
            Some(VirtualFunction { index, address })
        })
        .collect();
    vfs.sort_unstable_by_key(|vf| vf.index);
    vfs
}
