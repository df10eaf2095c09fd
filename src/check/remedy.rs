//! What to do about a finding: a menu of this vendor's firmware, an argument for this boot loader, a command.

use serde::Serialize;

use super::boot_loader::{self, Change};
use super::menus;
use crate::host::HostFacts;
use crate::host::firmware::{LiveSetting, Setting};

/// How sure a menu path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// From one weak source, or sources disagree.
    Low,
    /// From one good source.
    Medium,
    /// From the vendor's manual or several sources, or read from the firmware itself.
    High,
}

/// What kind of step a remedy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RemedyKind {
    /// A setting of the firmware ("BIOS").
    Firmware,
    /// An argument of the kernel's command line.
    KernelArgument,
    /// A command to type.
    Command,
    /// Another slot, card or machine.
    Hardware,
    /// Something that no tool does.
    Advice,
}

/// One way to mend what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// What kind of step.
    pub kind: RemedyKind,
    /// The step itself, to be followed as it stands: a menu path, a command line.
    pub text: String,
    /// What it does, and its side effects.
    pub note: Option<String>,
    /// How sure a menu path is; absent for other kinds.
    pub confidence: Option<Confidence>,
    /// Whether it takes a reboot to work.
    pub reboot: bool,
}

impl Remedy {
    /// A command to type, and what it does.
    #[must_use]
    pub fn command(command: impl Into<String>, note: impl Into<String>) -> Self {
        Self::new(RemedyKind::Command, command, Some(note.into()))
    }

    /// Switches `setting` on in the firmware (Secure Boot: off). Where the firmware itself shows the setting, its own name
    /// and value; else the menu of this machine's maker; else the wording that many makers share.
    #[must_use]
    pub fn firmware(facts: &HostFacts, setting: Setting) -> Self {
        let on = setting != Setting::SecureBoot;
        let place = menus::place(facts, setting);
        let maker = place.maker.map(|maker| format!(" ({maker})")).unwrap_or_default();
        let menu = format!("`{}`{maker}", place.path);
        let (text, confidence, live) = match facts.firmware.setting(setting) {
            Some(live) => (live_step(live, on), Confidence::High, Some(live)),
            None => {
                let verb = if on { "enable" } else { "disable" };
                (format!("{verb} in the firmware setup, usually at {menu}"), place.confidence, None)
            }
        };
        let mut note = live.map(|live| live_note(live, on, &menu)).unwrap_or_default();
        note.push_str(side_effects(setting));
        note.push_str("then switch the machine fully off and on: on some boards a restart does not apply it");
        Self {
            confidence: Some(confidence),
            ..Self::new(RemedyKind::Firmware, text, Some(note)).after_reboot()
        }
    }

    /// Sets kernel arguments (`intel_iommu=on`; several with spaces between) with the boot loader of this host.
    #[must_use]
    pub fn kernel_argument(facts: &HostFacts, arguments: &str) -> Self {
        Self::change_arguments(facts, Change::Add, arguments)
    }

    /// Takes kernel arguments out, as they stand on the command line.
    #[must_use]
    pub fn without_kernel_argument(facts: &HostFacts, arguments: &str) -> Self {
        Self::change_arguments(facts, Change::Remove, arguments)
    }

    /// Gives kernel parameters new values: in the place of what this boot's command line says of them, because some, as
    /// `isolcpus`, are refused when they come twice.
    #[must_use]
    pub fn kernel_parameters(facts: &HostFacts, parameters: &[(&str, String)]) -> Self {
        let old: Vec<_> = parameters.iter().map(|(name, _)| facts.kernel.parameter(name).last()).collect();
        if old.iter().all(Option::is_none) {
            let arguments: Vec<_> =
                parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
            return Self::kernel_argument(facts, &arguments.join(" "));
        }
        let steps: Vec<_> = parameters
            .iter()
            .zip(old)
            .map(|((name, value), old)| match old {
                Some(old) => format!("replace `{name}={old}` by `{name}={value}`"),
                None => format!("add `{name}={value}`"),
            })
            .collect();
        Self::new(
            RemedyKind::KernelArgument,
            format!("{} on the kernel's command line", steps.join(", ")),
            None,
        )
        .after_reboot()
    }

    fn change_arguments(facts: &HostFacts, change: Change, arguments: &str) -> Self {
        let step = boot_loader::step(facts, change, arguments);
        let does = match change {
            Change::Add => format!("boots with `{arguments}`"),
            Change::Remove => format!("boots without `{arguments}`"),
        };
        let note = if step.note.is_empty() { does } else { format!("{does}; {}", step.note) };
        Self::new(RemedyKind::KernelArgument, step.text, Some(note)).after_reboot()
    }

    /// Something to do by hand on the hardware.
    #[must_use]
    pub fn hardware(text: impl Into<String>) -> Self {
        Self::new(RemedyKind::Hardware, text, None)
    }

    /// Something that no tool does.
    #[must_use]
    pub fn advice(text: impl Into<String>) -> Self {
        Self::new(RemedyKind::Advice, text, None)
    }

    fn new(kind: RemedyKind, text: impl Into<String>, note: Option<String>) -> Self {
        Self { kind, text: text.into(), note, confidence: None, reboot: false }
    }

