//! Whether KVM can be used: module, permission, rivals, and what stands behind it.

use crate::check::{Outcome, Remedy, cpu, verdicts};
use crate::host::HostFacts;
use crate::host::cpu::{Extension, Reason};
use crate::host::fact::Fact;
use crate::host::kvm::{Backing, blocking_argument};

const DEVICE: &str = "/dev/kvm";
const REGISTERED: &str = "/sys/class/misc/kvm";
const COMMAND_LINE: &str = "/proc/cmdline";

/// `kvm-usable`: the verdict as a check.
pub(super) fn usable(facts: &HostFacts) -> Outcome {
    let verdict = verdicts(facts).kvm;
    let mut outcome = match verdict.usable {
        Some(true) => Outcome::pass(verdict.explanation),
        Some(false) => Outcome::fail("KVM makes no virtual machine")
            .cause(verdict.explanation)
            .remedies(remedies(facts, verdict.reason)),
        None => Outcome::unread(&facts.kvm.usable, "whether KVM makes virtual machines"),
    };
    outcome.evidence.extend(verdict.evidence);
    outcome
}

fn remedies(facts: &HostFacts, reason: Reason) -> Vec<Remedy> {
    match reason {
        Reason::NoDriver => vec![load(facts)],
        Reason::NoPermission => vec![Remedy::advice(
            "give the container the device: `--device /dev/kvm` (docker, podman), `lxc.mount.entry` or a device \
             plugin",
        )],
        Reason::OffInKernel => match blocking_argument(&facts.kernel) {
            Some(argument) => vec![Remedy::without_kernel_argument(facts, &argument)],
            None => vec![Remedy::advice("see the check cpu-virtualization")],
        },
        _ if facts.kvm.busy == Fact::Known(true) => vec![stop_the_other(facts)],
        _ => vec![Remedy::advice(
            "see the check cpu-virtualization, and the kernel's log: `dmesg | grep -i kvm`",
        )],
    }
}

fn module_of(facts: &HostFacts) -> &'static str {
    facts.cpu.virtualization.extension.map_or("kvm", Extension::module)
}

fn load(facts: &HostFacts) -> Remedy {
    let module = module_of(facts);
    Remedy::command(
        format!("sudo modprobe {module}"),
        format!("until the next boot; `echo {module} | sudo tee /etc/modules-load.d/kvm.conf` makes it stay"),
    )
}

/// `kvm-hardware`
pub(super) fn hardware(facts: &HostFacts) -> Outcome {
    let mut outcome = match &facts.kvm.backing {
        Fact::Known(Backing::Hardware) => Outcome::pass("the processor's extension stands behind KVM"),
        Fact::Known(Backing::Software) => Outcome::warn("KVM interprets guests: no hardware stands behind it")
            .evidence(DEVICE, "makes virtual machines")
            .cause(match facts.cpu.virtualization.usable {
                Fact::Known(true) => "KVM's module here does without the processor's extension".to_owned(),
                _ => facts.cpu.virtualization.explanation.clone(),
            })
            .remedy(Remedy::advice(
                "see the check cpu-virtualization for the extension; `thruway probe kvm --measure` shows the speed",
            )),
        Fact::NotPresent => match &facts.kvm.usable {
            Fact::Known(_) => return Outcome::not_applicable("KVM makes no virtual machine"),
            unread => return Outcome::unread(unread, "whether hardware stands behind KVM"),
        },
        unread => return Outcome::unread(unread, "whether hardware stands behind KVM"),
    };
    outcome.evidence.extend(cpu::evidence(facts));
    outcome
}

