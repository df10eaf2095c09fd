//! Displays: the picture of the firmware, the last screen, the option ROM, the functions that belong to the card.

use super::{attribute, names, same_device};
use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::pci::{BarKind, CLAIMS, PciDevice};
use crate::spec::pci::ClassCode;

/// The answer for what is no display; `None` for a display.
fn skip_others(function: &PciDevice) -> Option<Outcome> {
    match &function.class {
        Fact::Known(_) if function.is_display() => None,
        Fact::Known(_) => Some(Outcome::not_applicable("it is no display")),
        unread => Some(Outcome::unread(unread, "whether it is a display")),
    }
}

/// `pci-framebuffer`
pub(super) fn framebuffer(facts: &HostFacts, function: &PciDevice) -> Outcome {
    if let Some(outcome) = skip_others(function) {
        return outcome;
    }
    let claims = match &function.firmware_framebuffer {
        Fact::Known(claims) => claims,
        unread => return Outcome::unread(unread, "who draws into its memory"),
    };
    if claims.is_empty() {
        return Outcome::pass("nobody draws into the picture that firmware left")
            .evidence(CLAIMS, "no claim");
    }
    let warn = Outcome::warn("the kernel still draws into the picture that firmware left on it")
        .evidence(CLAIMS, claims.join(", "))
        .cause(cause(function));
    let warn = match function.boot_vga {
        Fact::Known(boots) => warn.evidence(attribute(function, "boot_vga"), u8::from(boots)),
        _ => warn,
    };
    let old = [("efifb", "efi-framebuffer"), ("vesafb", "vesa-framebuffer")];
    let warn = match old.iter().find(|(name, _)| claims.iter().any(|claim| claim == name)) {
        Some((name, driver)) => warn
            .remedy(Remedy::command(
                format!("echo {driver}.0 | sudo tee /sys/bus/platform/drivers/{driver}/unbind"),
                "takes the picture away until the next boot: the host's console goes dark, so do it over SSH",
            ))
            .remedy(Remedy::kernel_argument(facts, &format!("video={name}:off"))),
        None => warn
            .remedy(Remedy::advice(
                "let the display's own driver (amdgpu, i915, nouveau) have it before VFIO: it drives the picture away",
            ))
            .remedy(Remedy::kernel_argument(facts, "initcall_blacklist=sysfb_init"))
            .remedy(Remedy::advice(
                "`video=efifb:off` does nothing here: simpledrm is no efifb. Some kernels ignore the list of \
                 initcalls, too (https://github.com/siderolabs/talos/issues/14356)",
            )),
    };
    warn.remedy(Remedy::advice(
        "let the firmware start with another display (often `Primary Display`, `Init Display First`)",
    ))
}

/// VFIO drives the picture away itself, from displays of class 0300h (Linux: drivers/vfio/pci/vfio_pci_core.c,
/// `vfio_pci_vga_init`).
fn cause(function: &PciDevice) -> &'static str {
    let sub = function.class.known().map(|class| ClassCode::from_u24(*class).sub);
    if sub == Some(0) {
        "firmware started with this display; VFIO of Linux 6.0 and later takes the picture away when it binds, older \
         ones fail with `BAR 0: can't reserve`"
    } else {
        "firmware started with this display; VFIO takes the picture away from VGA controllers alone, not from displays \
         of this class: it fails with `BAR 0: can't reserve`"
    }
}