    /// Whether [`Self::text`] can be pasted into a shell as it stands.
    #[must_use]
    pub fn is_command(&self) -> bool {
        match self.kind {
            RemedyKind::Command => true,
            RemedyKind::KernelArgument => boot_loader::is_command(&self.text),
            RemedyKind::Firmware | RemedyKind::Hardware | RemedyKind::Advice => false,
        }
    }

    /// It takes a reboot to work.
    #[must_use]
    pub fn after_reboot(mut self) -> Self {
        self.reboot = true;
        self
    }
}

/// The setting in the firmware's own words.
fn live_step(live: &LiveSetting, on: bool) -> String {
    let LiveSetting { driver, name, value, .. } = live;
    let now = value.known().map(|value| format!(", now `{value}`")).unwrap_or_default();
    let wanted = live.value_for(on).unwrap_or(if on { "Enabled" } else { "Disabled" });
    format!("set `{name}` in the firmware setup to `{wanted}` (attribute {driver}/{name}{now})")
}

/// Where the menu shows it, and how it is set from here.
fn live_note(live: &LiveSetting, on: bool, menu: &str) -> String {
    let command = live.value_for(on).map_or_else(String::new, |value| {
        format!(
            "without a firmware password it can be set from here: echo '{value}' | sudo tee '{}'; ",
            live.path()
        )
    });
    format!("usually at {menu}; {command}")
}

/// What a setting changes beside what it is for.
fn side_effects(setting: Setting) -> &'static str {
    match setting {
        Setting::ResizableBar => "some guests with a large BAR do not start; switch it off again if so; ",
        Setting::Acs => "firmware may offer it only while Advanced Error Reporting (AER) is on; ",
        Setting::SecureBoot => "without it the machine boots unsigned code too; ",
        Setting::Above4g => "old 32-bit option ROMs and systems may not boot with it; ",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::collect;
    use crate::host::source::fake::{Entry, FakeHost};

    fn dell() -> FakeHost {
        FakeHost::new(&[
            ("/proc/cpuinfo", Entry::Text("vendor_id : GenuineIntel")),
            ("/sys/class/dmi/id/board_vendor", Entry::Text("Dell Inc.")),
            ("/sys/class/dmi/id/product_name", Entry::Text("OptiPlex 7080")),
        ])
    }

    #[test]
    fn the_menu_of_the_maker_comes_with_its_confidence_and_a_full_power_off() {
        let remedy = Remedy::firmware(&collect(&dell().source()), Setting::Iommu);
        assert_eq!(
            remedy.text,
            "enable in the firmware setup, usually at `Virtualization Support > VT for Direct I/O` (Dell)"
        );
        assert_eq!((remedy.kind, remedy.confidence), (RemedyKind::Firmware, Some(Confidence::High)));
        assert!(remedy.reboot && remedy.note.unwrap().contains("fully off"));
    }

    #[test]
    fn the_value_that_firmware_shows_goes_before_the_menu() {
        let host = dell();
        let attribute = "/sys/class/firmware-attributes/dell-wmi-sysman/attributes/VtForDirectIo";
        host.add(&[
            (&format!("{attribute}/current_value"), Entry::Text("Disabled")),
            (&format!("{attribute}/possible_values"), Entry::Text("Disabled;Enabled;")),
        ]);
        let remedy = Remedy::firmware(&collect(&host.source()), Setting::Iommu);
        assert_eq!(
            remedy.text,
            "set `VtForDirectIo` in the firmware setup to `Enabled` (attribute dell-wmi-sysman/VtForDirectIo, now \
             `Disabled`)"
        );
        assert_eq!(remedy.confidence, Some(Confidence::High));
        assert!(remedy.note.unwrap().contains("Virtualization Support > VT for Direct I/O"));
    }

    #[test]
    fn a_kernel_argument_names_itself_and_takes_a_reboot() {
        let facts = collect(&FakeHost::new(&[("/etc/os-release", Entry::Text("ID=fedora"))]).source());
        let remedy = Remedy::kernel_argument(&facts, "intel_iommu=on");
        assert_eq!((remedy.kind, remedy.reboot), (RemedyKind::KernelArgument, true));
        assert!(remedy.note.unwrap().starts_with("boots with `intel_iommu=on`; "));
        let remedy = Remedy::without_kernel_argument(&facts, "intel_iommu=off");
        assert!(remedy.text.contains("intel_iommu=off"));
    }

    #[test]
    fn a_parameter_that_is_there_is_replaced_and_not_repeated() {
        let facts = collect(&FakeHost::new(&[("/proc/cmdline", Entry::Text("isolcpus=4-9"))]).source());
        let parameters = |names: &[&'static str]| {
            let parameters: Vec<_> = names.iter().map(|name| (*name, "4-7".to_owned())).collect();
            Remedy::kernel_parameters(&facts, &parameters)
        };
        let remedy = parameters(&["isolcpus", "nohz_full"]);
        assert_eq!(
            remedy.text,
            "replace `isolcpus=4-9` by `isolcpus=4-7`, add `nohz_full=4-7` on the kernel's command line"
        );
        assert!(remedy.reboot && parameters(&["nohz_full"]).text.starts_with("add `nohz_full=4-7` to"));
    }

    #[test]
    fn an_unknown_machine_gets_low_confidence() {
        let remedy = Remedy::firmware(&collect(&FakeHost::new(&[]).source()), Setting::Sriov);
        assert_eq!(remedy.confidence, Some(Confidence::Low));
    }
}
