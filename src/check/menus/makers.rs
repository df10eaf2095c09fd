//! Menus by maker: a table, one row a setting. A maker with several lines of menus stands several times, the narrower
//! entry first.
//!
//! Confidence: high from a manual or several sources, medium from one, low where sources disagree or are weak.

use super::Cpu::{self, Amd, Intel};
use crate::check::remedy::Confidence::{self, High, Low, Medium};
use crate::host::firmware::Setting::{
    self, Above4g, Acs, Aer, Ari, InterruptRemapping, Iommu, KernelDmaProtection, ResizableBar, SecureBoot,
    Sriov, Virtualization, X2apic,
};

/// A line of menus.
#[derive(Debug)]
pub(super) struct Maker {
    /// Name for people.
    pub(super) name: &'static str,
    /// How the board's or the system's maker begins in DMI, in lower case.
    pub(super) vendors: &'static [&'static str],
    /// Words of which one stands in the name of product or board, in lower case; any name, where there are none.
    pub(super) models: &'static [&'static str],
    /// Types of enclosure (SMBIOS 3.7, 7.4.1); any, where there are none.
    pub(super) chassis: &'static [u8],
    /// The rows.
    pub(super) menus: &'static [Menu],
}

/// Where one setting stands.
#[derive(Debug)]
pub(super) struct Menu {
    /// The setting.
    pub(super) setting: Setting,
    /// With which processors; with all, where it is absent.
    pub(super) cpu: Option<Cpu>,
    /// The path, level by level.
    pub(super) path: &'static str,
    /// How sure it is.
    pub(super) confidence: Confidence,
}

const fn menu(setting: Setting, cpu: Option<Cpu>, path: &'static str, confidence: Confidence) -> Menu {
    Menu { setting, cpu, path, confidence }
}

/// Main server chassis, rack mount chassis, blade.
const SERVER_CHASSIS: &[u8] = &[0x11, 0x17, 0x1C];

