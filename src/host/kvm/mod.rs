//! KVM: whether it can be used here, and whether hardware stands behind it.
//!
//! A kernel can offer the whole interface without hardware (module kvm_pvm): it answers every call, and stock guest
//! kernels are interpreted at a thousandth of their speed or fail. What tells the two apart is the processor: without
//! its extension there is no hardware to stand behind KVM, whatever KVM says. A guest that is timed tells it, too
//! ([`Measured`]).

mod measured;
#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::host::cpu::{Cpu, Reason};
use crate::host::fact::Fact;
use crate::host::kernel::Kernel;
use crate::host::parse;
use crate::host::source::{KvmAnswer, Source};

pub use measured::Measured;

const DEVICE: &str = "/dev/kvm";
/// Where the kernel shows the device, once a module has registered it.
const REGISTERED: &str = "/sys/class/misc/kvm";
/// The only stable version of the interface (Linux: Documentation/virt/kvm/api.rst, 4.1).
const API_VERSION: i32 = 12;
/// Modules of hypervisors that take the processor's extension for themselves, and what they belong to.
const OTHERS: [(&str, &str); 2] = [("vboxdrv", "VirtualBox"), ("vmmon", "VMware")];

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
    /// Whether the kernel has KVM, whoever may use it.
    pub registered: Fact<bool>,
    /// Whether another hypervisor holds the processor's extension, so that KVM makes no machine.
    pub busy: Fact<bool>,
    /// Other hypervisors of this host whose modules are loaded.
    pub other_hypervisors: Fact<Vec<&'static str>>,
    /// What stands behind it; absent if it is not usable.
    pub backing: Fact<Backing>,
    /// Whether guests' accesses to registers that KVM does not know are ignored.
    pub ignores_msrs: Fact<bool>,
    /// Speeds of small guests; absent where nobody asked for them.
    #[serde(skip_serializing_if = "is_absent")]
    pub measured: Fact<Measured>,
}

