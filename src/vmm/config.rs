//! What a machine is made of, after all checks: a [`MachineConfig`] cannot be invalid.
//!
//! A device's own settings stand in the device's file and are its YAML block as well; here they are gathered, and
//! [`MachineConfig::check`] says what is wrong with them, all at once. Whoever makes a `MachineConfig` (`profile`)
//! hands it on only when that list is empty.

mod device;
mod places;
pub mod short_form;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::ethernet::MacAddress;
use crate::spec::units::ByteSize;
pub use crate::vmm::backend::console::{SerialConfig, Target, Word};
use crate::vmm::boot::multiboot;
pub use crate::vmm::chipset::hpet::Hpet;
use crate::vmm::chipset::serial;
pub use crate::vmm::memory::config::{HugePages, MemoryConfig};
use crate::vmm::numa;
pub use crate::vmm::numa::NodeConfig;
pub use crate::vmm::pci::hotplug::Power as SlotPower;
pub use crate::vmm::pci::on_pci::{OnPci, PciSettings};
pub use crate::vmm::pci::rom::RomConfig;
use crate::vmm::pci::root::Place;
pub use crate::vmm::smbios::SmbiosConfig;
pub use crate::vmm::vcpu::config::{CpuConfig, CpuModel, Features};
pub use device::DeviceConfig;
pub use places::MAX_PORTS;
pub(in crate::vmm) use places::places;
pub use short_form::{ShortForm, ShortOrLong};

/// Most vCPUs that a machine can have.
pub const MAX_CPUS: u8 = 64;
/// Least guest RAM: below this no supported payload starts.
pub const MIN_MEMORY: ByteSize = ByteSize::from_mebibytes(16);
/// Most guest RAM.
pub const MAX_MEMORY: ByteSize = ByteSize::from_mebibytes(256 << 10);

/// Most modules of a multiboot kernel, beside its initial RAM disk.
pub const MAX_MODULES: usize = multiboot::MAX_MODULES - 1;
/// Most serial ports.
pub const MAX_SERIAL_PORTS: usize = serial::PORTS.len();
/// Longest command line, in bytes without its final NUL (Linux: arch/x86/include/asm/setup.h, COMMAND_LINE_SIZE).
pub const MAX_CMDLINE: usize = 2047;
/// Longest name of a network interface, in bytes (Linux: include/uapi/linux/if.h, IFNAMSIZ less its final NUL).
pub const MAX_INTERFACE_NAME: usize = 15;

/// Something that is wrong with a machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct ConfigError {
    /// Which setting: keys and positions from the machine down, as in a profile: `devices.2.virtio-net.mac`.
    pub setting: String,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

impl ConfigError {
    /// That `setting` has `problem`.
    #[must_use]
    pub fn new(setting: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { setting: setting.into(), problem: problem.into() }
    }
}

/// A whole machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MachineConfig {
    /// Name for messages and lock files.
    pub name: String,
    /// Virtual CPUs, 1 to [`MAX_CPUS`].
    #[serde(with = "short_form")]
    pub cpus: CpuConfig,
    /// Where the interrupt controllers are.
    pub interrupts: InterruptMode,
    /// Guest RAM: [`MIN_MEMORY`] to [`MAX_MEMORY`], a multiple of its page size.
    #[serde(with = "short_form")]
    pub memory: MemoryConfig,
    /// NUMA nodes; one that nobody is told of if there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub numa: Vec<NodeConfig>,
    /// What is started.
    pub boot: BootConfig,
    /// Serial ports, COM1 and COM2; at most [`MAX_SERIAL_PORTS`].
    pub serial: Vec<SerialConfig>,
    /// Whether it has high precision timers.
    pub hpet: Hpet,
    /// Who it says it is.
    #[serde(skip_serializing_if = "SmbiosConfig::is_default")]
    pub smbios: SmbiosConfig,
    /// What the machine does when the guest asks for a reboot.
    pub on_reboot: OnReboot,
    /// How devices come and go while it runs; only with it they can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hotplug: Option<HotplugConfig>,
    /// Its devices. Those on the PCI bus that have no address of their own are found in this order.
    pub devices: Vec<DeviceConfig>,
}

