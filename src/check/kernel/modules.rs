//! Modules that somebody keeps out.

use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::kernel::{Effect, ModuleState, SettingKind};

/// The modules without which nothing is handed out or run.
const NEEDED: [&str; 7] = ["kvm", "kvm_amd", "kvm_intel", "vfio", "vfio_iommu_type1", "vfio_pci", "iommufd"];

/// How a module is kept out.
struct Kept {
    module: String,
    source: String,
    line: String,
    /// Whether it cannot be loaded at all.
    entirely: bool,
    remedy: Remedy,
}

/// `kernel-blacklist`
pub(super) fn blacklist(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "which modules are kept out";
    let settings = match &facts.kernel.modprobe {
        Fact::Known(settings) => settings,
        unread => return Outcome::unread(unread, SUBJECT),
    };
    let parameters = match &facts.kernel.parameters {
        Fact::Known(parameters) => parameters,
        unread => return Outcome::unread(unread, SUBJECT),
    };
    let mut kept: Vec<Kept> = Vec::new();
    for setting in settings {
        let entirely = setting.forbids_loading();
        if (entirely || setting.kind == SettingKind::Blacklist) && NEEDED.contains(&setting.module.as_str()) {
            kept.push(Kept {
                module: setting.module.clone(),
                source: setting.file.clone(),
                line: setting.line(),
                entirely,
                remedy: Remedy::advice(format!("take `{}` out of {}", setting.line(), setting.file)),
            });
        }
    }
    for parameter in parameters.iter().filter(|parameter| parameter.effect == Effect::Works) {
        let entirely = parameter.is("module_blacklist");
        if !entirely && !parameter.is("modprobe.blacklist") {
            continue;
        }
        for module in parameter.words().map(|word| word.replace('-', "_")) {
            if NEEDED.contains(&module.as_str()) {
                kept.push(Kept {
                    module,
                    source: "/proc/cmdline".to_owned(),
                    line: parameter.text(),
                    entirely,
                    remedy: Remedy::without_kernel_argument(facts, &parameter.text()),
                });
            }
        }
    }
    // The other maker's module is nobody's loss.
    let other = match facts.cpu.vendor.known().map(String::as_str) {
        Some("GenuineIntel") => "kvm_amd",
        Some("AuthenticAMD" | "HygonGenuine") => "kvm_intel",
        _ => "",
    };
    kept.retain(|kept| kept.module != other);
    if kept.is_empty() {
        return Outcome::pass("no module of KVM or VFIO is kept out")
            .evidence("/etc/modprobe.d, /proc/cmdline", "no blacklist names one");
    }
    let runs = |module: &str| {
        matches!(facts.kernel.module(module), Some(ModuleState::BuiltIn | ModuleState::Loaded))
    };
    let names: Vec<_> = kept.iter().map(|kept| kept.module.as_str()).collect();
    let missing = kept.iter().any(|kept| kept.entirely && !runs(&kept.module));
    let summary = format!("kept out: {}", names.join(", "));
    let outcome = if missing { Outcome::fail(summary) } else { Outcome::warn(summary) };
    let cause = if missing {
        "it cannot be loaded at all"
    } else {
        "it is not loaded for its device by itself; it still is when a program names it"
    };
    kept.into_iter().fold(outcome.cause(cause), |outcome, kept| {
        outcome.evidence(kept.source, kept.line).remedy(kept.remedy)
    })
}
