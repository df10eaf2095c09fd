//! Hardware virtualization of the processor: there, offered, usable, and why not.

use serde::Serialize;

use super::abilities::{self, Abilities};
use super::info::{CPUINFO, CpuInfo};
use super::registers::{self, FeatureControl, VmCr};
use super::{Hypervisor, leaf_below};
use crate::host::fact::Fact;
use crate::host::kernel::Kernel;
use crate::host::source::Source;
use crate::spec::cpuid;

/// Hardware virtualization of the processor.
#[derive(Debug, Clone, Serialize)]
pub struct Virtualization {
    /// The extension that a processor of this vendor has or could have; absent for other vendors.
    pub extension: Option<Extension>,
    /// Whether the processor has it, by the CPUID instruction. Unknown when a hypervisor does not show it.
    pub in_silicon: Fact<bool>,
    /// Whether the kernel offers it, by the flags of `/proc/cpuinfo`.
    pub offered_by_kernel: Fact<bool>,
    /// Whether firmware switched it off, by the register that does it; absent where that register cannot be read.
    pub off_by_register: Fact<bool>,
    /// That register of Intel; absent where it cannot be read.
    pub feature_control: Fact<FeatureControl>,
    /// That register of AMD; absent where it cannot be read.
    pub vm_cr: Fact<VmCr>,
    /// What it can do; all absent where the processor is not known to have it.
    pub abilities: Abilities,
    /// Whether it can be used.
    pub usable: Fact<bool>,
    /// Why, or why not.
    pub reason: Reason,
    /// The same for people, with the evidence.
    pub explanation: String,
}

/// A virtualization extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Extension {
    /// Intel VT-x.
    Vmx,
    /// AMD-V.
    Svm,
}

impl Extension {
    /// Its flag in `/proc/cpuinfo`.
    #[must_use]
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Vmx => "vmx",
            Self::Svm => "svm",
        }
    }

    /// What its vendor calls it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Vmx => "Intel VT-x (VMX)",
            Self::Svm => "AMD-V (SVM)",
        }
    }

    /// The module by which KVM uses it.
    #[must_use]
    pub const fn module(self) -> &'static str {
        match self {
            Self::Vmx => "kvm_intel",
            Self::Svm => "kvm_amd",
        }
    }

    /// The CPUID leaf and the bit of ECX in which a processor announces it.
    #[must_use]
    pub const fn bit(self) -> (u32, u32) {
        match self {
            Self::Vmx => (cpuid::LEAF_FEATURES, cpuid::FEATURES_ECX_VMX),
            Self::Svm => (cpuid::LEAF_EXTENDED_FEATURES, cpuid::EXTENDED_ECX_SVM),
        }
    }

    /// Its number among the kernel's features, by which `clearcpuid=` may name it (Linux: cpufeatures.h).
    const fn feature_number(self) -> &'static str {
        match self {
            Self::Vmx => "133", // word 4, bit 5
            Self::Svm => "194", // word 6, bit 2
        }
    }
}

/// Why something can or cannot be used. The words are for ever; `data.verdicts` uses the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It can be used.
    Ok,
    /// Firmware switched it off.
    OffInFirmware,
    /// The hardware does not have it.
    NotInHardware,
    /// The kernel was told, or built, not to use it.
    OffInKernel,
    /// We run in a virtual machine, and its hypervisor does not show it.
    HiddenByHypervisor,
    /// It is there, and we may not use it.
    NoPermission,
    /// No driver offers it.
    NoDriver,
    /// It works, and no hardware stands behind it.
    SoftwareOnly,
    /// The evidence does not decide.
    Unknown,
}