/// What is started in the machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct BootConfig {
    /// Firmware that starts first; without it the kernel does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<PathBuf>,
    /// Where the firmware's variables are kept; nowhere if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware_vars: Option<PathBuf>,
    /// A Linux bzImage, an ELF file with a PVH entry point, or a multiboot image. Not needed with firmware, which starts it if there is one.
    pub kernel: Option<PathBuf>,
    /// Initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// Kernel command line, without a final NUL.
    pub cmdline: String,
    /// What the kernel is started by.
    pub protocol: Protocol,
    /// Files that a multiboot kernel gets behind the initial RAM disk.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<ModuleConfig>,
}

/// By which protocol a kernel is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// By what the file is.
    #[default]
    Auto,
    /// Linux's own, for a bzImage.
    Linux,
    /// PVH, for an ELF file with its entry point.
    Pvh,
    /// Multiboot 1.
    Multiboot,
}

/// A file for a multiboot kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModuleConfig {
    /// The file.
    pub file: PathBuf,
    /// What the kernel is told with it.
    #[serde(default)]
    pub cmdline: String,
}

impl BootConfig {
    fn check(&self, errors: &mut Vec<ConfigError>) {
        let mut wrong = |setting: &str, problem: &str| errors.push(ConfigError::new(setting, problem));
        if self.kernel.is_none() && self.firmware.is_none() {
            wrong("boot.kernel", NOTHING_TO_START);
        }
        if self.kernel.is_none() && self.initrd.is_some() {
            wrong("boot.initrd", "an initial RAM disk belongs to a kernel, and there is none; name it, too");
        }
        if self.firmware.is_none() && self.firmware_vars.is_some() {
            wrong("boot.firmware_vars", "variables belong to firmware, and there is none; name it, too");
        }
    }
}

/// What is wrong with a machine that has neither kernel nor firmware.
pub const NOTHING_TO_START: &str = "no kernel; name one here, or with --kernel, or firmware with --firmware";

/// What a guest's request to reboot does. A triple fault counts as such a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum OnReboot {
    /// Start the machine again in place.
    #[default]
    Reset,
    /// End with exit code 10.
    Exit,
}

/// Where a machine's interrupt controllers are. Devices work the same with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum InterruptMode {
    /// All in the kernel: the fastest.
    #[default]
    Kernel,
    /// Local APICs in the kernel; I/O APIC, PIC and timer in user space.
    Split,
    /// The PIC and the timer alone, in user space: no APIC, one CPU, no message signalled interrupts. For guests that take no
    /// other; Linux finds out by itself.
    Userspace,
}

/// How devices can be put into slots while the machine runs, and taken out again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `socket`")]
pub struct HotplugConfig {
    /// Unix socket on which the machine takes requests, for `thruway hotplug`.
    pub socket: PathBuf,
    /// Slots that are empty at first; with the devices at most 30.
    #[serde(default = "one_slot")]
    pub spare_slots: u8,
    /// Whether the guest switches the slots' power, `always` on or `switched` by it: guests that wait for the button then take
    /// a device five seconds after it came.
    #[serde(default)]
    pub power: SlotPower,
}

fn one_slot() -> u8 {
    1
}

