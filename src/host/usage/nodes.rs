//! Who holds the device files of displays and sound: programs that hang, or crash, when the function goes.
//!
//! Linux: Documentation/gpu/drm-uapi.rst (`/dev/dri`), sound(4) (`/dev/snd`). NVIDIA's own driver has files of its own and
//! tells in `/proc/driver/nvidia/gpus` which function each belongs to.

use std::collections::BTreeMap;

use serde::Serialize;

use super::owner;
use super::processes::{OpenFiles, Process};
use crate::host::fact::Fact;
use crate::host::source::Source;
use crate::spec::pci::PciAddress;

/// A device file of a function that somebody holds open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct OpenNode {
    /// The file: `/dev/dri/card0`.
    pub path: String,
    /// The process.
    pub process: Process,
}

/// The classes whose files are looked at, each with the directory below `/dev` in which they are.
const CLASSES: [(&str, &str); 2] = [("/sys/class/drm", "dri"), ("/sys/class/sound", "snd")];
const NVIDIA: &str = "/proc/driver/nvidia/gpus";

/// Device files of functions, by the function.
pub(super) fn collect(source: &dyn Source) -> BTreeMap<PciAddress, Vec<String>> {
    let mut found = BTreeMap::<_, Vec<_>>::new();
    for (class, directory) in CLASSES {
        for name in source.list(class).known().into_iter().flatten() {
            let target = source.link(&format!("{class}/{name}"));
            if let Some(address) = target.known().and_then(|target| owner(target)) {
                found.entry(address).or_default().push(format!("{directory}/{name}"));
            }
        }
    }
    for name in source.list(NVIDIA).known().into_iter().flatten() {
        let information = source.text(&format!("{NVIDIA}/{name}/information"));
        let minor = information.known().and_then(|text| minor(text));
        if let (Ok(address), Some(minor)) = (name.parse(), minor) {
            found.entry(address).or_default().push(format!("nvidia{minor}"));
        }
    }
    found
}

/// `Device Minor: 0`
fn minor(information: &str) -> Option<u32> {
    information.lines().find_map(|line| line.strip_prefix("Device Minor:")?.trim().parse().ok())
}

/// Who holds `nodes`. Unknown if there are processes that we may not look into and none of the others does.
pub(super) fn users(nodes: Option<&Vec<String>>, open_files: &OpenFiles) -> Fact<Vec<OpenNode>> {
    let Some(nodes) = nodes else { return Fact::Known(Vec::new()) };
    let mut found: Vec<_> = nodes
        .iter()
        .flat_map(|node| open_files.holders(node).iter().map(move |process| (node, process)))
        .map(|(node, process)| OpenNode { path: format!("/dev/{node}"), process: process.clone() })
        .collect();
    found.sort_unstable();
    match open_files.unseen() {
        Some(reason) if found.is_empty() => reason.as_ref().map(|()| Vec::new()),
        _ => Fact::Known(found),
    }
}
