//! What a host should look like: the `host:` block of a profile.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::account::Account;
pub use crate::host::select::{Selector, VfSelector};
use crate::spec::cpu_list::CpuList;
use crate::spec::ethernet::{MAX_VLAN, MacAddress};

/// The state that a profile asks of a host. Everything that it does not name stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Goal {
    /// Functions and the driver that each should have.
    pub devices: Vec<DeviceGoal>,
    /// Physical functions and the virtual functions that each should have.
    pub sriov: Vec<SriovGoal>,
    /// Huge pages to reserve.
    pub hugepages: Vec<HugepagesGoal>,
    /// How much memory users may lock from their next login on, and so give to machines with passed-through functions; only
    /// with `--persist`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub memlock: Vec<MemlockGoal>,
    /// Arguments that the kernel should have from the next boot on, each one word; only with `--persist`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kernel_arguments: Vec<String>,
    /// Who else than root may open the VFIO nodes of functions, and so start machines with them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access: Vec<AccessGoal>,
    /// CPUs that only processes in the control group `/sys/fs/cgroup/thruway` run on, such as `2-3,6`: put the shell that
    /// starts a machine into it (`echo $$ >/sys/fs/cgroup/thruway/cgroup.procs`). Takes control groups of version 2 and
    /// Linux 6.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolate_cpus: Option<CpuList>,
    /// Which CPUs serve interrupts; left as it is when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub irq_affinity: Option<IrqAffinityGoal>,
    /// How the kernel chooses the frequency of CPUs, such as `performance`, which keeps them fast; left as it is when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub governor: Option<String>,
    /// Kernel modules that should be loaded, such as `vfio-pci`; those that are part of the kernel are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
}

/// Whether `text` can be the name of a kernel module or a driver: it becomes part of a path and an argument of modprobe.
#[must_use]
pub fn is_kernel_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    // 56 bytes with the final NUL are what a module's name has (Linux: include/linux/module.h, MODULE_NAME_LEN).
    text.len() <= 55 && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(inner)
}

/// Which CPUs serve interrupts, as far as those can be moved; the kernel places some itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IrqAffinityGoal {
    /// CPUs that should serve none, such as `2-3,6`: those of guests that must not be disturbed.
    pub away_from: CpuList,
}

/// A function and the driver that it should have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceGoal {
    /// Which function.
    pub select: Selector,
    /// Name of the driver.
    #[serde(default = "vfio_pci")]
    pub driver: String,
    /// Ways in which the kernel should reset it, the first to be tried first, such as `[flr, bus]`; left as they are when
    /// absent. The kernel must offer them (`thruway probe` lists those); takes Linux 5.15.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reset_method: Vec<ResetMethod>,
}

impl DeviceGoal {
    /// `driver` for what `select` names, and nothing else.
    #[must_use]
    pub fn new(select: Selector, driver: String) -> Self {
        Self { select, driver, reset_method: Vec::new() }
    }

    /// What is wrong with the ways of resetting and can be seen without a host.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let methods = &self.reset_method;
        let twice =
            methods.iter().enumerate().find(|(at, method)| methods.iter().take(*at).any(|m| m == *method));
        twice.map(|(_, method)| format!("`{}` stands in this list already", method.name()))
    }
}

/// A way to reset a function (Linux: Documentation/ABI/testing/sysfs-bus-pci, `reset_method`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResetMethod {
    /// What Linux knows of this very device.
    DeviceSpecific,
    /// What the firmware offers.
    Acpi,
    /// Function level reset of PCI Express.
    Flr,
    /// Function level reset of conventional PCI.
    AfFlr,
    /// Leaving D3hot.
    Pm,
    /// Reset of its bus, if it is alone on that.
    Bus,
    /// Reset of its bus below a CXL port.
    CxlBus,
}

impl ResetMethod {
    /// As the kernel names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DeviceSpecific => "device_specific",
            Self::Acpi => "acpi",
            Self::Flr => "flr",
            Self::AfFlr => "af_flr",
            Self::Pm => "pm",
            Self::Bus => "bus",
            Self::CxlBus => "cxl_bus",
        }
    }
}

fn vfio_pci() -> String {
    "vfio-pci".to_owned()
}

/// Who may open the VFIO node of a function, `/dev/vfio/N`, for as long as the function is bound. All functions of an IOMMU
/// group have one node. Whoever has it needs a limit on locked memory above the guest's, too (getrlimit(2),
/// `RLIMIT_MEMLOCK`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessGoal {
    /// Which function; one that is, or is to be, bound to a VFIO driver.
    pub select: Selector,
    /// The user that should own the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Account>,
    /// The group that should own the node, and whose members may open it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Account>,
}

impl AccessGoal {
    /// Why this asks for nothing, if so.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        let nobody = self.user.is_none() && self.group.is_none();
        nobody.then_some("nobody is named; write `user`, `group` or both")
    }
}