impl MachineConfig {
    /// Everything that is wrong with this machine, in the order of its settings; empty if it can be built.
    /// Looks at the settings only, never at the host.
    #[must_use]
    pub fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut wrong = |setting: &str, problem: String| errors.push(ConfigError::new(setting, problem));
        if !is_name(&self.name) {
            wrong(
                "name",
                format!("`{}` is not a name; write up to 64 of a-z, 0-9 and `-`, not `-` first", self.name),
            );
        }
        self.cpus.check(&mut errors);
        if self.interrupts == InterruptMode::Userspace && self.cpus.count() > 1 {
            let problem = format!(
                "userspace has one PIC and no APIC, through which CPUs reach each other, so it takes 1 CPU, not {}; \
                 write split or kernel",
                self.cpus.count()
            );
            errors.push(ConfigError::new("interrupts", problem));
        }
        self.boot.check(&mut errors);
        self.smbios.check(&mut errors);
        self.memory.check(&mut errors);
        let page_bytes = self.memory.hugepages.bytes();
        numa::check(&self.numa, self.cpus.count(), self.memory.size, page_bytes, &mut errors);
        let mut wrong = |setting: &str, problem: String| errors.push(ConfigError::new(setting, problem));
        if self.boot.cmdline.len() > MAX_CMDLINE {
            let length = self.boot.cmdline.len();
            wrong(
                "boot.cmdline",
                format!("{length} bytes are too long; the kernel reads at most {MAX_CMDLINE}"),
            );
        }
        if self.boot.cmdline.contains(['\0', '\n', '\r']) {
            wrong("boot.cmdline", "a line break or a NUL would end the command line early".to_owned());
        }
        if self.boot.modules.len() > MAX_MODULES {
            let count = self.boot.modules.len();
            wrong("boot.modules", format!("{count} are too many; a kernel gets at most {MAX_MODULES}"));
        }
        let spare = self.hotplug.as_ref().map_or(0, |hotplug| hotplug.spare_slots);
        let used: BTreeSet<_> =
            places(&self.devices, &mut Vec::new()).into_iter().flatten().map(Place::port).collect();
        if usize::from(spare) + used.len() > MAX_PORTS.into() && spare > 0 {
            let used = used.len();
            wrong(
                "hotplug.spare_slots",
                format!("{spare} beside {used} in use are too many; a machine has at most {MAX_PORTS} slots"),
            );
        }
        if self.serial.len() > MAX_SERIAL_PORTS {
            wrong(
                "serial",
                format!("{} are too many; a machine has at most {MAX_SERIAL_PORTS}", self.serial.len()),
            );
        }
        self.check_devices(&mut errors);
        places(&self.devices, &mut errors);
        errors
    }

    /// Writes down at which address each device is, where the configuration leaves it to their order.
    pub fn fix_addresses(&mut self) {
        let places = places(&self.devices, &mut Vec::new());
        for (device, place) in self.devices.iter_mut().zip(places) {
            if let Some(pci) = device.pci_mut() {
                pci.guest_address = place.map(Place::address);
            }
        }
    }

    fn check_devices(&self, errors: &mut Vec<ConfigError>) {
        let mut taken = Taken::default();
        // Consoles count from the serial ports on.
        let mut consoles = BTreeMap::new();
        for (index, SerialConfig(target)) in self.serial.iter().enumerate() {
            let setting = format!("serial.{index}");
            if let Some(place) = target.exclusive()
                && let Some(first) = consoles.insert(place.clone(), setting.clone())
            {
                errors.push(ConfigError::new(setting, format!("`{place}` is {first}'s already")));
            }
        }
        for (index, device) in self.devices.iter().enumerate() {
            let mut wrong = |key: &str, problem: String| {
                let setting = format!("devices.{index}.{}{key}", device.kind());
                errors.push(ConfigError { setting, problem });
            };
            match device {
                DeviceConfig::VirtioBlock(block) => {
                    if let Some(first) = taken.by_another(index, "disk", block.path.display()) {
                        wrong(
                            ".path",
                            format!("this disk is device {first} already; two drivers would corrupt it"),
                        );
                    }
                }
                DeviceConfig::VirtioNet(net) => {
                    if !is_interface_name(&net.tap) {
                        wrong(
                            ".tap",
                            format!("`{}` is not the name of a network interface", net.tap.escape_debug()),
                        );
                    } else if let Some(first) = taken.by_another(index, "tap", &net.tap) {
                        wrong(".tap", format!("this tap interface is device {first} already"));
                    }
                    if let Some(mac) = net.mac.as_deref().filter(|mac| !is_of_one_card(mac)) {
                        let mac = mac.escape_debug();
                        wrong(
                            ".mac",
                            format!(
                                "`{mac}` is not the MAC address of a card; write for example 52:54:00:12:34:56"
                            ),
                        );
                    } else if let Some(first) =
                        net.mac.as_ref().and_then(|mac| taken.by_another(index, "mac", mac))
                    {
                        wrong(".mac", format!("device {first} has this address already"));
                    }
                }
                DeviceConfig::VirtioConsole(console) => {
                    let setting = format!("devices.{index}.virtio-console");
                    if let Some(place) = console.exclusive()
                        && let Some(first) = consoles.insert(place.clone(), setting)
                    {
                        wrong("", format!("`{place}` is {first}'s already"));
                    }
                }
                DeviceConfig::VfioPci(function) => {
                    if let Some(first) = taken.by_another(index, "function", function.address) {
                        let address = function.address;
                        wrong("", format!("{address} is device {first} already; a function has one owner"));
                    }
                }
                DeviceConfig::Pvpanic(_) | DeviceConfig::Vmgenid(_) | DeviceConfig::IsaDebugExit(_) => {
                    if let Some(first) = taken.by_another(index, device.kind(), "") {
                        wrong("", format!("device {first} is one already; its address is fixed"));
                    }
                }
                DeviceConfig::VirtioRng(_) => {}
            }
        }
    }
}

