//! The firmware's own settings, where the kernel shows them.

use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::cpu::Reason;
use crate::host::fact::Fact;
use crate::host::firmware::{LiveSetting, Setting};

/// Settings that should be on.
const WANTED: [Setting; 5] =
    [Setting::Virtualization, Setting::Iommu, Setting::InterruptRemapping, Setting::Above4g, Setting::Sriov];

/// `firmware-settings`
pub(super) fn settings(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "what firmware is set to";
    let all = match &facts.firmware.settings {
        Fact::Known(settings) => settings,
        unread => return Outcome::unread(unread, SUBJECT),
    };
    let wanted: Vec<_> = all.iter().filter(|live| WANTED.contains(&live.setting)).collect();
    if wanted.is_empty() {
        return Outcome::not_applicable("the kernel shows no settings of this firmware");
    }
    let off: Vec<_> = wanted.iter().copied().filter(|live| live.enabled == Fact::Known(false)).collect();
    if !off.is_empty() {
        let names: Vec<_> = off.iter().map(|live| format!("`{}`", live.name)).collect();
        let warn = Outcome::warn(format!("off in the firmware setup: {}", names.join(", "))).cause(
            "makers ship some of these switched off; an update of the firmware may switch them off again",
        );
        return off
            .iter()
            .fold(warn, |outcome, live| shown(outcome, live).remedy(Remedy::firmware(facts, live.setting)));
    }
    if let Some(unread) = wanted.iter().find(|live| live.value.is_unread()) {
        return Outcome::unread(&unread.value, SUBJECT);
    }
    if let Some(unseen) = wanted.iter().copied().find(|live| on_and_unseen(facts, live)) {
        let warn =
            Outcome::warn(format!("`{}` is on in the firmware, and the kernel does not see it", unseen.name));
        return shown(warn, unseen)
            .cause("the setting was changed, and the machine was not switched off since")
            .remedy(
                Remedy::advice("shut the machine down, cut its power for some seconds, and start it")
                    .after_reboot(),
            );
    }
    let pass = Outcome::pass("the settings that firmware shows allow virtualization");
    wanted.iter().fold(pass, |outcome, live| shown(outcome, live))
}

fn shown(outcome: Outcome, live: &LiveSetting) -> Outcome {
    outcome.evidence(live.path(), live.value.known().map_or("-", String::as_str))
}

/// Firmware says that it is on, and the processor or the tables say that it is not.
fn on_and_unseen(facts: &HostFacts, live: &LiveSetting) -> bool {
    live.enabled == Fact::Known(true)
        && match live.setting {
            Setting::Virtualization => facts.cpu.virtualization.reason == Reason::OffInFirmware,
            Setting::Iommu => facts.iommu.acpi_tables.known().is_some_and(Vec::is_empty),
            _ => false,
        }
}