/// `kvm-module`
pub(super) fn module(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "which modules are loaded";
    let modules = match &facts.kernel.modules {
        Fact::Known(modules) => modules,
        unread => return Outcome::unread(unread, SUBJECT),
    };
    let loaded = |name: &str| modules.iter().any(|module| module == name);
    if let Some(module) = ["kvm_intel", "kvm_amd"].into_iter().find(|module| loaded(module)) {
        return Outcome::pass(format!("{module} is loaded"))
            .evidence(format!("/sys/module/{module}"), "there");
    }
    match &facts.cpu.virtualization.usable {
        Fact::Known(true) => {}
        Fact::Known(false) => {
            return Outcome::not_applicable("no module would find an extension that it can use");
        }
        unread => return Outcome::unread(unread, "which module this processor needs"),
    }
    let module = module_of(facts);
    let fail = Outcome::fail(format!("{module} is not loaded"))
        .evidence(format!("/sys/module/{module}"), "not there");
    match blocking_argument(&facts.kernel) {
        Some(argument) => fail
            .evidence(COMMAND_LINE, facts.kernel.command_line.known().map_or("", String::as_str))
            .cause(format!("`{argument}` on the kernel's command line keeps it out"))
            .remedy(Remedy::without_kernel_argument(facts, &argument)),
        None => fail
            .cause("nothing loaded it: /etc/modprobe.d may keep it out, or this kernel may not have it")
            .remedy(load(facts)),
    }
}

/// `kvm-permission`
pub(super) fn permission(facts: &HostFacts) -> Outcome {
    match (&facts.kvm.api_version, &facts.kvm.registered) {
        (Fact::Known(version), _) => Outcome::pass("this user may use KVM")
            .evidence(DEVICE, format!("opened, version {version} of the interface")),
        (Fact::Denied { source }, _) => Outcome::warn("this user may not use KVM")
            .evidence(source, "permission denied")
            .cause("the device belongs to a group, usually kvm, and this user is not in it")
            .remedy(Remedy::command(
                "sudo usermod -aG kvm \"$USER\"",
                "puts this user into the group, from the next login on",
            )),
        (Fact::NotPresent, Fact::Known(true)) => {
            Outcome::warn("the kernel has KVM, and it is not shown here")
                .evidence(REGISTERED, "there")
                .evidence(DEVICE, "not there")
                .cause("this is a container that was not given the device")
                .remedy(Remedy::advice("give it the device: `--device /dev/kvm` (docker, podman)"))
        }
        (Fact::NotPresent, Fact::Known(false) | Fact::NotPresent) => {
            Outcome::not_applicable("there is no KVM to be allowed")
        }
        (Fact::NotPresent, unread) => Outcome::unread(unread, "whether the kernel has KVM"),
        (unread, _) => Outcome::unread(unread, "whether this user may use KVM"),
    }
}

/// `kvm-alone`
pub(super) fn alone(facts: &HostFacts) -> Outcome {
    let others = match &facts.kvm.other_hypervisors {
        Fact::Known(others) => others,
        unread => return Outcome::unread(unread, "which other hypervisors are here"),
    };
    let evidence = |outcome: Outcome| match others.as_slice() {
        [] => outcome.evidence("/sys/module", "neither vboxdrv nor vmmon"),
        others => outcome.evidence("/sys/module", others.join(", ")),
    };
    if facts.kvm.busy == Fact::Known(true) {
        return evidence(Outcome::fail("another hypervisor holds the processor's extension"))
            .evidence(DEVICE, "EBUSY when asked for a virtual machine")
            .cause("the extension serves one hypervisor at a time, and KVM came later")
            .remedy(stop_the_other(facts));
    }
    if others.is_empty() {
        return evidence(Outcome::pass("no other hypervisor is loaded"));
    }
    evidence(Outcome::warn(format!("{} is loaded beside KVM", others.join(" and "))))
        .cause(
            "whichever starts a guest first holds the extension; the other's guests do not start meanwhile",
        )
        .remedy(stop_the_other(facts))
}

fn stop_the_other(facts: &HostFacts) -> Remedy {
    let others = facts.kvm.other_hypervisors.known().map_or(&[][..], Vec::as_slice);
    if others.contains(&"VirtualBox") {
        return Remedy::command(
            "sudo modprobe -r vboxnetadp vboxnetflt vboxdrv",
            "takes VirtualBox's modules out until the next boot; end its guests first",
        );
    }
    if others.contains(&"VMware") {
        return Remedy::command("sudo systemctl stop vmware", "stops VMware; end its guests first");
    }
    Remedy::advice("end the guests of the other hypervisor, and take its module out")
}
