//! What a profile says, key by key. The JSON schema, the reader and the list of known keys all come from here.
//!
//! `host:` stands in `setup::goal`, a device's block in the device's own file; the rest is here. Values out of range
//! are not this file's business but `vmm::config`'s, which every way to make a machine goes through.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::setup::goal::{Goal, Selector};
use crate::spec::units::ByteSize;
use crate::vmm::chipset::debug_exit::DebugExitConfig;
use crate::vmm::chipset::pvpanic::PvpanicConfig;
use crate::vmm::chipset::vmgenid::VmGenIdConfig;
use crate::vmm::config::{
    CpuConfig, HotplugConfig, Hpet, InterruptMode, MemoryConfig, ModuleConfig, NodeConfig, OnPci, OnReboot,
    Protocol, SerialConfig, ShortForm, ShortOrLong, SmbiosConfig, Target, short_form,
};
use crate::vmm::virtio::devices::block::BlockConfig;
use crate::vmm::virtio::devices::console::ConsoleConfig;
use crate::vmm::virtio::devices::net::NetConfig;
use crate::vmm::virtio::devices::rng::RngConfig;

/// The version of the schema that this program reads.
pub const SCHEMA_VERSION: u32 = 1;

/// What a host should look like and which machine runs on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a profile: a mapping with `schema`, `name`, `host` and `machine`")]
pub struct Profile {
    /// Version of the schema: 1.
    #[schemars(range(min = 1, max = 1))]
    pub schema: u32,
    /// Name of the profile and its machine: up to 64 of a-z, 0-9 and `-`, not `-` first.
    #[schemars(regex(pattern = r"^[a-z0-9][a-z0-9-]{0,63}$"))]
    pub name: String,
    /// What it is for, in a sentence.
    #[serde(default)]
    pub description: String,
    /// What the host should look like; what is not named stays as it is.
    #[serde(default)]
    pub host: Goal,
    /// The machine to run.
    #[serde(default)]
    pub machine: Machine,
}

impl Default for Profile {
    /// A profile that asks nothing of the host, for a machine that flags alone describe.
    fn default() -> Self {
        Self {
            schema: SCHEMA_VERSION,
            name: "machine".to_owned(),
            description: String::new(),
            host: Goal::default(),
            machine: Machine::default(),
        }
    }
}

/// A virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping that describes a machine")]
pub struct Machine {
    /// Virtual CPUs, 1 to 64: how many, or a mapping that arranges, shapes and places them.
    #[serde(with = "short_form")]
    #[schemars(with = "ShortOrLong<CpuConfig>")]
    pub cpus: CpuConfig,
    /// Where its interrupt controllers are. `userspace` has no APIC and takes one CPU.
    pub interrupts: InterruptMode,
    /// Guest memory: 16MiB to 256GiB, a multiple of 4KiB, or a mapping that says what it is made of.
    #[serde(with = "short_form")]
    #[schemars(with = "ShortOrLong<MemoryConfig>")]
    pub memory: MemoryConfig,
    /// NUMA nodes: which vCPUs and which memory belong together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub numa: Vec<NodeConfig>,
    /// What is started in it.
    pub boot: Boot,
    /// Its serial ports, COM1 and COM2, and where they are: `stdio`, `pty`, `none`, or a mapping with `file` or `socket`.
    pub serial: Vec<SerialConfig>,
    /// Whether it has high precision timers (HPET), which guests with other clocks do not need.
    pub hpet: Hpet,
    /// Who it says it is.
    #[serde(skip_serializing_if = "SmbiosConfig::is_default")]
    pub smbios: SmbiosConfig,
    /// What happens when the guest asks for a reboot.
    pub on_reboot: OnReboot,
    /// How devices can come and go while it runs. Without it they cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hotplug: Option<HotplugConfig>,
    /// Its devices. Those on the PCI bus that have no address of their own are found in this order.
    pub devices: Vec<Device>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            cpus: CpuConfig::from_value(1),
            interrupts: InterruptMode::default(),
            memory: MemoryConfig::from_value(ByteSize::from_mebibytes(512)),
            numa: Vec::new(),
            boot: Boot::default(),
            serial: vec![SerialConfig(Target::STDIO)],
            hpet: Hpet::default(),
            smbios: SmbiosConfig::default(),
            on_reboot: OnReboot::default(),
            hotplug: None,
            devices: Vec::new(),
        }
    }
}

/// What is started in a machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a mapping with `firmware`, `firmware_vars`, `kernel`, `initrd` and `cmdline`"
)]
pub struct Boot {
    /// Firmware image that starts first, and then what it finds: `OVMF_CODE_4M.fd`, `OVMF.fd`. Without it the kernel is
    /// started directly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<PathBuf>,
    /// File that keeps the firmware's variables; made from the firmware's template if it does not exist. Without it they last
    /// as long as the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware_vars: Option<PathBuf>,
    /// A Linux bzImage (`/vmlinuz`), an ELF file with a PVH entry point (`vmlinux`), or a multiboot image (unpacked `xen`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<PathBuf>,
    /// Initial RAM disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd: Option<PathBuf>,
    /// Kernel command line.
    pub cmdline: String,
    /// What the kernel is started by; as what it is unless something else is said.
    pub protocol: Protocol,
    /// Files that a multiboot kernel gets, behind the initial RAM disk.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<ModuleConfig>,
}

/// A device: one key that says of which kind, and its settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", expecting = "one device: its kind, and its settings in a mapping")]
pub enum Device {
    /// Paravirtual disk.
    VirtioBlock(OnPci<BlockConfig>),
    /// Paravirtual network card.
    VirtioNet(OnPci<NetConfig>),
    /// Paravirtual console (`hvc0`).
    VirtioConsole(OnPci<ConsoleConfig>),
    /// Paravirtual source of random numbers.
    VirtioRng(OnPci<RngConfig>),
    /// A host PCI function, bound to vfio-pci, passed through.
    VfioPci(OnPci<VfioBlock>),
    /// The port by which the guest's kernel reports its panic.
    Pvpanic(PvpanicConfig),
    /// An identity of this start of the machine, which guests stir into their random numbers.
    Vmgenid(VmGenIdConfig),
    /// The port 0x501 by which a test in the guest ends the machine: a write of n is exit code 2n + 1.
    IsaDebugExit(DebugExitConfig),
}

/// A host PCI function that the guest gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `select`")]
pub struct VfioBlock {
    /// Which function of the host.
    pub select: Selector,
}

/// The JSON schema of a profile, for editors.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Profile);
    schema.insert("title".to_owned(), "thruway profile".into());
    schema.to_value()
}
