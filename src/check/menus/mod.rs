//! Where a setting stands in the menus of this machine's firmware.
//!
//! Makers are known by the strings of DMI: the board's maker first, because the system's is often a placeholder; menus
//! belong to the board. Wording differs from version to version, so that every path comes with a confidence.

mod makers;
#[cfg(test)]
mod tests;

use super::remedy::Confidence;
use crate::host::HostFacts;
use crate::host::firmware::{Dmi, Setting};
use makers::{MAKERS, Maker};

/// Who made the processor, as far as menus care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cpu {
    Intel,
    Amd,
}

/// A place in a menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Whose menus these are; absent for the wording that many makers share.
    pub(super) maker: Option<&'static str>,
    /// The path, level by level.
    pub(super) path: &'static str,
    /// How sure it is.
    pub(super) confidence: Confidence,
}

/// Where `setting` stands on this machine.
pub(super) fn place(facts: &HostFacts, setting: Setting) -> Place {
    let cpu = match facts.cpu.vendor.known().map(String::as_str) {
        Some("GenuineIntel") => Some(Cpu::Intel),
        Some("AuthenticAMD" | "HygonGenuine") => Some(Cpu::Amd),
        _ => None,
    };
    let own = maker(&facts.firmware.dmi).and_then(|maker| {
        let row = |wanted| {
            maker.menus.iter().find(|menu| menu.setting == wanted && (menu.cpu.is_none() || menu.cpu == cpu))
        };
        // Where interrupt remapping has no line of its own, it comes with the IOMMU.
        let row = row(setting)
            .or_else(|| if setting == Setting::InterruptRemapping { row(Setting::Iommu) } else { None });
        row.map(|menu| Place { maker: Some(maker.name), path: menu.path, confidence: menu.confidence })
    });
    own.unwrap_or(Place { maker: None, path: common(setting, cpu), confidence: Confidence::Low })
}

/// The maker of this machine's menus.
fn maker(dmi: &Dmi) -> Option<&'static Maker> {
    let model: Vec<_> = [&dmi.product_name, &dmi.product_version, &dmi.board_name]
        .into_iter()
        .filter_map(|fact| fact.known().map(|text| text.to_ascii_lowercase()))
        .collect();
    let fits = |maker: &Maker, vendor: &str| {
        maker.vendors.iter().any(|name| vendor.starts_with(name))
            && (maker.models.is_empty()
                || maker.models.iter().any(|word| model.iter().any(|name| name.contains(word))))
            && (maker.chassis.is_empty()
                || dmi.chassis_type.known().is_some_and(|kind| maker.chassis.contains(kind)))
    };
    [&dmi.board_vendor, &dmi.system_vendor].into_iter().find_map(|vendor| {
        let vendor = vendor.known()?.to_ascii_lowercase();
        MAKERS.iter().find(|maker| fits(maker, &vendor))
    })
}

/// The wording that many makers share, for a machine whose menus nobody wrote down.
fn common(setting: Setting, cpu: Option<Cpu>) -> &'static str {
    match (setting, cpu) {
        (Setting::Virtualization, Some(Cpu::Intel)) => {
            "Advanced > CPU Configuration > Intel Virtualization Technology (VMX, VT-x)"
        }
        (Setting::Virtualization, Some(Cpu::Amd)) => "Advanced > CPU Configuration > SVM Mode",
        (Setting::Virtualization, None) => {
            "Advanced > CPU Configuration > Intel Virtualization Technology (VT-x) or SVM Mode (AMD)"
        }
        (Setting::Iommu, Some(Cpu::Intel)) => {
            "Advanced > Chipset or System Agent Configuration > VT-d (Intel VT for Directed I/O)"
        }
        (Setting::Iommu, Some(Cpu::Amd)) => "Advanced > AMD CBS > NBIO Common Options > IOMMU",
        (Setting::Iommu, None) => "Advanced > Chipset Configuration > VT-d (Intel) or IOMMU (AMD)",
        (Setting::InterruptRemapping, _) => "Interrupt Remapping, in the menu of VT-d or IOMMU",
        (Setting::X2apic, _) => "Advanced > CPU Configuration > x2APIC",
        (Setting::Above4g, _) => "Advanced > PCI Subsystem Settings > Above 4G Decoding",
        (Setting::ResizableBar, _) => "Advanced > PCI Subsystem Settings > Re-Size BAR Support",
        (Setting::Sriov, _) => "Advanced > PCI Subsystem Settings > SR-IOV Support",
        (Setting::Acs, Some(Cpu::Amd)) => "Advanced > AMD CBS > NBIO Common Options > ACS Enable",
        (Setting::Acs, _) => "ACS Control, in the menu of VT-d or of the PCI Express ports",
        (Setting::Ari, _) => "Advanced > PCI Subsystem Settings > ARI Support (ARI Forwarding)",
        (Setting::Aer, Some(Cpu::Amd)) => "Advanced > AMD CBS > NBIO Common Options > Enable AER Cap",
        (Setting::Aer, _) => "Advanced > PCI Subsystem Settings > PCI Express Advanced Error Reporting",
        (Setting::SecureBoot, _) => "Security or Boot > Secure Boot",
        (Setting::KernelDmaProtection, _) => "Security > Kernel DMA Protection",
    }
}
