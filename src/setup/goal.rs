//! What a host should look like: the `host:` block of a profile.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::host::select::{Selector, VfSelector};

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
}

fn vfio_pci() -> String {
    "vfio-pci".to_owned()
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

/// One virtual function of a physical function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VfGoal {
    /// Index, from 0.
    pub index: u16,
    /// Name of the driver that it should have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
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
