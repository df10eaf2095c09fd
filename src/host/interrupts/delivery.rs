//! The ways in which an interrupt can reach a guest here.
//!
//! *Emulated*: the machine monitor asks KVM to raise it, a system call each. *By irqfd*: whoever has the event writes to
//! a file, and the kernel raises it, which serves virtio and passed-through devices. *Posted*: the IOMMU writes it into
//! the state of the running virtual CPU, and no host CPU takes part (Intel VT-d 4.1, 5.2; AMD 48882 rev. 3.07, guest
//! virtual APIC).

use serde::Serialize;

use super::Known;
use crate::host::fact::Fact;
use crate::host::iommu::Unit;
use crate::host::kernel::Kernel;
use crate::host::parse;
use crate::host::source::Source;

/// Parameters of KVM's modules that switch on virtual interrupt controllers in hardware, on which posting rests (Linux:
/// arch/x86/kvm/vmx/vmx.c, `enable_apicv`; svm/avic.c, `avic`), each with the word for that.
pub const POSTING_PARAMETERS: [(&str, &str); 2] = [
    ("/sys/module/kvm_intel/parameters/enable_apicv", "APICv"),
    ("/sys/module/kvm_amd/parameters/avic", "AVIC"),
];
const KVM: &str = "/dev/kvm";
const COMMAND_LINE: &str = "/proc/cmdline";
const UNITS: &str = "/sys/class/iommu";

/// The ways in which an interrupt can reach a guest here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ways {
    /// Through controllers that KVM emulates.
    pub emulated: Delivery,
    /// Through a file that raises it (paravirtual and passed-through devices).
    pub irqfd: Delivery,
    /// From the IOMMU to the running virtual CPU.
    pub posted: Delivery,
}

/// Interrupt controllers in hardware, as a module of KVM tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VirtualControllers {
    /// Whether KVM uses them.
    pub used: bool,
    /// The module's parameter that tells, as a path.
    pub parameter: String,
}

/// Whether one way is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// Whether it is.
    pub available: Fact<bool>,
    /// Why, why not, or why nobody can say.
    pub because: String,
    /// What decides it.
    pub source: String,
}

impl Delivery {
    fn open(because: String, source: &str) -> Self {
        Self { available: Fact::Known(true), because, source: source.to_owned() }
    }

    fn closed(because: String, source: &str) -> Self {
        Self { available: Fact::Known(false), because, source: source.to_owned() }
    }

    /// Nobody can say, because `fact` is unknown.
    fn unknown<T>(fact: &Fact<T>, source: &str) -> Self {
        let (available, source, reason) = match fact {
            Fact::Denied { source } => {
                (Fact::Denied { source: source.clone() }, source.clone(), "permission denied".to_owned())
            }
            Fact::Unreadable { source, reason } => (
                Fact::Unreadable { source: source.clone(), reason: reason.clone() },
                source.clone(),
                reason.clone(),
            ),
            Fact::Known(_) | Fact::NotPresent => {
                let reason = "it is not there".to_owned();
                (
                    Fact::Unreadable { source: source.to_owned(), reason: reason.clone() },
                    source.to_owned(),
                    reason,
                )
            }
        };
        Self { available, because: reason, source }
    }
}

/// Finds out which ways are open.
pub(super) fn collect(controllers: &Fact<VirtualControllers>, known: &Known<'_>) -> Ways {
    Ways {
        emulated: with_kvm(known, "KVM makes virtual machines, and gives each its interrupt controllers"),
        // KVM_CAP_IRQFD comes with the controllers in the kernel, which KVM of x86 always has (Linux:
        // arch/x86/kvm/Kconfig, HAVE_KVM_IRQCHIP).
        irqfd: with_kvm(known, "KVM of x86 always has irqfds: a file raises an interrupt inside the kernel"),
        posted: posted(controllers, known),
    }
}

/// A way that every usable KVM offers.
fn with_kvm(known: &Known<'_>, because: &str) -> Delivery {
    match &known.kvm.usable {
        Fact::Known(true) => Delivery::open(because.to_owned(), KVM),
        Fact::Known(false) => Delivery::closed(format!("KVM cannot be used: {}", known.kvm.explanation), KVM),
        unknown => Delivery::unknown(unknown, KVM),
    }
}

