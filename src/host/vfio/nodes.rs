//! Device nodes: the container, one for each group, one for each function, and iommufd's.
//!
//! Linux: Documentation/driver-api/vfio.rst, Documentation/userspace-api/iommufd.rst. None is opened: a group can be held
//! by one program only.

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::source::{DeviceNode, Source};

const DIRECTORY: &str = "/dev/vfio";
const IOMMUFD: &str = "/dev/iommu";
/// Where the kernel shows that it has iommufd.
const IOMMUFD_CLASS: &str = "/sys/class/misc/iommu";

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VfioNode {
    /// Its path.
    pub path: String,
    /// What it is.
    pub kind: NodeKind,
    /// The group, of a node of one.
    pub group: Option<u32>,
    /// Who owns it, and whether this user may open it.
    pub node: Fact<DeviceNode>,
}

/// What a device node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// `/dev/vfio/vfio`: address spaces for groups.
    Container,
    /// `/dev/vfio/N`.
    Group,
    /// `/dev/vfio/noiommu-N`: a group without an IOMMU.
    NoIommuGroup,
    /// `/dev/vfio/devices/vfioN`: a function, for iommufd.
    Device,
    /// `/dev/iommu`: address spaces for functions.
    Iommufd,
}

pub(super) fn collect(source: &dyn Source) -> Fact<Vec<VfioNode>> {
    let names = match source.list(DIRECTORY) {
        Fact::NotPresent => Vec::new(),
        Fact::Known(names) => names,
        unread => return unread.map(|_| Vec::new()),
    };
    let node = |path: String, kind, group| {
        let node = source.device_node(&path);
        VfioNode { path, kind, group, node }
    };
    let mut nodes = Vec::new();
    for name in &names {
        let path = format!("{DIRECTORY}/{name}");
        if name == "vfio" {
            nodes.push(node(path, NodeKind::Container, None));
        } else if name == "devices" {
            let devices = source.list(&path);
            let devices = devices.known().into_iter().flatten();
            nodes.extend(devices.map(|device| node(format!("{path}/{device}"), NodeKind::Device, None)));
        } else if let Some(group) = name.strip_prefix("noiommu-").and_then(|group| group.parse().ok()) {
            nodes.push(node(path, NodeKind::NoIommuGroup, Some(group)));
        } else if let Ok(group) = name.parse() {
            nodes.push(node(path, NodeKind::Group, Some(group)));
        }
    }
    if source.list(IOMMUFD_CLASS).known().is_some() {
        nodes.push(node(IOMMUFD.to_owned(), NodeKind::Iommufd, None));
    }
    Fact::Known(nodes)
}
