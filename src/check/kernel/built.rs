//! What the kernel was built with. Where its configuration is nowhere, what is seen to work was built.

use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::kernel::{KernelConfig, ModuleState};

/// Where a configuration is looked for, as evidence that it is nowhere.
const PLACES: &str = "/proc/config.gz, /boot/config-*, /lib/modules/*/config";

/// What shows that something was built: where, and what is there.
type Shown = Option<(&'static str, &'static str)>;

/// A module that is there was built.
fn module(facts: &HostFacts, name: &str) -> Shown {
    match facts.kernel.module(name)? {
        ModuleState::Absent => None,
        ModuleState::Loaded => Some(("/sys/module", "its module is loaded")),
        ModuleState::BuiltIn => Some(("/lib/modules/*/modules.builtin", "it is a part of the kernel")),
        ModuleState::OnDisk => Some(("/lib/modules/*/modules.dep", "its module is on disk")),
    }
}

/// `kernel-config-kvm`
pub(super) fn kvm(facts: &HostFacts) -> Outcome {
    let (maker, name) = match facts.cpu.vendor.known().map(String::as_str) {
        Some("AuthenticAMD" | "HygonGenuine") => ("KVM_AMD", "kvm_amd"),
        Some("GenuineIntel" | "CentaurHauls" | "  Shanghai  ") => ("KVM_INTEL", "kvm_intel"),
        Some(_) => return Outcome::not_applicable("KVM has no part for processors of this maker"),
        None => return Outcome::unread(&facts.cpu.vendor, "who made the processor"),
    };
    needs(facts, &["KVM", maker], "KVM for this processor", Outcome::fail, module(facts, name))
}

/// `kernel-config-vfio`
pub(super) fn vfio(facts: &HostFacts) -> Outcome {
    needs(facts, &["VFIO", "VFIO_PCI"], "VFIO", Outcome::fail, module(facts, "vfio_pci"))
}

/// `kernel-config-iommu`: the driver of what firmware describes; where it describes nothing, of the processor's maker.
pub(super) fn iommu(facts: &HostFacts) -> Outcome {
    let described = |table: &str| {
        facts.iommu.acpi_tables.known().is_some_and(|tables| tables.iter().any(|name| name == table))
    };
    let option = if described("DMAR") {
        "INTEL_IOMMU"
    } else if described("IVRS") {
        "AMD_IOMMU"
    } else if described("VIOT") {
        "VIRTIO_IOMMU"
    } else {
        match facts.cpu.vendor.known().map(String::as_str) {
            Some("GenuineIntel") => "INTEL_IOMMU",
            Some("AuthenticAMD" | "HygonGenuine") => "AMD_IOMMU",
            Some(_) => return Outcome::not_applicable("firmware describes no IOMMU"),
            None => return Outcome::unread(&facts.cpu.vendor, "which IOMMU this machine may have"),
        }
    };
    let runs = facts.iommu.dma_remapping == Fact::Known(true);
    let shown = runs.then_some(("/sys/class/iommu", "it runs"));
    needs(facts, &[option], "the driver of this machine's IOMMU", Outcome::fail, shown)
}

/// `kernel-config-interrupt-remapping`
pub(super) fn interrupt_remapping(facts: &HostFacts) -> Outcome {
    let remapped = facts.iommu.interrupt_remapping == Fact::Known(true);
    let shown = remapped.then_some(("/proc/interrupts", "chips with the prefix IR-"));
    needs(facts, &["IRQ_REMAP"], "remapping of interrupts", Outcome::fail, shown)
}

/// `kernel-config-sriov`
pub(super) fn sriov(facts: &HostFacts) -> Outcome {
    let is_told = facts.pci.functions().iter().any(|function| function.sriov.is_some());
    let shown = is_told.then_some(("/sys/bus/pci/devices/*/sriov_totalvfs", "there"));
    needs(facts, &["PCI_IOV"], "SR-IOV", Outcome::fail, shown)
}

/// `kernel-config-hugetlbfs`
pub(super) fn hugetlbfs(facts: &HostFacts) -> Outcome {
    needs(facts, &["HUGETLBFS"], "reserved huge pages", Outcome::warn, None)
}

/// Whether the kernel was built with all of `options`; where not, `otherwise` says how bad that is. `shown` decides where
/// there is no configuration to read.
fn needs(
    facts: &HostFacts,
    options: &[&str],
    what: &str,
    otherwise: fn(String) -> Outcome,
    shown: Shown,
) -> Outcome {
    let config = match (&facts.kernel.config, shown) {
        (Fact::Known(config), _) => config,
        (_, Some((source, value))) => {
            return Outcome::pass(format!("the kernel is built with {what}")).evidence(source, value);
        }
        (Fact::NotPresent, None) => {
            return Outcome::unknown(format!(
                "whether the kernel is built with {what} is not known: its configuration is not beside it"
            ))
            .evidence(PLACES, "not there");
        }
        (unread, None) => {
            return Outcome::unread(unread, &format!("whether the kernel is built with {what}"));
        }
    };
    let lacking: Vec<_> = options.iter().filter(|option| !config.has(option)).copied().collect();
    if lacking.is_empty() {
        return with_evidence(Outcome::pass(format!("the kernel is built with {what}")), config, options);
    }
    let outcome = otherwise(format!("the kernel is built without {what}"))
        .cause(format!("its configuration lacks {}", named(&lacking).join(" and ")))
        .remedies(remedies(facts, &lacking));
    with_evidence(outcome, config, &lacking)
}

fn named(options: &[&str]) -> Vec<String> {
    options.iter().map(|option| format!("CONFIG_{option}")).collect()
}

fn with_evidence(outcome: Outcome, config: &KernelConfig, options: &[&str]) -> Outcome {
    options.iter().fold(outcome, |outcome, option| {
        outcome.evidence(&config.source, format!("CONFIG_{option}: {}", config.build(option).word()))
    })
}

/// Another kernel: distributions that have a small one for virtual machines have a full one, too.
fn remedies(facts: &HostFacts, lacking: &[&str]) -> Vec<Remedy> {
    let release = facts.kernel.release.known().map_or("", String::as_str);
    let debian = facts.kernel.distribution.is_like("debian");
    let full = match () {
        () if debian && release.contains("cloud") => Some("linux-image-amd64"),
        () if debian && release.ends_with("-kvm") => Some("linux-generic"),
        () => None,
    };
    let full = full.map(|package| {
        let note = "the full kernel in the place of the one for virtual machines; choose it at the next boot";
        Remedy::command(format!("sudo apt install {package}"), note).after_reboot()
    });
    let own = Remedy::advice(format!(
        "boot a kernel that has it: those of distributions do; or build this one with {}",
        named(lacking).join(" and ")
    ));
    full.into_iter().chain([own.after_reboot()]).collect()
}
