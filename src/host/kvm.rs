//! KVM: whether it can be used here, and whether hardware stands behind it.
//!
//! A kernel can offer the whole interface without hardware (module kvm_pvm): it answers every call, and stock guest
//! kernels are interpreted at a thousandth of their speed or fail. What tells the two apart is the processor: without
//! its extension there is no hardware to stand behind KVM, whatever KVM says.

use serde::Serialize;

use crate::host::cpu::{Cpu, Reason};
use crate::host::fact::Fact;
use crate::host::kernel::Kernel;
use crate::host::source::{KvmAnswer, Source};

const DEVICE: &str = "/dev/kvm";
/// The only stable version of the interface (Linux: Documentation/virt/kvm/api.rst, 4.1).
const API_VERSION: i32 = 12;

/// KVM on this host.
#[derive(Debug, Clone, Serialize)]
pub struct Kvm {
    /// Whether this user can make virtual machines.
    pub usable: Fact<bool>,
    /// Why, or why not.
    pub reason: Reason,
    /// The same for people, with the evidence.
    pub explanation: String,
    /// Version of the interface.
    pub api_version: Fact<i32>,
    /// What stands behind it; absent if it is not usable.
    pub backing: Fact<Backing>,
}

/// What carries out a guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Backing {
    /// The processor's virtualization extension.
    Hardware,
    /// An interpreter in the kernel.
    Software,
}

/// Asks KVM and puts its answer beside what is known of the processor.
pub(super) fn collect(source: &dyn Source, cpu: &Cpu, kernel: &Kernel) -> Kvm {
    let answer = source.kvm();
    let api_version = answer.as_ref().map(|answer| answer.api_version);
    let kvm =
        |usable, reason, explanation, backing| Kvm { usable, reason, explanation, api_version, backing };
    match answer {
        Fact::Known(KvmAnswer { api_version: API_VERSION, creates_vm: true }) => {
            let backing = backing(cpu, kernel);
            let (reason, explanation) = match &backing {
                Fact::Known(Backing::Hardware) if cpu.hypervisor.present == Fact::Known(true) => (
                    Reason::Ok,
                    "it makes virtual machines, with an extension that the hypervisor below us provides",
                ),
                Fact::Known(Backing::Hardware) => (Reason::Ok, "it makes virtual machines, in hardware"),
                Fact::Known(Backing::Software) => {
                    (Reason::SoftwareOnly, "it makes virtual machines, and no hardware stands behind it")
                }
                _ => (Reason::Ok, "it makes virtual machines; whether in hardware cannot be told"),
            };
            kvm(Fact::Known(true), reason, explanation.to_owned(), backing)
        }
        Fact::Known(KvmAnswer { api_version, .. }) => {
            let what = if api_version == API_VERSION {
                "it refuses to make a virtual machine".to_owned()
            } else {
                format!(
                    "it speaks version {api_version} of its interface, where {API_VERSION} is the stable one"
                )
            };
            let (reason, explanation) = because_of(cpu).unwrap_or((Reason::Unknown, what));
            kvm(Fact::Known(false), reason, explanation, Fact::NotPresent)
        }
        Fact::NotPresent => {
            let (reason, explanation) = because_of(cpu).unwrap_or_else(|| missing(source, kernel));
            kvm(Fact::Known(false), reason, explanation, Fact::NotPresent)
        }
        denied @ Fact::Denied { .. } => {
            let explanation =
                format!("this user may not open {DEVICE}; members of its group (usually kvm) may");
            kvm(denied.map(|_| false), Reason::NoPermission, explanation, Fact::NotPresent)
        }
        Fact::Unreadable { source, reason } => {
            let explanation = format!("{DEVICE}: {reason}");
            kvm(Fact::Unreadable { source, reason }, Reason::Unknown, explanation, Fact::NotPresent)
        }
    }
}

/// Hardware stands behind KVM exactly if its extension is usable and the module is not one that does without.
fn backing(cpu: &Cpu, kernel: &Kernel) -> Fact<Backing> {
    let loaded = |name: &str| kernel.modules.known().is_some_and(|modules| modules.iter().any(|m| m == name));
    if loaded("kvm_pvm") && !loaded("kvm_intel") && !loaded("kvm_amd") {
        return Fact::Known(Backing::Software);
    }
    let extension = cpu.virtualization.usable.as_ref();
    extension.map(|usable| if *usable { Backing::Hardware } else { Backing::Software })
}

/// What is wrong nearer to the hardware than KVM, if something is.
fn because_of(cpu: &Cpu) -> Option<(Reason, String)> {
    let virtualization = &cpu.virtualization;
    (virtualization.usable == Fact::Known(false))
        .then(|| (virtualization.reason, virtualization.explanation.clone()))
}

/// The processor would do, and there is no /dev/kvm.
fn missing(source: &dyn Source, kernel: &Kernel) -> (Reason, String) {
    let loaded = kernel
        .modules
        .known()
        .is_some_and(|modules| modules.iter().any(|name| matches!(name.as_str(), "kvm_intel" | "kvm_amd")));
    if loaded || source.list("/sys/class/misc/kvm").known().is_some() {
        let words = format!("the kernel has KVM and there is no {DEVICE} here; a container must be given it");
        return (Reason::NoPermission, words);
    }
    (Reason::NoDriver, format!("there is no {DEVICE}: no KVM module is loaded (kvm_intel or kvm_amd)"))
}