fn is_absent<T>(fact: &Fact<T>) -> bool {
    matches!(fact, Fact::NotPresent)
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

/// Whether this user can use KVM, why, that in words, and what stands behind it.
type Answer = (Fact<bool>, Reason, String, Fact<Backing>);

/// Asks KVM and puts its answer beside what is known of the processor.
pub(super) fn collect(source: &dyn Source, cpu: &Cpu, kernel: &Kernel) -> Kvm {
    let answer = source.kvm();
    let registered = registered(source);
    let (api_version, busy) =
        (answer.as_ref().map(|answer| answer.api_version), answer.as_ref().map(|answer| answer.busy));
    let (usable, reason, explanation, backing) = judge(answer, &registered, cpu, kernel);
    Kvm {
        usable,
        reason,
        explanation,
        api_version,
        registered,
        busy,
        other_hypervisors: super::list_or_empty(source, "/sys/module", "/sys/kernel").map(|modules| {
            let loaded = |module: &str| modules.iter().any(|name| name == module);
            OTHERS.into_iter().filter(|(module, _)| loaded(module)).map(|(_, name)| name).collect()
        }),
        backing,
        ignores_msrs: parse::flag(source, Kvm::IGNORE_MSRS),
        measured: Fact::NotPresent,
    }
}

impl Kvm {
    /// The parameter by which KVM ignores accesses to registers that it does not know.
    pub const IGNORE_MSRS: &str = "/sys/module/kvm/parameters/ignore_msrs";

    /// Runs small guests for less than half a second. What they tell weighs more than what the processor promises.
    pub fn measure(&mut self) {
        self.take(measured::measure());
    }

    fn take(&mut self, measured: Fact<Measured>) {
        if let Fact::Known(Measured { backing, .. }) = measured
            && self.usable == Fact::Known(true)
            && self.backing != Fact::Known(backing)
        {
            let (reason, speed) = match backing {
                Backing::Hardware => (Reason::Ok, "hardware"),
                Backing::Software => (Reason::SoftwareOnly, "an interpreter"),
            };
            self.reason = reason;
            self.explanation = format!("it makes virtual machines, measured at the speed of {speed}");
            self.backing = Fact::Known(backing);
        }
        self.measured = measured;
    }
}

/// Whether a module has registered KVM's device.
fn registered(source: &dyn Source) -> Fact<bool> {
    match source.list(REGISTERED) {
        Fact::Known(_) => Fact::Known(true),
        Fact::NotPresent => parse::required(source.list("/sys/class").map(|_| false), REGISTERED),
        unread => unread.map(|_| false),
    }
}

fn judge(answer: Fact<KvmAnswer>, registered: &Fact<bool>, cpu: &Cpu, kernel: &Kernel) -> Answer {
    let no = |(reason, explanation)| (Fact::Known(false), reason, explanation, Fact::NotPresent);
    // A device that no module has registered is a node in advance: what opening it would say can be told.
    let nearer = || because_of(cpu).filter(|_| *registered == Fact::Known(false));
    match answer {
        Fact::Known(KvmAnswer { api_version: API_VERSION, creates_vm: true, .. }) => {
            makes_machines(cpu, kernel)
        }
        Fact::Known(KvmAnswer { busy: true, .. }) => no((
            Reason::Unknown,
            "another hypervisor of this host holds the processor's extension".to_owned(),
        )),
        Fact::Known(KvmAnswer { api_version, .. }) => no(because_of(cpu).unwrap_or_else(|| {
            let what = if api_version == API_VERSION {
                "it refuses to make a virtual machine".to_owned()
            } else {
                format!(
                    "it speaks version {api_version} of its interface, where {API_VERSION} is the stable one"
                )
            };
            (Reason::Unknown, what)
        })),
        Fact::NotPresent => no(because_of(cpu).unwrap_or_else(|| missing(registered, kernel))),
        denied @ Fact::Denied { .. } => nearer().map_or_else(
            || {
                let explanation =
                    format!("this user may not open {DEVICE}; members of its group (usually kvm) may");
                (denied.map(|_| false), Reason::NoPermission, explanation, Fact::NotPresent)
            },
            no,
        ),
        Fact::Unreadable { source, reason } => {
            let explanation = format!("{DEVICE}: {reason}");
            let unread = Fact::Unreadable { source, reason };
            nearer().map_or((unread, Reason::Unknown, explanation, Fact::NotPresent), no)
        }
    }
}

fn makes_machines(cpu: &Cpu, kernel: &Kernel) -> Answer {
    let backing = backing(cpu, kernel);
    let (reason, explanation) = match &backing {
        Fact::Known(Backing::Hardware) if cpu.hypervisor.present == Fact::Known(true) => {
            (Reason::Ok, "it makes virtual machines, with an extension that the hypervisor below us provides")
        }
        Fact::Known(Backing::Hardware) => (Reason::Ok, "it makes virtual machines, in hardware"),
        Fact::Known(Backing::Software) => {
            (Reason::SoftwareOnly, "it makes virtual machines, and no hardware stands behind it")
        }
        _ => (Reason::Ok, "it makes virtual machines; whether in hardware cannot be told"),
    };
    (Fact::Known(true), reason, explanation.to_owned(), backing)
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
fn missing(registered: &Fact<bool>, kernel: &Kernel) -> (Reason, String) {
    let loaded = kernel
        .modules
        .known()
        .is_some_and(|modules| modules.iter().any(|name| matches!(name.as_str(), "kvm_intel" | "kvm_amd")));
    if loaded || *registered == Fact::Known(true) {
        let words = format!("the kernel has KVM and there is no {DEVICE} here; a container must be given it");
        return (Reason::NoPermission, words);
    }
    if let Some(argument) = blocking_argument(kernel) {
        let words = format!("`{argument}` on the kernel's command line keeps KVM's module out");
        return (Reason::OffInKernel, words);
    }
    (Reason::NoDriver, format!("there is no {DEVICE}: no KVM module is loaded (kvm_intel or kvm_amd)"))
}

/// The argument of the command line that keeps KVM's modules from being loaded, if there is one (Linux:
/// kernel/module/main.c, `module_blacklist`; modprobe(8), `modprobe.blacklist`).
#[must_use]
pub fn blocking_argument(kernel: &Kernel) -> Option<String> {
    let is_ours = |word: &str| matches!(word.replace('-', "_").as_str(), "kvm" | "kvm_intel" | "kvm_amd");
    ["module_blacklist", "modprobe.blacklist"].into_iter().find_map(|name| {
        let value = kernel.parameter(name).find(|value| value.split(',').any(is_ours))?;
        Some(format!("{name}={value}"))
    })
}
