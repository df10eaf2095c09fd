//! Parameters of VFIO and KVM: options of their modules.
//!
//! Linux: drivers/vfio/pci/vfio_pci.c, drivers/vfio/vfio_iommu_type1.c, virt/kvm/kvm_main.c, arch/x86/kvm/.

use crate::host::kernel::parameters::known::{Known, Need, Subject, Takes, row};

const IDS: &str = "functions with these vendor and device IDs go to the driver when its module comes first";

/// About VFIO.
pub(super) const OF_VFIO: &[Known] = &[
    row("vfio-pci.ids", Subject::Vfio, Takes::Text, IDS).needs(&[Need::Module("vfio_pci")]),
    row(
        "vfio-pci.disable_vga",
        Subject::Vfio,
        Takes::Switch,
        "guests do not get the VGA ranges of a display adapter",
    )
    .needs(&[Need::Module("vfio_pci"), Need::Option("VFIO_PCI_VGA")]),
    row(
        "vfio-pci.disable_idle_d3",
        Subject::Vfio,
        Takes::Switch,
        "functions that nobody uses stay fully powered",
    )
    .needs(&[Need::Module("vfio_pci")]),
    row(
        "vfio-pci.nointxmask",
        Subject::Vfio,
        Takes::Switch,
        "INTx is masked at the interrupt controller, not shared",
    )
    .needs(&[Need::Module("vfio_pci")]),
    row(
        "vfio-pci.enable_sriov",
        Subject::Vfio,
        Takes::Switch,
        "a physical function at VFIO may have virtual ones",
    )
    .needs(&[Need::Module("vfio_pci")]),
    row(
        "vfio-pci.disable_denylist",
        Subject::Vfio,
        Takes::Switch,
        "functions that are known to harm the host are allowed",
    )
    .needs(&[Need::Module("vfio_pci"), Need::Since(5, 9)]),
    row(
        "vfio.enable_unsafe_noiommu_mode",
        Subject::Vfio,
        Takes::Switch,
        "functions are handed out without an IOMMU",
    )
    .needs(&[Need::Module("vfio"), Need::Option("VFIO_NOIOMMU")]),
    row(
        "vfio_iommu_type1.allow_unsafe_interrupts",
        Subject::Vfio,
        Takes::Switch,
        "VFIO does without remapped interrupts",
    )
    .needs(&[Need::Module("vfio_iommu_type1")]),
    row(
        "vfio_iommu_type1.disable_hugepages",
        Subject::Vfio,
        Takes::Switch,
        "no large pages in guests' mappings",
    )
    .needs(&[Need::Module("vfio_iommu_type1")]),
    row("vfio_iommu_type1.dma_entry_limit", Subject::Vfio, Takes::Number, "most mappings of one guest")
        .needs(&[Need::Module("vfio_iommu_type1")]),
    row(
        "iommufd.allow_unsafe_interrupts",
        Subject::Vfio,
        Takes::Switch,
        "iommufd does without remapped interrupts",
    )
    .needs(&[Need::Module("iommufd")]),
    row("pci-stub.ids", Subject::Vfio, Takes::Text, IDS).needs(&[Need::Module("pci_stub")]),
    row("xen-pciback.hide", Subject::Vfio, Takes::Text, "functions that Xen's first domain leaves to guests"),
];

/// About KVM.
pub(super) const OF_KVM: &[Known] = &[
    row(
        "kvm.ignore_msrs",
        Subject::Kvm,
        Takes::Switch,
        "a guest's access to a register that KVM lacks is no fault",
    ),
    row("kvm.report_ignored_msrs", Subject::Kvm, Takes::Switch, "such an access goes into the kernel's log"),
    row("kvm.halt_poll_ns", Subject::Kvm, Takes::Number, "how long an idle virtual processor is polled"),
    row(
        "kvm.nx_huge_pages",
        Subject::Kvm,
        Takes::Text,
        "large pages of guests are split where they hold code",
    ),
    row("kvm.tdp_mmu", Subject::Kvm, Takes::Switch, "the faster page tables for guests"),
    row("kvm.enable_vmware_backdoor", Subject::Kvm, Takes::Switch, "guests may use VMware's I/O port"),
    row("kvm.min_timer_period_us", Subject::Kvm, Takes::Number, "the shortest period of a guest's timer"),
    row("kvm.lapic_timer_advance", Subject::Kvm, Takes::Switch, "timers of guests fire early, to be in time"),
    row(
        "kvm.enable_virt_at_load",
        Subject::Kvm,
        Takes::Switch,
        "the extension is switched on with the module",
    )
    .needs(&[Need::Since(6, 12)]),
    row("kvm_intel.nested", Subject::Kvm, Takes::Switch, "guests may run guests").needs(&[Need::VtX]),
    row("kvm_intel.ept", Subject::Kvm, Takes::Switch, "the processor translates guests' addresses")
        .needs(&[Need::VtX]),
    row("kvm_intel.vpid", Subject::Kvm, Takes::Switch, "TLB entries of guests have tags").needs(&[Need::VtX]),
    row("kvm_intel.unrestricted_guest", Subject::Kvm, Takes::Switch, "real mode of guests in hardware")
        .needs(&[Need::VtX]),
    row("kvm_intel.enable_apicv", Subject::Kvm, Takes::Switch, "interrupt controllers of guests in hardware")
        .needs(&[Need::VtX]),
    row("kvm_intel.preemption_timer", Subject::Kvm, Takes::Switch, "timers of guests in hardware")
        .needs(&[Need::VtX]),
    row("kvm_intel.pml", Subject::Kvm, Takes::Switch, "written pages are logged in hardware")
        .needs(&[Need::VtX]),
    row("kvm_intel.vmentry_l1d_flush", Subject::Kvm, Takes::Text, "when the L1 cache is flushed for guests")
        .needs(&[Need::VtX]),
    row(
        "kvm_intel.emulate_invalid_guest_state",
        Subject::Kvm,
        Takes::Switch,
        "odd states of guests are interpreted",
    )
    .needs(&[Need::VtX]),
    row("kvm_intel.flexpriority", Subject::Kvm, Takes::Switch, "task priorities of guests in hardware")
        .needs(&[Need::VtX]),
    row("kvm_amd.nested", Subject::Kvm, Takes::Switch, "guests may run guests").needs(&[Need::AmdV]),
    row("kvm_amd.npt", Subject::Kvm, Takes::Switch, "the processor translates guests' addresses")
        .needs(&[Need::AmdV]),
    row("kvm_amd.avic", Subject::Kvm, Takes::Switch, "interrupt controllers of guests in hardware")
        .needs(&[Need::AmdV]),
    row("kvm_amd.force_avic", Subject::Kvm, Takes::Switch, "the same, where firmware does not name it")
        .needs(&[Need::AmdV]),
    row("kvm_amd.vgif", Subject::Kvm, Takes::Switch, "global interrupt flags of guests in hardware")
        .needs(&[Need::AmdV]),
    row("kvm_amd.vls", Subject::Kvm, Takes::Switch, "loading and saving of nested guests in hardware")
        .needs(&[Need::AmdV]),
    row("kvm_amd.sev", Subject::Kvm, Takes::Switch, "encrypted guests").needs(&[Need::AmdV]),
    row("kvm_amd.sev_es", Subject::Kvm, Takes::Switch, "guests with encrypted registers")
        .needs(&[Need::AmdV]),
    row("kvm_amd.sev_snp", Subject::Kvm, Takes::Switch, "encrypted guests with protected pages")
        .needs(&[Need::AmdV]),
];
