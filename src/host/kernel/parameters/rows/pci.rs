//! Parameters about PCI.
//!
//! Linux: drivers/pci/pci.c (`pci_setup`), arch/x86/pci/common.c (`pcibios_setup`), drivers/pci/pcie/.

use crate::host::kernel::parameters::known::{Known, Need, Subject, Takes, Word, row, word};

const PCI: &[Word] = &[
    word("nomsi", "no message interrupts: devices fall back to shared lines, virtual functions do not work"),
    word("noats", "devices do not cache translations of the IOMMU"),
    word("noaer", "errors of PCIe are not reported"),
    word("noari", "no function numbers above 7: fewer virtual functions"),
    word("nommconf", "no extended configuration space: no ACS, no SR-IOV"),
    word("realloc", "BARs that firmware left without room are placed anew").opposite("realloc=off"),
    word("realloc=on", "BARs that firmware left without room are placed anew").opposite("realloc=off"),
    word("realloc=off", "BARs stay where firmware placed them").opposite("realloc"),
    word("assign-busses", "bus numbers are given anew, which can make room for virtual functions"),
    word("config_acs=", "sets bits of access control services, which decide about IOMMU groups").since(6, 11),
    word("disable_acs_redir=", "devices may talk to each other past the IOMMU; their groups grow")
        .since(4, 19),
    word("resource_alignment=", "aligns BARs of functions"),
    word("nocrs", "firmware's windows for PCI are not heeded").opposite("use_crs"),
    word("use_crs", "firmware's windows for PCI are heeded").opposite("nocrs"),
    word("no_e820", "firmware's map of memory does not limit BARs").opposite("use_e820"),
    word("use_e820", "firmware's map of memory limits BARs").opposite("no_e820"),
    word("big_root_window", "makes a large 64-bit window on AMD processors"),
    word("noacpi", "interrupts are not routed by ACPI"),
    word("routeirq", "interrupts of all devices are routed at boot"),
    word("nodomains", "all buses are in domain 0"),
    word("pcie_bus_tune_off", "packet sizes stay as firmware set them"),
    word("pcie_bus_safe", "the largest packets that all devices can take"),
    word("pcie_bus_perf", "the largest packets for each device"),
    word("pcie_bus_peer2peer", "packets of 128 bytes, which every device can take"),
    word("pcie_scan_all", "all 32 devices of a link are looked for"),
    word("notph", "no hints for caches with packets").since(6, 13),
    word("hpiosize=", "I/O ports behind hot-plug ports"),
    word("hpmmiosize=", "memory behind hot-plug ports"),
    word("hpmmioprefsize=", "prefetchable memory behind hot-plug ports"),
    word("hpmemsize=", "memory behind hot-plug ports"),
    word("hpbussize=", "bus numbers behind hot-plug ports"),
    word("cbiosize=", "I/O ports behind CardBus bridges"),
    word("cbmemsize=", "memory behind CardBus bridges"),
    word("ecrc=", "end-to-end checksums of packets"),
    word("earlydump", "the configuration of all functions goes into the kernel's log"),
    word("off", "PCI is not looked at"),
    word("conf1", "configuration by ports, method 1"),
    word("conf2", "configuration by ports, method 2"),
    word("bios", "configuration by the BIOS (32 bits only)").opposite("nobios"),
    word("nobios", "configuration without the BIOS").opposite("bios"),
    word("noearly", "no quirks before memory is set up"),
    word("check_enable_amd_mmconf", "extended configuration space is switched on on old AMD processors"),
    word("nobar", "BARs without room stay so"),
    word("norom", "expansion ROMs get no room").opposite("rom"),
    word("rom", "expansion ROMs get room").opposite("norom"),
    word("skip_isa_align", "I/O ports of old ISA cards are not kept free"),
    word("biosirq", "interrupts are routed by the BIOS (32 bits only)"),
    word("usepirqmask", "the BIOS's list of interrupts is heeded"),
    word("irqmask=", "interrupts that may be given to devices"),
    word("lastbus=", "buses that are looked for"),
    word("bfsort", "network cards are numbered breadth first").opposite("nobfsort"),
    word("nobfsort", "network cards are numbered depth first").opposite("bfsort"),
    word("ioapicreroute", "interrupts of the boot are routed anew"),
    word("noioapicreroute", "interrupts of the boot are not routed anew"),
    word("noioapicquirk", "no quirks for interrupts of the boot"),
];

/// About PCI.
pub(super) const ROWS: &[Known] = &[
    row("pci", Subject::Pci, Takes::Words(PCI), "PCI"),
    row(
        "pcie_acs_override",
        Subject::Pci,
        Takes::Words(&[
            word("downstream", "ports without ACS count as isolated"),
            word("multifunction", "functions of one device count as isolated"),
            word("id:", "these functions count as isolated"),
        ]),
        "functions count as isolated that are not",
    )
    .needs(&[Need::AcsPatch]),
    row(
        "pcie_aspm",
        Subject::Pci,
        Takes::Words(&[
            word("off", "the kernel leaves power saving of links as firmware set it").opposite("force"),
            word("force", "links save power even where firmware says that they must not").opposite("off"),
        ]),
        "power saving of links",
    ),
    row(
        "pcie_aspm.policy",
        Subject::Pci,
        Takes::Words(&[
            word("default", "links save power as firmware set it"),
            word("performance", "links do not save power"),
            word("powersave", "links save power"),
            word("powersupersave", "links save as much power as they can"),
        ]),
        "power saving of links",
    ),
    row(
        "pcie_ports",
        Subject::Pci,
        Takes::Words(&[
            word("compat", "ports have no services: no error reports, no hot plug"),
            word("native", "the kernel runs ports even where firmware keeps them"),
            word("dpc-native", "the kernel contains errors even where firmware keeps the ports"),
            word("auto", "firmware is asked who runs the ports"),
        ]),
        "services of PCIe ports",
    ),
    row(
        "pcie_port_pm",
        Subject::Pci,
        Takes::Words(&[
            word("off", "ports stay powered").opposite("force"),
            word("force", "all ports may lose power").opposite("off"),
        ]),
        "power of PCIe ports",
    ),
    row(
        "pcie_pme",
        Subject::Pci,
        Takes::Words(&[word("nomsi", "wake-up of ports without message interrupts")]),
        "wake-up",
    ),
    row(
        "pcie_hp",
        Subject::Pci,
        Takes::Words(&[word("nomsi", "hot plug without message interrupts")]),
        "hot plug",
    ),
];
