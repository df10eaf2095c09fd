//! The state of every PCI function, byte for byte as sysfs shows it: what `undo` must give back.
//!
//! Read here and not by the inspector, because this is the judge of what the other sub-commands did.
//! Spec: Linux, Documentation/ABI/testing/sysfs-bus-pci.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What setup may change of one function. A file that the function does not have is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Function {
    /// Name of the bound driver.
    pub(super) driver: Option<String>,
    /// Content of `driver_override`.
    pub(super) driver_override: Option<String>,
    /// Content of `sriov_numvfs`.
    pub(super) sriov_numvfs: Option<String>,
    /// Content of `sriov_drivers_autoprobe`.
    pub(super) sriov_drivers_autoprobe: Option<String>,
    /// IOMMU group.
    pub(super) iommu_group: Option<String>,
    /// Its network interfaces, with whether each is up (IFF_UP, bit 0 of `flags`).
    pub(super) interfaces: BTreeMap<String, bool>,
}

/// All functions by address.
pub(super) type State = BTreeMap<String, Function>;

/// Reads the functions below `root`, which is `/sys/bus/pci/devices` on a host.
pub(super) fn read(root: &Path) -> io::Result<State> {
    let mut state = State::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let device = entry.path();
        let text = |name: &str| fs::read_to_string(device.join(name)).ok();
        let link = |name: &str| {
            let target = fs::read_link(device.join(name)).ok()?;
            Some(target.file_name()?.to_string_lossy().into_owned())
        };
        let function = Function {
            driver: link("driver"),
            driver_override: text("driver_override"),
            sriov_numvfs: text("sriov_numvfs"),
            sriov_drivers_autoprobe: text("sriov_drivers_autoprobe"),
            iommu_group: link("iommu_group"),
            interfaces: interfaces(&device.join("net")),
        };
        state.insert(entry.file_name().to_string_lossy().into_owned(), function);
    }
    Ok(state)
}

fn interfaces(directory: &Path) -> BTreeMap<String, bool> {
    let Ok(entries) = fs::read_dir(directory) else { return BTreeMap::new() };
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let flags = fs::read_to_string(path.join("flags")).ok()?;
            let flags = u32::from_str_radix(flags.trim().strip_prefix("0x")?, 16).ok()?;
            Some((path.file_name()?.to_string_lossy().into_owned(), flags & 1 != 0))
        })
        .collect()
}

/// What differs, one fact a line.
pub(super) fn differences(before: &State, after: &State) -> Vec<String> {
    let mut lines = Vec::new();
    for (address, function) in after {
        match before.get(address) {
            None => lines.push(format!(
                "{address} appeared: driver {}, IOMMU group {}",
                shown(function.driver.as_deref()),
                shown(function.iommu_group.as_deref())
            )),
            Some(old) => {
                lines.extend(changes(old, function).into_iter().map(|change| format!("{address} {change}")));
            }
        }
    }
    lines.extend(
        before
            .keys()
            .filter(|address| !after.contains_key(*address))
            .map(|address| format!("{address} is gone")),
    );
    lines
}

fn changes(old: &Function, new: &Function) -> Vec<String> {
    let texts = [
        ("driver", &old.driver, &new.driver),
        ("driver_override", &old.driver_override, &new.driver_override),
        ("sriov_numvfs", &old.sriov_numvfs, &new.sriov_numvfs),
        ("sriov_drivers_autoprobe", &old.sriov_drivers_autoprobe, &new.sriov_drivers_autoprobe),
        ("iommu_group", &old.iommu_group, &new.iommu_group),
    ];
    let mut lines: Vec<String> = texts
        .into_iter()
        .filter(|(_, old, new)| old != new)
        .map(|(name, old, new)| format!("{name}: {} -> {}", shown(old.as_deref()), shown(new.as_deref())))
        .collect();
    if old.interfaces != new.interfaces {
        let list = |interfaces: &BTreeMap<String, bool>| {
            let names: Vec<String> = interfaces
                .iter()
                .map(|(name, up)| format!("{name} {}", if *up { "up" } else { "down" }))
                .collect();
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        };
        lines.push(format!("interfaces: {} -> {}", list(&old.interfaces), list(&new.interfaces)));
    }
    lines
}

fn shown(text: Option<&str>) -> &str {
    text.map_or("none", str::trim_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let device = root.path().join("0000:01:00.0");
        fs::create_dir_all(device.join("net/eth0")).unwrap();
        fs::write(device.join("net/eth0/flags"), "0x1003\n").unwrap();
        fs::write(device.join("driver_override"), "(null)\n").unwrap();
        fs::write(device.join("sriov_numvfs"), "0\n").unwrap();
        std::os::unix::fs::symlink("../../drivers/igb", device.join("driver")).unwrap();
        root
    }

    #[test]
    fn a_function_is_read_to_the_byte() {
        let root = tree();

        let state = read(root.path()).unwrap();

        let function = state.get("0000:01:00.0").unwrap();
        assert_eq!(function.driver.as_deref(), Some("igb"));
        assert_eq!(function.driver_override.as_deref(), Some("(null)\n"));
        assert_eq!(function.sriov_drivers_autoprobe, None);
        assert_eq!(function.interfaces, [("eth0".to_owned(), true)].into());
    }

    #[test]
    fn every_change_is_one_line() {
        let root = tree();
        let before = read(root.path()).unwrap();
        let device = root.path().join("0000:01:00.0");
        fs::write(device.join("sriov_numvfs"), "2\n").unwrap();
        fs::write(device.join("driver_override"), "\n").unwrap();
        fs::remove_file(device.join("driver")).unwrap();
        fs::write(device.join("net/eth0/flags"), "0x1002\n").unwrap();
        fs::create_dir(root.path().join("0000:01:10.0")).unwrap();

        let lines = differences(&before, &read(root.path()).unwrap());

        assert_eq!(
            lines,
            [
                "0000:01:00.0 driver: igb -> none",
                "0000:01:00.0 driver_override: (null) -> ",
                "0000:01:00.0 sriov_numvfs: 0 -> 2",
                "0000:01:00.0 interfaces: eth0 up -> eth0 down",
                "0000:01:10.0 appeared: driver none, IOMMU group none",
            ]
        );
    }

    #[test]
    fn a_function_that_went_away_is_named() {
        let root = tree();
        let before = read(root.path()).unwrap();

        let lines = differences(&before, &State::new());

        assert_eq!(lines, ["0000:01:00.0 is gone"]);
    }
}