/// Why `argument` cannot be one that the kernel gets for us, if so.
#[must_use]
pub fn wrong_kernel_argument(argument: &str) -> Option<&'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.,:=/@+%-".contains(c);
    let key = argument.split('=').next().unwrap_or_default();
    if argument.is_empty()
        || argument.len() > 256
        || argument.starts_with('=')
        || !argument.chars().all(plain)
    {
        Some("it is not one word of letters, digits and _.,:=/@+%-")
    } else if matches!(key, "root" | "rootflags" | "rootfstype" | "init" | "rdinit" | "initrd" | "BOOT_IMAGE")
    {
        Some("it decides which system starts, and that is not ours to change")
    } else if key == "thruway.skip" {
        Some("it switches off what is persisted; type it into the boot loader when you need it")
    } else {
        None
    }
}

/// How much memory a user, or each member of a group, may lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemlockGoal {
    /// The user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Account>,
    /// The group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Account>,
    /// How much: the memory of all machines that run at once, and 64 MiB for each.
    pub limit: crate::spec::units::ByteSize,
}

impl MemlockGoal {
    /// Why this makes no sense, if so.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        let names = usize::from(self.user.is_some()) + usize::from(self.group.is_some());
        (names != 1).then_some("write `user` or `group`, one of them")
    }
}

/// A physical function and its virtual functions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SriovGoal {
    /// The physical function.
    pub pf: Selector,
    /// Virtual functions that should exist.
    pub count: u16,
    /// Whether the kernel should probe drivers for virtual functions that it creates from now on; left as it is when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoprobe: Option<bool>,
    /// What single virtual functions should be like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vfs: Vec<VfGoal>,
}

/// One virtual function of a physical function. Its settings are those that the physical function's driver keeps for it
/// (ip-link(8), `vf`); one that is not named stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VfGoal {
    /// Index, from 0.
    pub index: u16,
    /// Name of the driver that it should have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// MAC address, `02:00:00:12:34:56`; whoever has the function cannot change it unless it is trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddress>,
    /// VLAN that the device adds to what it sends and takes from what it receives, 1 to 4094; 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 4094))]
    pub vlan: Option<u32>,
    /// Whether it may have what only trusted functions may: promiscuous mode, another MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<bool>,
    /// Whether frames that it sends from another address than its own are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spoof_check: Option<bool>,
    /// What it may always send, in Mbit/s; 0 for no promise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_tx_rate_mbps: Option<u32>,
    /// What it may send at most, in Mbit/s; 0 for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tx_rate_mbps: Option<u32>,
    /// Whether its link follows that of the physical function, or is always up or down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_state: Option<VfLinkState>,
}

/// Link of a virtual function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VfLinkState {
    /// As the physical function's.
    Auto,
    /// Always up.
    Enable,
    /// Always down.
    Disable,
}

impl VfLinkState {
    /// As profiles, rtnetlink facts and ip-link(8) name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Enable => "enable",
            Self::Disable => "disable",
        }
    }
}

impl SriovGoal {
    /// What is wrong with the settings of its virtual functions and can be seen without a host: position in
    /// [`Self::vfs`], key and problem.
    #[must_use]
    pub fn wrong_settings(&self) -> Vec<(usize, &'static str, String)> {
        let mut found = Vec::new();
        for (position, vf) in self.vfs.iter().enumerate() {
            let mut wrong = |key, problem| found.push((position, key, problem));
            let twin = |other: &&VfGoal| other.mac.is_some() && other.mac == vf.mac;
            match vf.mac {
                Some(mac) if !mac.is_of_one_card() => wrong(
                    "mac",
                    format!("{mac} is not the address of one card; write for example 02:00:00:12:34:56"),
                ),
                _ => {
                    if let Some(other) = self.vfs.iter().take(position).find(twin) {
                        wrong("mac", format!("VF {} has this address already", other.index));
                    }
                }
            }
            if let Some(vlan) = vf.vlan.filter(|vlan| *vlan > MAX_VLAN) {
                wrong(
                    "vlan",
                    format!("{vlan} is not the number of a VLAN; they go to {MAX_VLAN}, and 0 is none"),
                );
            }
            if let (Some(min), Some(max)) = (vf.min_tx_rate_mbps, vf.max_tx_rate_mbps)
                && max != 0
                && min > max
            {
                wrong("min_tx_rate_mbps", format!("{min} is more than the {max} that it may send at most"));
            }
        }
        found
    }
}

/// Huge pages of one size, on one node or on all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HugepagesGoal {
    /// Size of a page.
    pub size: crate::spec::units::ByteSize,
    /// Pages that there should be at least; where there are more, none is taken away.
    pub count: u64,
    /// NUMA node; of the whole host, spread over its nodes, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u32>,
}

impl HugepagesGoal {
    /// Why this cannot be asked for together with `other`, if so.
    #[must_use]
    pub fn conflict_with(&self, other: &Self) -> Option<String> {
        if self.size != other.size {
            return None;
        }
        match (self.node, other.node) {
            (None, None) => Some(format!("pages of {} are asked for twice", self.size)),
            (Some(node), Some(same)) if node == same => {
                Some(format!("pages of {} on node {node} are asked for twice", self.size))
            }
            (Some(_), Some(_)) => None,
            (Some(node), None) | (None, Some(node)) => Some(format!(
                "pages of {} are asked for on node {node} and of the whole host, which has those of its nodes and no \
                 others; name a node each time, or never",
                self.size
            )),
        }
    }
}