/// What of the host is given to which device.
#[derive(Debug, Default)]
struct Taken(BTreeMap<(&'static str, String), usize>);

impl Taken {
    /// Takes `what` for the device at `index`, unless another has it: then the index of that one.
    fn by_another(&mut self, index: usize, kind: &'static str, what: impl Display) -> Option<usize> {
        let first = *self.0.entry((kind, what.to_string().to_ascii_lowercase())).or_insert(index);
        (first != index).then_some(first)
    }
}

/// `[a-z0-9][a-z0-9-]{0,63}`: fit for file names and messages alike.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.len() <= 64
        && !text.starts_with('-')
        && !text.is_empty()
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// What Linux takes as a name (Linux: net/core/dev.c, dev_valid_name).
fn is_interface_name(text: &str) -> bool {
    (1..=MAX_INTERFACE_NAME).contains(&text.len())
        && !matches!(text, "." | "..")
        && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}

fn is_of_one_card(mac: &str) -> bool {
    mac.parse().is_ok_and(MacAddress::is_of_one_card)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmm::chipset::pvpanic::PvpanicConfig;
    use crate::vmm::vfio::VfioConfig;
    use crate::vmm::virtio::devices::block::BlockConfig;
    use crate::vmm::virtio::devices::net::NetConfig;
    use crate::vmm::virtio::devices::rng::RngConfig;

    const PAGE: u64 = 4096;

    fn machine(devices: Vec<DeviceConfig>) -> MachineConfig {
        MachineConfig {
            name: "test".to_owned(),
            cpus: CpuConfig::from_value(1),
            interrupts: InterruptMode::Kernel,
            memory: MemoryConfig::from_value(ByteSize::from_mebibytes(128)),
            numa: Vec::new(),
            boot: BootConfig {
                kernel: Some("/vmlinuz".into()),
                cmdline: "console=ttyS0".to_owned(),
                ..BootConfig::default()
            },
            serial: vec![SerialConfig(Target::STDIO)],
            hpet: Hpet::default(),
            smbios: SmbiosConfig::default(),
            on_reboot: OnReboot::Exit,
            hotplug: None,
            devices,
        }
    }

    fn tap(name: &str, mac: Option<&str>) -> DeviceConfig {
        DeviceConfig::VirtioNet(NetConfig { tap: name.to_owned(), mac: mac.map(str::to_owned) }.into())
    }

    fn settings(machine: &MachineConfig) -> Vec<String> {
        machine.check().into_iter().map(|error| error.setting).collect()
    }

    #[test]
    fn a_sound_machine_has_no_errors() {
        let machine = machine(vec![
            tap("tap0", Some("52:54:00:12:34:56")),
            tap("tap1", None),
            DeviceConfig::VirtioRng(RngConfig {}.into()),
            DeviceConfig::VirtioRng(RngConfig {}.into()),
        ]);
        assert_eq!(machine.check(), []);
    }

    #[test]
    fn several_cpus_need_an_apic() {
        for (interrupts, wrong) in [
            (InterruptMode::Kernel, vec![]),
            (InterruptMode::Split, vec![]),
            (InterruptMode::Userspace, vec!["interrupts"]),
        ] {
            let mut machine = MachineConfig { interrupts, ..machine(vec![]) };
            assert_eq!(settings(&machine), [""; 0]);
            machine.cpus = CpuConfig::from_value(2);
            assert_eq!(settings(&machine), wrong);
        }
    }

    #[test]
    fn every_setting_out_of_range_is_named_at_once() {
        let mut machine = machine(vec![]);
        machine.name = "-x".to_owned();
        machine.cpus = CpuConfig::from_value(255);
        machine.memory.size = ByteSize::from_bytes(0);
        machine.boot.cmdline = "x\n".repeat(1024);
        machine.devices = vec![DeviceConfig::VirtioRng(RngConfig {}.into()); usize::from(MAX_PORTS) + 1];
        assert_eq!(
            settings(&machine),
            ["name", "cpus", "memory", "boot.cmdline", "boot.cmdline", "devices.30.virtio-rng"]
        );
    }

    #[test]
    fn what_belongs_to_something_that_is_not_there_is_refused() {
        let mut machine = machine(vec![]);
        machine.boot.firmware_vars = Some("/vars.fd".into());
        assert_eq!(settings(&machine), ["boot.firmware_vars"]);
        machine.boot = BootConfig { initrd: Some("/initrd".into()), ..BootConfig::default() };
        assert_eq!(settings(&machine), ["boot.kernel", "boot.initrd"]);
        machine.boot = BootConfig { firmware: Some("/code.fd".into()), ..BootConfig::default() };
        assert_eq!(settings(&machine), [""; 0]);
    }

    #[test]
    fn memory_has_both_bounds_and_a_grain() {
        for (bytes, sound) in [
            (MIN_MEMORY.bytes(), true),
            (MIN_MEMORY.bytes() - PAGE, false),
            (MIN_MEMORY.bytes() + 1, false),
            (MAX_MEMORY.bytes(), true),
            (MAX_MEMORY.bytes() + PAGE, false),
            (1 << 60, false),
        ] {
            let mut machine = machine(vec![]);
            machine.memory.size = ByteSize::from_bytes(bytes);
            assert_eq!(machine.check().is_empty(), sound, "{bytes}");
        }
    }

    #[test]
    fn nothing_of_the_host_is_given_out_twice() {
        let disk = || {
            let format = crate::vmm::virtio::devices::block::ImageFormat::Raw;
            let disk = BlockConfig { path: "/disk".into(), format, readonly: false, serial: None };
            DeviceConfig::VirtioBlock(disk.into())
        };
        let function = || DeviceConfig::VfioPci(VfioConfig { address: "01:10.0".parse().unwrap() }.into());
        let panic = || DeviceConfig::Pvpanic(PvpanicConfig {});
        let machine = machine(vec![
            disk(),
            disk(),
            function(),
            function(),
            panic(),
            panic(),
            tap("a", Some("52:54:00:00:00:0a")),
            tap("a", Some("52:54:00:00:00:0A")),
        ]);
        assert_eq!(
            settings(&machine),
            [
                "devices.1.virtio-block.path",
                "devices.3.vfio-pci",
                "devices.5.pvpanic",
                "devices.7.virtio-net.tap",
                "devices.7.virtio-net.mac"
            ]
        );
    }

    #[test]
    fn names_that_linux_would_not_take_are_refused() {
        for name in ["", "..", "a/b", "a b", "a:b", "sixteen-letters-", "a\n"] {
            assert_eq!(settings(&machine(vec![tap(name, None)])), ["devices.0.virtio-net.tap"], "{name:?}");
        }
        for mac in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:5",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "gg:54:00:12:34:56",
            "52:54:00:12:34:+6",
        ] {
            assert_eq!(
                settings(&machine(vec![tap("t", Some(mac))])),
                ["devices.0.virtio-net.mac"],
                "{mac:?}"
            );
        }
    }
}