/// The whole path: KVM, the processor's virtual interrupt controller, remapping, every unit, no argument against it.
/// The first thing that is missing is told, and only then what is unknown.
fn posted(controllers: &Fact<VirtualControllers>, known: &Known<'_>) -> Delivery {
    let steps = [
        with_kvm(known, ""),
        by_controllers(controllers),
        remapping(&known.iommu.interrupt_remapping),
        units(&known.iommu.units),
        arguments(known.kernel),
    ];
    if let Some(closed) = steps.iter().find(|step| step.available == Fact::Known(false)) {
        return closed.clone();
    }
    if let Some(unknown) = steps.iter().find(|step| step.available.is_unread()) {
        return unknown.clone();
    }
    let [_, controllers, ..] = steps;
    Delivery::open(format!("{}, and the IOMMU posts interrupts", controllers.because), &controllers.source)
}

/// Whether KVM leaves interrupt controllers to the processor; absent where no module of KVM is loaded that could.
pub(super) fn controllers(source: &dyn Source, kernel: &Kernel) -> Fact<VirtualControllers> {
    for (path, _) in POSTING_PARAMETERS {
        match parse::flag(source, path) {
            Fact::NotPresent => {}
            flag => return flag.map(|used| VirtualControllers { used, parameter: path.to_owned() }),
        }
    }
    let is_kvm = |name: &String| matches!(name.as_str(), "kvm_intel" | "kvm_amd");
    match &kernel.modules {
        Fact::Known(modules) if modules.iter().any(is_kvm) => Fact::Unreadable {
            source: "/sys/module".to_owned(),
            reason: "the module of KVM does not tell whether it uses interrupt controllers in hardware"
                .to_owned(),
        },
        Fact::Known(_) => Fact::NotPresent,
        unknown => unknown.as_ref().and_then(|_| Fact::NotPresent),
    }
}

fn by_controllers(controllers: &Fact<VirtualControllers>) -> Delivery {
    match controllers {
        Fact::Known(VirtualControllers { used, parameter }) => {
            let word =
                POSTING_PARAMETERS.iter().find(|(path, _)| path == parameter).map_or("", |(_, word)| word);
            if *used {
                Delivery::open(format!("KVM uses the processor's interrupt controllers ({word})"), parameter)
            } else {
                Delivery::closed(
                    format!("KVM emulates interrupt controllers: {word} is off, or not in the processor"),
                    parameter,
                )
            }
        }
        Fact::NotPresent => Delivery::closed(
            "no module of KVM for a processor's extension is loaded".to_owned(),
            "/sys/module",
        ),
        unknown => Delivery::unknown(unknown, "/sys/module"),
    }
}

fn remapping(remapping: &Fact<bool>) -> Delivery {
    const LIST: &str = "/proc/interrupts";
    match remapping {
        Fact::Known(true) => Delivery::open(String::new(), LIST),
        Fact::Known(false) => Delivery::closed("interrupts are not remapped".to_owned(), LIST),
        unknown => Delivery::unknown(unknown, LIST),
    }
}

/// On all units, or the kernel posts on none (Linux: drivers/iommu/intel/irq_remapping.c).
fn units(units: &Fact<Vec<Unit>>) -> Delivery {
    let units = match units {
        Fact::Known(units) if units.is_empty() => {
            return Delivery::closed("no IOMMU runs".to_owned(), UNITS);
        }
        Fact::Known(units) => units,
        unknown => return Delivery::unknown(unknown, UNITS),
    };
    for unit in units {
        let path = format!("{UNITS}/{}", unit.name);
        let posts = match (&unit.vtd, &unit.amdvi) {
            (Fact::Known(vtd), _) => vtd.posted_interrupts,
            (_, Fact::Known(amdvi)) => amdvi.guest_virtual_apic,
            (Fact::NotPresent, Fact::NotPresent) => false,
            (Fact::NotPresent, unread) => return Delivery::unknown(unread, &path),
            (unread, _) => return Delivery::unknown(unread, &path),
        };
        if !posts {
            return Delivery::closed(
                format!("{} cannot post interrupts, and all units must", unit.name),
                &path,
            );
        }
    }
    Delivery::open(String::new(), UNITS)
}

/// Linux: Documentation/admin-guide/kernel-parameters.txt, `intremap`, `amd_iommu_intr`.
fn arguments(kernel: &Kernel) -> Delivery {
    if kernel.command_line.is_unread() {
        return Delivery::unknown(&kernel.command_line, COMMAND_LINE);
    }
    let says = |name: &'static str, word: &str| {
        let mut values = kernel.parameter(name);
        values.find(|value| value.split(',').any(|one| one == word)).map(|value| format!("{name}={value}"))
    };
    match says("intremap", "nopost").or_else(|| says("amd_iommu_intr", "legacy")) {
        Some(argument) => Delivery::closed(format!("`{argument}` switches it off"), COMMAND_LINE),
        None => Delivery::open(String::new(), COMMAND_LINE),
    }
}
