//! How interrupts reach guests: controllers in hardware, messages, identifiers that reach every CPU.

use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::firmware::Setting;
use crate::host::interrupts::POSTING_PARAMETERS;
use crate::spec::cpu_list::CpuList;

const COMMAND_LINE: &str = "/proc/cmdline";

fn command_line(facts: &HostFacts) -> &str {
    facts.kernel.command_line.known().map_or("", String::as_str)
}

/// `interrupts-virtual-controllers`
pub(super) fn controllers(facts: &HostFacts) -> Outcome {
    let (path, on) = match &facts.interrupts.virtual_controllers {
        Fact::Known(controllers) => (controllers.parameter.as_str(), controllers.used),
        Fact::NotPresent => {
            return Outcome::not_applicable("no module of KVM for a processor's extension is loaded");
        }
        unread => return Outcome::unread(unread, "whether KVM uses interrupt controllers in hardware"),
    };
    if on {
        return Outcome::pass("KVM uses interrupt controllers in hardware").evidence(path, "Y");
    }
    let warn = Outcome::warn("KVM emulates interrupt controllers").evidence(path, "N");
    let [(intel, _), _] = POSTING_PARAMETERS;
    let (argument, module) =
        if path == intel { ("kvm_intel.enable_apicv", "kvm_intel") } else { ("kvm_amd.avic", "kvm_amd") };
    if let Some(value) = facts.kernel.parameter(argument).last() {
        return warn
            .evidence(COMMAND_LINE, command_line(facts))
            .cause(format!("`{argument}={value}` on the kernel's command line decides"))
            .remedy(Remedy::without_kernel_argument(facts, &format!("{argument}={value}")));
    }
    if facts.cpu.hypervisor.present == Fact::Known(true) {
        return warn
            .cause("the hypervisor below us does not offer them, or the parameter switches them off")
            .remedy(Remedy::advice("nothing on this machine: its hypervisor decides"));
    }
    if module == "kvm_intel" {
        return warn
            .cause("the processor has no APICv (most client processors), or the parameter switches it off")
            .remedy(Remedy::command(
                "grep -rs enable_apicv /etc/modprobe.d /run/modprobe.d /usr/lib/modprobe.d",
                "shows whether an option of the module switches it off; where none does, only another processor helps",
            ));
    }
    warn.cause("most kernels leave AVIC off unless told otherwise, and older processors have none")
        .remedy(Remedy::command(
            "echo 'options kvm_amd avic=1' | sudo tee /etc/modprobe.d/kvm-avic.conf",
            "holds once the module is loaded again: end all guests, then `sudo modprobe -r kvm_amd && sudo modprobe \
             kvm_amd`; guests with nested virtualization do without it",
        ))
}

/// `interrupts-msi`
pub(super) fn messages(facts: &HostFacts) -> Outcome {
    if facts.kernel.command_line.known().is_none() {
        return Outcome::unread(&facts.kernel.command_line, "whether messages are switched off");
    }
    let switched_off =
        facts.kernel.parameter("pci").find(|value| value.split(',').any(|word| word == "nomsi"));
    let Some(value) = switched_off else {
        return Outcome::pass("devices may interrupt by message").evidence(COMMAND_LINE, command_line(facts));
    };
    let has_sriov = facts.pci.functions().iter().any(|function| function.sriov.is_some());
    let outcome = if has_sriov {
        Outcome::fail("no device interrupts by message: virtual functions raise no interrupts at all")
    } else {
        Outcome::warn("no device interrupts by message")
    };
    let outcome = outcome
        .evidence(COMMAND_LINE, command_line(facts))
        .cause(format!("`pci={value}` on the kernel's command line switches messages off"));
    if value == "nomsi" {
        return outcome.remedy(Remedy::without_kernel_argument(facts, "pci=nomsi"));
    }
    let rest: Vec<_> = value.split(',').filter(|word| *word != "nomsi").collect();
    outcome.remedy(Remedy::kernel_parameters(facts, &[("pci", rest.join(","))]))
}

/// `interrupts-x2apic`
pub(super) fn x2apic(facts: &HostFacts) -> Outcome {
    /// CPUs that identifiers of 8 bits reach; the last one means all of them.
    const REACH: usize = 255;
    const POSSIBLE: &str = "/sys/devices/system/cpu/possible";
    let possible = match &facts.topology.possible_cpus {
        Fact::Known(possible) => possible,
        unread => return Outcome::unread(unread, "how many CPUs there are"),
    };
    if possible.count() <= REACH {
        return Outcome::not_applicable(format!("xAPIC reaches all {} CPUs", possible.count()))
            .evidence(POSSIBLE, possible);
    }
    match &facts.interrupts.x2apic_enabled {
        Fact::Known(true) => Outcome::pass("interrupt controllers are in the mode x2APIC")
            .evidence(POSSIBLE, possible)
            .evidence("IA32_APIC_BASE or the kernel's log", "x2APIC is on"),
        Fact::Known(false) => {
            let outcome = Outcome::warn(format!("xAPIC does not reach all of {} CPUs", possible.count()))
                .evidence(POSSIBLE, possible)
                .evidence("IA32_APIC_BASE or the kernel's log", "x2APIC is off");
            let online = facts.topology.online_cpus.known().map_or(0, CpuList::count);
            let outcome = outcome.evidence("/sys/devices/system/cpu/online", format!("{online} run"));
            if facts.kernel.parameter("nox2apic").next().is_some() {
                return outcome
                    .cause("`nox2apic` on the kernel's command line switches it off")
                    .remedy(Remedy::without_kernel_argument(facts, "nox2apic"));
            }
            outcome
                .cause("firmware opts out of it, or interrupts are not remapped, which it needs")
                .remedy(Remedy::firmware(facts, Setting::X2apic))
                .remedy(Remedy::firmware(facts, Setting::InterruptRemapping))
        }
        unread => Outcome::unread(unread, "whether interrupt controllers are in the mode x2APIC"),
    }
}