impl Virtualization {
    /// Puts together what the processor, the kernel and firmware say.
    pub(super) fn collect(
        source: &dyn Source,
        kernel: &Kernel,
        vendor: &Fact<String>,
        hypervisor: &Hypervisor,
        info: &CpuInfo,
    ) -> Self {
        let extension = match vendor.known().map(String::as_str) {
            Some("GenuineIntel" | "CentaurHauls" | "  Shanghai  ") => Some(Extension::Vmx),
            Some("AuthenticAMD" | "HygonGenuine") => Some(Extension::Svm),
            _ => None,
        };
        let Some(extension) = extension else { return no_extension(vendor) };
        let announced = announced(source, extension);
        let offered_by_kernel = info.flag(extension.flag());
        let feature_control = registers::feature_control(source, extension);
        let vm_cr = registers::vm_cr(source, extension);
        let off_by_register = match extension {
            Extension::Vmx => {
                feature_control.as_ref().map(|register| register.locked && !register.vmx_outside_smx)
            }
            Extension::Svm => vm_cr.as_ref().map(|register| register.svm_disabled),
        };
        let in_silicon = match (&announced, &hypervisor.present) {
            (Fact::Known(false), Fact::Known(true)) => Fact::Unreadable {
                source: format!("CPUID {:#x}", extension.bit().0),
                reason: "a hypervisor answers CPUID, and does not show the extension".to_owned(),
            },
            // A tree without recorded CPUID: a flag that the kernel offers is one that the processor has.
            (announced, _) if announced.known().is_none() && offered_by_kernel == Fact::Known(true) => {
                Fact::Known(true)
            }
            _ => announced.clone(),
        };
        let abilities = match in_silicon {
            Fact::Known(true) => abilities::collect(source, extension, info),
            _ => Abilities::default(),
        };
        let evidence =
            Evidence { extension, kernel, announced, hypervisor, offered_by_kernel, off_by_register };
        let (usable, reason, explanation) = evidence.judge(source);
        let Evidence { offered_by_kernel, off_by_register, .. } = evidence;
        Self {
            extension: Some(extension),
            in_silicon,
            offered_by_kernel,
            off_by_register,
            feature_control,
            vm_cr,
            abilities,
            usable,
            reason,
            explanation,
        }
    }
}

fn no_extension(vendor: &Fact<String>) -> Virtualization {
    let (in_silicon, explanation) = match vendor {
        Fact::Known(vendor) => (
            Fact::Unreadable {
                source: "CPUID 0x0".to_owned(),
                reason: format!("no extension is known of processors by `{vendor}`"),
            },
            format!("no extension is known of processors by `{vendor}`"),
        ),
        unread => (unread.as_ref().map(|_| false), "it is not known whose processor this is".to_owned()),
    };
    Virtualization {
        extension: None,
        offered_by_kernel: in_silicon.clone(),
        off_by_register: Fact::NotPresent,
        feature_control: Fact::NotPresent,
        vm_cr: Fact::NotPresent,
        abilities: Abilities::default(),
        usable: in_silicon.clone(),
        in_silicon,
        reason: unseen(vendor),
        explanation,
    }
}

/// The reason that goes with what could not be seen.
fn unseen<T>(fact: &Fact<T>) -> Reason {
    if matches!(fact, Fact::Denied { .. }) { Reason::NoPermission } else { Reason::Unknown }
}

/// Whether CPUID announces the extension.
fn announced(source: &dyn Source, extension: Extension) -> Fact<bool> {
    let (leaf, bit) = extension.bit();
    let highest = if leaf >= cpuid::LEAF_EXTENDED { cpuid::LEAF_EXTENDED } else { cpuid::LEAF_VENDOR };
    match leaf_below(source, highest, leaf) {
        Fact::Known(registers) => Fact::Known(registers.ecx & bit != 0),
        // Out of range, where there is CPUID at all: a processor from before the extension.
        Fact::NotPresent if source.cpuid(highest, 0).known().is_some() => Fact::Known(false),
        unread => unread.map(|_| false),
    }
}

/// What is known about the extension, before it is put together.
struct Evidence<'a> {
    extension: Extension,
    kernel: &'a Kernel,
    announced: Fact<bool>,
    hypervisor: &'a Hypervisor,
    offered_by_kernel: Fact<bool>,
    off_by_register: Fact<bool>,
}

