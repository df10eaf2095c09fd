//! Whether the extension can be used, and whether this is a virtual machine.

use crate::check::{Evidence, Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::cpu::{Extension, Reason};
use crate::host::fact::Fact;
use crate::host::firmware::Setting;
use crate::host::kvm::Backing;
use crate::spec::msr;

const CPUINFO: &str = "/proc/cpuinfo";
const COMMAND_LINE: &str = "/proc/cmdline";

/// `cpu-virtualization`
pub(super) fn virtualization(facts: &HostFacts) -> Outcome {
    let virtualization = &facts.cpu.virtualization;
    let title = virtualization.extension.map_or("the virtualization extension", Extension::title);
    let mut outcome = match &virtualization.usable {
        Fact::Known(true) => Outcome::pass(format!("{title} can be used")),
        Fact::Known(false) => {
            let outcome = if facts.kvm.usable == Fact::Known(true)
                && facts.kvm.backing == Fact::Known(Backing::Software)
            {
                Outcome::warn(format!("{title} cannot be used; KVM runs guests by interpreting them"))
            } else {
                Outcome::fail(format!("{title} cannot be used: no guest runs in hardware"))
            };
            outcome.cause(virtualization.explanation.clone()).remedies(remedies(facts, virtualization.reason))
        }
        unread => Outcome::unread(unread, "whether the processor can run guests"),
    };
    outcome.evidence.extend(evidence(facts));
    outcome
}

/// What the answer about the extension rests on.
pub(in crate::check) fn evidence(facts: &HostFacts) -> Vec<Evidence> {
    let cpu = &facts.cpu;
    let virtualization = &cpu.virtualization;
    let mut evidence = Vec::new();
    let mut tell = |source: String, value: String| evidence.push(Evidence { source, value });
    let Some(extension) = virtualization.extension else {
        if let Some(vendor) = cpu.vendor.known() {
            tell("CPUID 0x0".to_owned(), vendor.clone());
        }
        return evidence;
    };
    let (leaf, bit) = extension.bit();
    let is_hidden = virtualization.reason == Reason::HiddenByHypervisor;
    if let Some(there) = virtualization.in_silicon.known().copied().or(is_hidden.then_some(false)) {
        tell(format!("CPUID {leaf:#x}"), format!("ECX bit {} is {}", bit.trailing_zeros(), u8::from(there)));
    }
    if is_hidden {
        tell("CPUID 0x1".to_owned(), "ECX bit 31 is 1: a hypervisor is present".to_owned());
    }
    if let Some(offered) = virtualization.offered_by_kernel.known() {
        let there = if *offered { "flag" } else { "no flag" };
        tell(CPUINFO.to_owned(), format!("{there} `{}`", extension.flag()));
    }
    let register = |number: u32| format!("MSR {number:#x} of CPU 0");
    if let Some(control) = virtualization.feature_control.known() {
        tell(register(msr::IA32_FEATURE_CONTROL), format!("{:#x}", control.value));
    }
    if let Some(control) = virtualization.vm_cr.known() {
        tell(register(msr::VM_CR), format!("{:#x}", control.value));
    }
    if virtualization.reason == Reason::OffInKernel {
        tell(COMMAND_LINE.to_owned(), facts.kernel.command_line.known().cloned().unwrap_or_default());
    }
    evidence
}

fn remedies(facts: &HostFacts, reason: Reason) -> Vec<Remedy> {
    match reason {
        Reason::OffInFirmware => vec![Remedy::firmware(facts, Setting::Virtualization)],
        Reason::OffInKernel => {
            let arguments: Vec<_> =
                facts.kernel.parameter("clearcpuid").map(|value| format!("clearcpuid={value}")).collect();
            vec![Remedy::without_kernel_argument(facts, &arguments.join(" "))]
        }
        Reason::HiddenByHypervisor => vec![Remedy::advice(
            "give this virtual machine the extension on its host: QEMU `-cpu host`, libvirt `<cpu \
             mode='host-passthrough'/>`, VMware `Expose hardware assisted virtualization`, Hyper-V \
             `ExposeVirtualizationExtensions`; in a cloud, a type of machine that has it",
        )],
        Reason::NotInHardware => vec![Remedy::hardware("a processor with Intel VT-x or AMD-V")],
        _ => vec![
            Remedy::firmware(facts, Setting::Virtualization),
            Remedy::advice(
                "a kernel that was built with KVM for this processor, as those of distributions are",
            ),
        ],
    }
}

/// `cpu-bare-metal`
pub(super) fn bare_metal(facts: &HostFacts) -> Outcome {
    let hypervisor = &facts.cpu.hypervisor;
    match &hypervisor.present {
        Fact::Known(false) => {
            Outcome::pass("no hypervisor is below").evidence("CPUID 0x1", "ECX bit 31 is 0")
        }
        Fact::Known(true) => {
            let name = hypervisor.name.as_deref().unwrap_or("a hypervisor");
            Outcome::warn(format!("this is a virtual machine of {name}: guests here are nested"))
                .evidence("CPUID 0x1", "ECX bit 31 is 1: a hypervisor is present")
                .cause("each exit of a nested guest takes several exits of this machine")
                .remedy(Remedy::hardware("run guests on the machine itself"))
        }
        unread => Outcome::unread(unread, "whether a hypervisor is below"),
    }
}