/// Every line of menus that is known.
pub(super) const MAKERS: &[Maker] = &[
    Maker {
        name: "ASUS",
        vendors: &["asustek", "asus"],
        models: &[],
        chassis: &[],
        menus: &[
            menu(
                Virtualization,
                Some(Intel),
                "Advanced > CPU Configuration > Intel (VMX) Virtualization Technology",
                High,
            ),
            menu(Virtualization, Some(Amd), "Advanced > CPU Configuration > SVM Mode", High),
            menu(Iommu, Some(Intel), "Advanced > System Agent (SA) Configuration > VT-d", High),
            menu(
                Iommu,
                Some(Amd),
                "Advanced > AMD CBS > IOMMU, or Advanced > AMD CBS > NBIO Common Options > IOMMU",
                High,
            ),
            menu(Above4g, None, "Advanced > PCI Subsystem Settings > Above 4G Decoding", Medium),
            menu(ResizableBar, None, "Advanced > PCI Subsystem Settings > Re-Size BAR Support", Medium),
            menu(Sriov, None, "Advanced > PCI Subsystem Settings > SR-IOV Support", Low),
            menu(
                Acs,
                Some(Amd),
                "Advanced > AMD CBS > NBIO Common Options > ACS Enable (workstation boards)",
                Medium,
            ),
            menu(Aer, Some(Amd), "Advanced > AMD CBS > NBIO Common Options > Enable AER Cap", Low),
            menu(SecureBoot, None, "Boot > Secure Boot > OS Type: Other OS", Low),
        ],
    },
    Maker {
        name: "MSI industrial",
        vendors: &["micro-star", "msi"],
        models: &["ms-9"],
        chassis: &[],
        menus: &[
            menu(Iommu, Some(Intel), "Intel(R) VT for Directed I/O Configuration > VT-d", Medium),
            menu(
                InterruptRemapping,
                Some(Intel),
                "Intel(R) VT for Directed I/O Configuration > Interrupt Remapping",
                Medium,
            ),
        ],
    },
    Maker {
        name: "MSI",
        vendors: &["micro-star", "msi"],
        models: &[],
        chassis: &[],
        menus: &[
            menu(Virtualization, Some(Intel), "OC > CPU Features > Intel Virtualization Tech", High),
            menu(
                Virtualization,
                Some(Amd),
                "OC > Advanced CPU Configuration (older: CPU Features) > SVM Mode",
                High,
            ),
            menu(Iommu, Some(Intel), "OC > CPU Features > Intel VT-D Tech", Medium),
            menu(
                Iommu,
                Some(Amd),
                "Settings > Advanced > AMD CBS > NBIO Common Options > IOMMU, or OC > CPU Features > IOMMU",
                Low,
            ),
            menu(
                Above4g,
                None,
                "Settings > Advanced > PCIe/PCI Subsystem Settings > Above 4G memory/Crypto Currency mining",
                Medium,
            ),
            menu(
                ResizableBar,
                None,
                "Settings > Advanced > PCIe/PCI Subsystem Settings > Re-Size BAR Support",
                Medium,
            ),
            menu(Sriov, None, "Settings > Advanced > PCIe/PCI Subsystem Settings > SR-IOV Support", Low),
        ],
    },
    Maker {
        name: "Gigabyte",
        vendors: &["gigabyte"],
        models: &[],
        chassis: &[],
        menus: &[
            menu(
                Virtualization,
                Some(Intel),
                "Tweaker > Advanced CPU Settings > Intel Virtualization Technology",
                Medium,
            ),
            menu(
                Virtualization,
                Some(Amd),
                "Tweaker > Advanced CPU Settings > SVM Mode (older: M.I.T. > Advanced Frequency Settings > \
                 Advanced CPU Core Settings)",
                High,
            ),
            menu(Iommu, Some(Intel), "Settings > Miscellaneous > VT-d", High),
            menu(
                Iommu,
                Some(Amd),
                "Settings > Miscellaneous > IOMMU, or Settings > AMD CBS > NBIO Common Options > IOMMU",
                High,
            ),
            menu(Above4g, None, "Settings > IO Ports > Above 4G Decoding", High),
            menu(ResizableBar, None, "Settings > IO Ports > Re-Size BAR Support", High),
            menu(Sriov, None, "Settings > IO Ports > SR-IOV Support", Low),
            menu(
                Acs,
                Some(Amd),
                "Settings > AMD CBS > NBIO Common Options > ACS Enable (consumer boards hide it)",
                Low,
            ),
        ],
    },
    Maker {
        name: "ASRock",
        vendors: &["asrock"],
        models: &[],
        chassis: &[],
        menus: &[
            menu(
                Virtualization,
                Some(Intel),
                "Advanced > CPU Configuration > Intel Virtualization Technology",
                Medium,
            ),
            menu(Virtualization, Some(Amd), "Advanced > CPU Configuration > SVM Mode", High),
            menu(Iommu, Some(Intel), "Advanced > Chipset Configuration > VT-d", Medium),
            menu(Iommu, Some(Amd), "Advanced > AMD CBS > NBIO Common Options > IOMMU", High),
            menu(Above4g, None, "Advanced > Chipset Configuration > Above 4G Decoding", Medium),
            menu(ResizableBar, None, "Advanced > Chipset Configuration > Re-Size BAR Support", Medium),
            menu(Sriov, None, "Advanced > Chipset Configuration > SR-IOV Support", Low),
            menu(
                Acs,
                Some(Amd),
                "Advanced > AMD CBS > NBIO Common Options > ACS Enable (only in a BIOS that ASRock's support \
                 sends on request)",
                Medium,
            ),
            menu(Ari, None, "Advanced > Chipset Configuration > ARI Forwarding (ASRock Rack)", Low),
        ],
    },
    Maker {
        name: "Dell PowerEdge",
        vendors: &["dell"],
        models: &["poweredge"],
        chassis: &[],
        menus: &[
            menu(Virtualization, None, "System BIOS > Processor Settings > Virtualization Technology", High),
            menu(
                Iommu,
                Some(Intel),
                "System BIOS > Processor Settings > Virtualization Technology (governs VT-d too)",
                Low,
            ),
            menu(Iommu, Some(Amd), "System BIOS > Processor Settings > IOMMU Support", Low),
            menu(X2apic, None, "System BIOS > Processor Settings > x2APIC Mode", Low),
            menu(Above4g, None, "System BIOS > Integrated Devices > Memory Mapped I/O above 4GB", High),
            menu(Sriov, None, "System BIOS > Integrated Devices > SR-IOV Global Enable", High),
        ],
    },
    Maker {
        name: "Dell",
        vendors: &["dell"],
        models: &[],
        chassis: &[],
        menus: &[
            menu(Virtualization, None, "Virtualization Support > Virtualization", High),
            menu(Iommu, None, "Virtualization Support > VT for Direct I/O", High),
            menu(SecureBoot, None, "Secure Boot > Secure Boot Enable", Low),
        ],
    },
    Maker {
        name: "HPE ProLiant",
        vendors: &["hp", "hpe", "hewlett-packard", "hewlett packard enterprise"],
        models: &["proliant", "synergy", "apollo"],
        chassis: &[],
        menus: &[
            menu(
                Virtualization,
                Some(Intel),
                "F9 > System Configuration > BIOS/Platform Configuration (RBSU) > Virtualization Options > \
                 Intel(R) Virtualization Technology (Gen9: System Options > Virtualization Options)",
                High,
            ),
            menu(
                Virtualization,
                Some(Amd),
                "F9 > System Configuration > BIOS/Platform Configuration (RBSU) > Virtualization Options > AMD-V",
                Low,
            ),
            menu(
                Iommu,
                Some(Intel),
                "F9 > System Configuration > BIOS/Platform Configuration (RBSU) > Virtualization Options > \
                 Intel(R) VT-d",
                High,
            ),
            menu(
                Iommu,
                Some(Amd),
                "F9 > System Configuration > BIOS/Platform Configuration (RBSU) > Virtualization Options > \
                 AMD I/O Virtualization Technology",
                High,
            ),
            menu(
                Sriov,
                None,
                "F9 > System Configuration > BIOS/Platform Configuration (RBSU) > Virtualization Options > SR-IOV",
                High,
            ),
            menu(
                Acs,
                None,
                "F9 > System Configuration > BIOS/Platform Configuration (RBSU) > Virtualization Options > \
                 Access Control Service",
                Medium,
            ),
            menu(
                X2apic,
                None,
                "F9 > System Configuration > BIOS/Platform Configuration (RBSU) > Processor Options > Processor \
                 x2APIC Support",
                Low,
            ),
            menu(
                ResizableBar,
                None,
                "F9 > System Configuration > BIOS/Platform Configuration (RBSU) > PCIe Device Configuration > PCIe \
                 Resizable BAR",
                Medium,
            ),
        ],
    },
    Maker {
        name: "HP consumer",
        vendors: &["hp", "hewlett-packard"],
        models: &["pavilion", "omen", "envy", "spectre", "victus", "presario"],
        chassis: &[],
        menus: &[menu(Virtualization, None, "System Configuration > Virtualization Technology", Medium)],
    },
    Maker {
        name: "HP",
        vendors: &["hp", "hewlett-packard"],
        models: &[],
        chassis: &[],
        menus: &[
            menu(
                Virtualization,
                Some(Intel),
                "Advanced > System Options > Virtualization Technology (VTx)",
                High,
            ),
            menu(Virtualization, Some(Amd), "Advanced > System Options > SVM CPU Virtualization", High),
            menu(
                Iommu,
                Some(Intel),
                "Advanced > System Options > Virtualization Technology for Directed I/O (VTd)",
                High,
            ),
        ],
    },
    Maker {
        name: "Lenovo ThinkPad",
        vendors: &["lenovo"],
        models: &["thinkpad"],
        chassis: &[],
        menus: &[
            menu(
                Virtualization,
                Some(Intel),
                "Security > Virtualization > Intel Virtualization Technology",
                High,
            ),
            menu(Virtualization, Some(Amd), "Security > Virtualization > AMD-V Technology", High),
            menu(Iommu, Some(Intel), "Security > Virtualization > Intel VT-d Feature", High),
            menu(KernelDmaProtection, None, "Security > Virtualization > Kernel DMA Protection", High),
            menu(SecureBoot, None, "Security > Secure Boot", Low),
        ],
    },
    Maker {
        name: "Lenovo ThinkSystem",
        vendors: &["lenovo"],
        models: &["thinksystem", "thinkserver", "thinkagile"],
        chassis: &[],
        menus: &[
            menu(
                Virtualization,
                Some(Intel),
                "System Settings > Processors > Intel Virtualization Technology",
                Low,
            ),
            menu(Virtualization, Some(Amd), "System Settings > Processors > SVM Mode", Low),
            menu(
                Iommu,
                Some(Intel),
                "System Settings > Devices and I/O Ports > Intel VT for Directed I/O",
                Low,
            ),
            menu(Iommu, Some(Amd), "System Settings > Devices and I/O Ports > IOMMU", Low),
            menu(
                Above4g,
                None,
                "System Settings > Devices and I/O Ports > PCI 64-Bit Resource Allocation",
                Low,
            ),
        ],
    },
    Maker {
        name: "Lenovo ThinkStation and ThinkCentre",
        vendors: &["lenovo"],
        models: &["thinkstation", "thinkcentre"],
        chassis: &[],
        menus: &[
            menu(
                Virtualization,
                Some(Intel),
                "Advanced > CPU Setup > Intel(R) Virtualization Technology",
                Low,
            ),
            menu(Virtualization, Some(Amd), "Advanced > CPU Setup > SVM", Low),
            menu(Iommu, Some(Intel), "Advanced > CPU Setup > VT-d", Low),
            menu(Above4g, None, "Advanced > Devices > PCI Express > Above 4G Decoding", Low),
        ],
    },
    Maker {
        name: "Supermicro",
        vendors: &["supermicro", "super micro"],
        models: &[],
        chassis: &[],
        menus: &[
            menu(
                Virtualization,
                Some(Intel),
                "Advanced > CPU Configuration > Intel Virtualization Technology",
                Medium,
            ),
            menu(Virtualization, Some(Amd), "Advanced > CPU Configuration > SVM Mode", Low),
            menu(
                Iommu,
                Some(Intel),
                "Advanced > Chipset Configuration > North Bridge > IIO Configuration > Intel VT for Directed I/O \
                 (VT-d)",
                High,
            ),
            menu(Iommu, Some(Amd), "Advanced > North Bridge (NB) Configuration > IOMMU", High),
            menu(
                InterruptRemapping,
                Some(Intel),
                "Advanced > Chipset Configuration > North Bridge > IIO Configuration > Intel VT for Directed I/O \
                 (VT-d) > Interrupt Remapping",
                High,
            ),
            menu(X2apic, Some(Intel), "Advanced > CPU Configuration > X2APIC", Low),
            menu(Above4g, None, "Advanced > PCIe/PCI/PnP Configuration > Above 4G Decoding", High),
            menu(ResizableBar, None, "Advanced > PCIe/PCI/PnP Configuration > Re-Size BAR Support", Low),
            menu(Sriov, None, "Advanced > PCIe/PCI/PnP Configuration > SR-IOV Support", High),
            menu(Ari, None, "Advanced > PCIe/PCI/PnP Configuration > ARI Support", High),
            menu(
                Acs,
                Some(Intel),
                "Advanced > Chipset Configuration > North Bridge > IIO Configuration > Intel VT for Directed I/O \
                 (VT-d) > ACS Control",
                High,
            ),
            menu(Acs, Some(Amd), "Advanced > North Bridge (NB) Configuration > ACS Enable", High),
            menu(Aer, Some(Amd), "Advanced > ACPI Settings > PCI AER Support", Medium),
        ],
    },
    Maker {
        name: "Intel server board",
        vendors: &["intel"],
        models: &[],
        chassis: SERVER_CHASSIS,
        menus: &[
            menu(
                Virtualization,
                None,
                "Advanced > Processor Configuration > Intel(R) Virtualization Technology",
                Medium,
            ),
            menu(Iommu, None, "Advanced > Integrated IO Configuration > Intel(R) VT for Directed I/O", Low),
            menu(Above4g, None, "Advanced > PCI Configuration > Memory Mapped I/O above 4 GB", Low),
        ],
    },
    Maker {
        name: "Intel NUC",
        vendors: &["intel"],
        models: &["nuc"],
        chassis: &[],
        menus: &[
            menu(Virtualization, None, "Security > Security Features > Intel Virtualization Technology", Low),
            menu(Iommu, None, "Security > Security Features > Intel VT for Directed I/O (VT-d)", Low),
        ],
    },
    Maker {
        name: "Framework",
        vendors: &["framework"],
        models: &[],
        chassis: &[],
        menus: &[
            menu(Virtualization, Some(Intel), "CPU Configuration > Intel VMX", Low),
            menu(Virtualization, Some(Amd), "CPU Configuration > AMD SVM", Low),
            menu(Iommu, Some(Intel), "CPU Configuration > VT-d", Low),
            menu(Iommu, Some(Amd), "CPU Configuration > IOMMU", Low),
        ],
    },
];