impl Evidence<'_> {
    /// Whether the extension can be used, why, and that in words.
    fn judge(&self, source: &dyn Source) -> (Fact<bool>, Reason, String) {
        let title = self.extension.title();
        let flag = self.extension.flag();
        let (leaf, bit) = self.extension.bit();
        let cpuid = format!("CPUID {leaf:#x} ECX bit {}", bit.trailing_zeros());
        let no = |reason, words: String| (Fact::Known(false), reason, words);
        match (&self.announced, &self.offered_by_kernel) {
            (Fact::Known(false), _) if self.hypervisor.present == Fact::Known(true) => no(
                Reason::HiddenByHypervisor,
                format!(
                    "{title} is not shown to this virtual machine ({cpuid} is 0, and a hypervisor answers CPUID)"
                ),
            ),
            (Fact::Known(false), _) if self.hypervisor.present.is_unread() => no(
                Reason::Unknown,
                format!("{title} is not there ({cpuid} is 0); whether a hypervisor hides it cannot be told"),
            ),
            (Fact::Known(false), _) => {
                no(Reason::NotInHardware, format!("this processor has no {title} ({cpuid} is 0)"))
            }
            (Fact::Known(true), Fact::Known(_)) if self.off_by_register == Fact::Known(true) => no(
                Reason::OffInFirmware,
                format!("firmware switched {title} off and locked the register that does it"),
            ),
            (_, Fact::Known(true)) => {
                (Fact::Known(true), Reason::Ok, format!("{title} is there (flag `{flag}` in {CPUINFO})"))
            }
            (Fact::Known(true), Fact::Known(false)) => self.announced_and_not_offered(source, &cpuid),
            (Fact::Known(true), unread) => (
                unread.as_ref().map(|_| false),
                unseen(unread),
                format!("the processor has {title}; what the kernel offers of it cannot be read"),
            ),
            (unread, offered) => {
                let unread = if offered.is_unread() { offered.clone() } else { unread.clone() };
                let reason = unseen(&unread);
                (unread, reason, format!("whether the processor has {title} cannot be read"))
            }
        }
    }

    /// The processor has it and the kernel dropped the flag: because firmware said so, or because it was told to.
    fn announced_and_not_offered(&self, source: &dyn Source, cpuid: &str) -> (Fact<bool>, Reason, String) {
        let (title, flag) = (self.extension.title(), self.extension.flag());
        let no = |reason, words: String| (Fact::Known(false), reason, words);
        let names = [flag, self.extension.feature_number()];
        if self
            .kernel
            .parameter("clearcpuid")
            .flat_map(|list| list.split(','))
            .any(|name| names.contains(&name))
        {
            return no(
                Reason::OffInKernel,
                format!("clearcpuid= on the kernel's command line takes {title} away"),
            );
        }
        let seen = format!("{cpuid} is 1, and {CPUINFO} has no `{flag}`");
        // Where the kernel has no KVM for Intel it locks VMX off by itself, whatever firmware wanted.
        if self.extension == Extension::Svm || knows_kvm_intel(source, self.kernel) {
            return no(
                Reason::OffInFirmware,
                format!("the processor has {title} and firmware switched it off ({seen})"),
            );
        }
        no(
            Reason::Unknown,
            format!(
                "{title} is off ({seen}): by firmware, or by a kernel that was built without KVM for Intel"
            ),
        )
    }
}

/// Whether the running kernel was built with KVM for Intel: it stands among its modules.
fn knows_kvm_intel(source: &dyn Source, kernel: &Kernel) -> bool {
    let loaded = kernel.modules.known().is_some_and(|modules| modules.iter().any(|name| name == "kvm_intel"));
    let Some(release) = kernel.release.known().filter(|release| !release.contains('/')) else {
        return loaded;
    };
    let on_disk = source.list(&format!("/lib/modules/{release}/kernel/arch/x86/kvm"));
    let built_in = source.text(&format!("/lib/modules/{release}/modules.builtin"));
    loaded
        || on_disk.known().is_some_and(|names| names.iter().any(|name| name.starts_with("kvm-intel.ko")))
        || built_in.known().is_some_and(|list| list.lines().any(|line| line.ends_with("/kvm-intel.ko")))
}
