//! How firmware starts the kernel, and what the kernel refuses for it.

use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::firmware::{BootMode, Setting};
use crate::host::kernel_log::KernelLog;

const EFI: &str = "/sys/firmware/efi";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
/// How many refusals are told.
const TOLD: usize = 5;

/// `firmware-uefi`
pub(super) fn uefi(facts: &HostFacts) -> Outcome {
    match &facts.firmware.boot_mode {
        Fact::Known(BootMode::Uefi) => Outcome::pass("booted by UEFI").evidence(EFI, "there"),
        Fact::Known(BootMode::Bios) if facts.cpu.hypervisor.present == Fact::Known(true) => {
            Outcome::not_applicable("a virtual machine boots as its maker chose")
        }
        Fact::Known(BootMode::Bios) => Outcome::warn("booted as a BIOS of the PC")
            .evidence(EFI, "not there")
            .cause("the firmware imitates a BIOS (CSM), or is one; the system was installed that way")
            .remedy(Remedy::advice(
                "switch CSM off in the firmware setup and boot by UEFI: that takes a boot loader for UEFI on an EFI \
                 system partition first, or the system will not start",
            )),
        unread => Outcome::unread(unread, "how the machine booted"),
    }
}

/// `firmware-lockdown`
pub(super) fn lockdown(facts: &HostFacts) -> Outcome {
    let mode = match &facts.firmware.lockdown {
        Fact::Known(mode) => mode.as_str(),
        Fact::NotPresent => {
            return Outcome::pass("the kernel has no lockdown").evidence(LOCKDOWN, "not there");
        }
        unread => return Outcome::unread(unread, "whether the kernel is locked down"),
    };
    if mode == "none" {
        return Outcome::pass("the kernel is not locked down").evidence(LOCKDOWN, mode);
    }
    if facts.kernel_log.0.is_unread() {
        return Outcome::unread(&facts.kernel_log.0, "what the kernel's lockdown refused");
    }
    let refused: Vec<_> = facts.kernel_log.with(&["Lockdown: "]).collect();
    if refused.is_empty() {
        return Outcome::pass(format!("the kernel is locked down ({mode}) and refused nothing so far"))
            .evidence(LOCKDOWN, mode)
            .evidence(KernelLog::SOURCE, "no message of the lockdown");
    }
    let secure_boot = facts.firmware.secure_boot == Fact::Known(true);
    let cause = if secure_boot {
        "Secure Boot is on, and this kernel locks itself down then"
    } else {
        "the kernel was told, or built, to lock itself down"
    };
    let warn = Outcome::warn(format!("the kernel's lockdown ({mode}) refused {} times", refused.len()))
        .evidence(LOCKDOWN, mode)
        .cause(cause)
        .remedy(Remedy::advice(
            "sign modules from outside the kernel and enrol the key (`mokutil --import KEY.der`, then reboot)",
        ));
    let warn =
        refused.iter().take(TOLD).fold(warn, |outcome, line| outcome.evidence(KernelLog::SOURCE, line));
    if secure_boot { warn.remedy(Remedy::firmware(facts, Setting::SecureBoot)) } else { warn }
}