/// `pci-last-display`
pub(super) fn last_display(facts: &HostFacts, function: &PciDevice) -> Outcome {
    if let Some(outcome) = skip_others(function) {
        return outcome;
    }
    if function.vfio_bound == Fact::Known(true) {
        return Outcome::pass("the host gave it up before")
            .evidence(attribute(function, "driver"), "a VFIO driver");
    }
    let of_host = |other: &&PciDevice| {
        other.is_display() && other.address != function.address && other.vfio_bound != Fact::Known(true)
    };
    if let Some(other) = facts.pci.functions().iter().find(of_host) {
        return Outcome::pass(format!("the host keeps the display {}", other.address))
            .evidence(attribute(other, "class"), other.class.known().map_or(0, |class| class >> 8));
    }
    if facts.kernel.command_line.known().is_none() {
        return Outcome::unread(&facts.kernel.command_line, "whether the host has a serial console");
    }
    let serial = facts.kernel.parameter("console").find(|console| {
        console
            .strip_prefix("tty")
            .is_some_and(|kind| kind.starts_with(|first: char| first.is_ascii_uppercase()))
    });
    if let Some(serial) = serial {
        return Outcome::pass("the host keeps a serial console")
            .evidence("/proc/cmdline", format!("console={serial}"));
    }
    Outcome::warn("it is the last display of the host, which has no serial console")
        .evidence("/sys/bus/pci/devices", "no other display that the host uses")
        .evidence("/proc/cmdline", "no console=ttyS0")
        .cause(
            "once a guest has it, nobody sees what the host says: a host that is lost on the network is lost",
        )
        .remedy(Remedy::advice("make sure that the host can be reached over SSH before it is handed on"))
        .remedy(Remedy::kernel_argument(facts, "console=tty0 console=ttyS0,115200"))
}

/// `pci-option-rom`
pub(super) fn option_rom(_: &HostFacts, function: &PciDevice) -> Outcome {
    if let Some(outcome) = skip_others(function) {
        return outcome;
    }
    let bars = match &function.bars {
        Fact::Known(bars) => bars,
        unread => return Outcome::unread(unread, "whether it has an option ROM"),
    };
    let place = attribute(function, "resource");
    if let Some(size) = bars.iter().find(|bar| bar.kind == BarKind::Rom).and_then(|rom| rom.size_bytes) {
        return Outcome::pass(format!("it has an option ROM of {} KiB", size >> 10))
            .evidence(place, format!("line 6: {size} bytes"));
    }
    Outcome::warn("it has no option ROM")
        .evidence(place, "line 6: nothing")
        .cause(
            "a guest's firmware shows a picture with the ROM alone. Graphics of a processor have theirs in the \
             machine's firmware; of a card the kernel could give the ROM no room",
        )
        .remedy(Remedy::advice(
            "give the guest a copy of the ROM, taken from this very card; without it the guest shows its first picture \
             when its driver starts",
        ))
}

/// `pci-companions`
pub(super) fn companions(facts: &HostFacts, function: &PciDevice) -> Outcome {
    let companions: Vec<_> =
        same_device(facts, function).filter(|other| other.physical_function == Fact::NotPresent).collect();
    if !function.is_display() && !companions.iter().any(|other| other.is_display()) {
        return Outcome::not_applicable("it is no part of a graphics card");
    }
    let group = match &function.iommu_group {
        Fact::Known(group) => *group,
        Fact::NotPresent => return Outcome::not_applicable("it is in no group"),
        unread => return Outcome::unread(unread, "which functions of the card go along"),
    };
    let evidence = |outcome: Outcome| {
        companions.iter().fold(outcome, |outcome, other| {
            let group = other.iommu_group.known().map_or_else(|| "none".to_owned(), u32::to_string);
            outcome.evidence(attribute(other, "iommu_group"), group)
        })
    };
    if companions.is_empty() {
        return Outcome::pass("it is the whole card").evidence(attribute(function, "iommu_group"), group);
    }
    let strangers: Vec<_> = companions
        .iter()
        .filter(|other| other.iommu_group != Fact::Known(group))
        .map(|other| other.address)
        .collect();
    if strangers.is_empty() {
        return evidence(Outcome::pass("the other functions of the card are in its group and go along"));
    }
    evidence(Outcome::warn(format!("functions of the same card stay with the host: {}", names(&strangers))))
        .cause(
            "sound, USB and their power are parts of one card: the guest's driver misses them, the host's keep the \
             card awake, and a reset hits all of them",
        )
        .remedy(Remedy::advice(format!("give {} to the same guest", names(&strangers))))
}
