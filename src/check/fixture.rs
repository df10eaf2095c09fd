//! Hosts on which checks are tried: a healthy one, on which nothing warns or fails, and changes to it.

pub(super) use crate::host::source::fake::Entry;
pub(super) use crate::host::source::fake::FakeHost;

use super::{cpu, firmware, groups, interrupts, iommu, kernel, kvm, memory, pci, performance, sriov, vfio};

/// The function that checks of functions are asked about: an ordinary endpoint behind a root port.
pub(super) const SUBJECT: &str = "0000:01:00.0";

/// How one check is brought to each of its answers. Each change starts from [`healthy`].
pub(super) struct Fixture {
    /// [`super::Check::id`].
    pub(super) id: &'static str,
    /// Makes it pass; nothing, where the healthy host does.
    pub(super) pass: fn(&FakeHost),
    /// Makes it warn or fail.
    pub(super) fail: fn(&FakeHost),
    /// Makes it unknown.
    pub(super) unknown: fn(&FakeHost),
}

/// No change.
pub(super) fn nothing(_: &FakeHost) {}

/// A server with Intel VT-x and VT-d in use, a NIC with SR-IOV at [`SUBJECT`], booted by UEFI. Each file of checks adds
/// what its own need.
pub(super) fn healthy() -> FakeHost {
    let host = FakeHost::new(&[]);
    for add in [
        cpu::tests::healthy,
        firmware::tests::healthy,
        kvm::tests::healthy,
        iommu::tests::healthy,
        groups::tests::healthy,
        pci::tests::healthy,
        sriov::tests::healthy,
        vfio::tests::healthy,
        kernel::tests::healthy,
        memory::tests::healthy,
        interrupts::tests::healthy,
        performance::tests::healthy,
    ] {
        add(&host);
    }
    host
}

/// Every file's fixtures.
pub(super) fn all() -> impl Iterator<Item = &'static Fixture> {
    [
        cpu::tests::FIXTURES,
        firmware::tests::FIXTURES,
        kvm::tests::FIXTURES,
        iommu::tests::FIXTURES,
        groups::tests::FIXTURES,
        pci::tests::FIXTURES,
        sriov::tests::FIXTURES,
        vfio::tests::FIXTURES,
        kernel::tests::FIXTURES,
        memory::tests::FIXTURES,
        interrupts::tests::FIXTURES,
        performance::tests::FIXTURES,
    ]
    .into_iter()
    .flatten()
}
