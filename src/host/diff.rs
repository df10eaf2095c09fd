//! What differs between two readings of one host: a BIOS update, a moved card, another kernel.
//!
//! Facts are compared as the document shows them, each by its path. Before that, what is only numbered by the boot is
//! given names that last: functions that changed their address are recognised by their IDs, and IOMMU groups are told
//! by who is in them. What could not be read on one side differs in nothing; it is listed as not compared.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::host::HostFacts;
use crate::host::fact::UNREAD_MARKER;

/// What differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diff {
    /// Differences, in the order of the document.
    pub changes: Vec<Change>,
    /// Facts that could be read on one side only, by path.
    pub not_compared: Vec<String>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Where the fact stands: keys of the document; members of lists by their address, name or number.
    pub path: Vec<String>,
    /// What happened.
    pub kind: ChangeKind,
    /// What it was; null for what was not there.
    pub before: Value,
    /// What it is; null for what is gone.
    pub after: Value,
}

/// What happened to a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It has another value.
    Changed,
    /// It was not there.
    Appeared,
    /// It is not there any more.
    Gone,
    /// The function has another address.
    Moved,
}

/// Keys whose values differ from one reading to the next on a host that has not changed.
const VOLATILE: [&str; 18] = [
    "boot_id",
    "kernel_log",
    "pid",
    "device_number",
    "free",
    "free_bytes",
    "available_bytes",
    "committed_bytes",
    "pages_shared",
    "pages_sharing",
    "reserved",
    "surplus",
    "unread",
    "explanation",
    "vfio_users",
    "power_state",
    "speed_gt_per_s",
    "aer",
];
/// Keys that name a member of a list, the best first.
const NAMES: [&str; 6] = ["address", "name", "id", "number", "index", "device"];

/// Compares two readings.
///
/// # Errors
/// Facts do not serialise: a fault of ours.
pub fn compare(before: &HostFacts, after: &HostFacts) -> Result<Diff, serde_json::Error> {
    let (mut old, mut new) = (serde_json::to_value(before)?, serde_json::to_value(after)?);
    let moves = moves(before, after);
    readdress(&mut old, &moves);
    for facts in [&mut old, &mut new] {
        name_groups(facts);
    }
    let mut diff = Diff { changes: Vec::new(), not_compared: Vec::new() };
    for (from, to) in moves {
        diff.changes.push(Change {
            path: vec!["pci".to_owned(), "devices".to_owned(), to.clone()],
            kind: ChangeKind::Moved,
            before: Value::from(from),
            after: Value::from(to),
        });
    }
    diff.walk(&mut Vec::new(), &old, &new);
    Ok(diff)
}

/// Old and new addresses of the functions that are somewhere else now: those with IDs that are at no old place any
/// more, and at as many new ones.
fn moves(before: &HostFacts, after: &HostFacts) -> BTreeMap<String, String> {
    let identities = |facts: &HostFacts| -> BTreeMap<String, _> {
        let identity = |device: &crate::host::pci::PciDevice| {
            let ids = [&device.vendor_id, &device.device_id, &device.subsystem_vendor_id];
            let ids: Option<Vec<u16>> = ids.iter().map(|id| id.known().copied()).collect();
            Some((ids?, device.subsystem_device_id.known().copied(), device.class.known().copied()))
        };
        let devices = facts.pci.functions().iter();
        devices.filter_map(|device| Some((device.address.to_string(), identity(device)?))).collect()
    };
    let (old, new) = (identities(before), identities(after));
    let mut left = BTreeMap::<_, (Vec<&String>, Vec<&String>)>::new();
    for (address, identity) in old.iter().filter(|(address, identity)| new.get(*address) != Some(identity)) {
        left.entry(identity).or_default().0.push(address);
    }
    for (address, identity) in new.iter().filter(|(address, identity)| old.get(*address) != Some(identity)) {
        left.entry(identity).or_default().1.push(address);
    }
    let moved = left.into_values().filter(|(from, to)| from.len() == to.len());
    moved.flat_map(|(from, to)| from.into_iter().cloned().zip(to.into_iter().cloned())).collect()
}

/// Gives moved functions their new address wherever they are named.
fn readdress(value: &mut Value, moves: &BTreeMap<String, String>) {
    match value {
        Value::String(text) => {
            if let Some(new) = moves.get(text) {
                text.clone_from(new);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| readdress(value, moves)),
        Value::Object(map) => map.values_mut().for_each(|value| readdress(value, moves)),
        _ => {}
    }
}

/// Names groups after their members, and tells of each function who shares its group instead of a number.
fn name_groups(facts: &mut Value) {
    let mut members = BTreeMap::<u64, Vec<String>>::new();
    if let Some(Value::Array(groups)) = facts.pointer_mut("/iommu/groups") {
        for group in groups {
            let Some(group) = group.as_object_mut() else { continue };
            let names = group.get("devices").and_then(Value::as_array).into_iter().flatten();
            let mut names: Vec<_> = names.filter_map(Value::as_str).map(str::to_owned).collect();
            names.sort_unstable();
            let id = group.remove("id").as_ref().and_then(Value::as_u64);
            group.remove("devices");
            group.insert("name".to_owned(), Value::from(names.join(" ")));
            members.extend(id.map(|id| (id, names)));
        }
    }
    for list in ["/pci/devices", "/usb/devices"] {
        let Some(Value::Array(devices)) = facts.pointer_mut(list) else { continue };
        for device in devices.iter_mut().filter_map(Value::as_object_mut) {
            let group = device.get("iommu_group").and_then(Value::as_u64);
            let Some(members) = group.and_then(|id| members.get(&id)) else { continue };
            let own = device.get("address").or_else(|| device.get("controller")).and_then(Value::as_str);
            let others: Vec<_> = members.iter().filter(|name| Some(name.as_str()) != own).cloned().collect();
            device.insert("iommu_group".to_owned(), Value::from("yes"));
            device.insert("shares_its_group_with".to_owned(), Value::from(others));
        }
    }
}

impl Diff {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    fn walk(&mut self, path: &mut Vec<String>, old: &Value, new: &Value) {
        if is_unread(old) || is_unread(new) {
            if is_unread(old) != is_unread(new) {
                self.not_compared.push(path.join("."));
            }
            return;
        }
        match (old, new) {
            (Value::Object(old), Value::Object(new)) => self.walk_keys(path, old, new),
            (Value::Array(a), Value::Array(b)) => match (by_name(a), by_name(b)) {
                (Some(old), Some(new)) => self.walk_keys(path, &old, &new),
                _ => self.note(path, old, new),
            },
            _ => self.note(path, old, new),
        }
    }

    fn walk_keys(&mut self, path: &mut Vec<String>, old: &Map<String, Value>, new: &Map<String, Value>) {
        let added = new.keys().filter(|key| !old.contains_key(*key));
        for key in old.keys().chain(added).filter(|key| !VOLATILE.contains(&key.as_str())) {
            let side = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
            path.push(key.clone());
            self.walk(path, &side(old), &side(new));
            path.pop();
        }
    }

    fn note(&mut self, path: &[String], old: &Value, new: &Value) {
        if settled(old) == settled(new) {
            return;
        }
        let kind = match (old, new) {
            (Value::Null, _) => ChangeKind::Appeared,
            (_, Value::Null) => ChangeKind::Gone,
            _ => ChangeKind::Changed,
        };
        self.changes.push(Change { path: path.to_vec(), kind, before: old.clone(), after: new.clone() });
    }
}

fn is_unread(value: &Value) -> bool {
    value.as_object().is_some_and(|map| map.contains_key(UNREAD_MARKER))
}

/// `value` without what is volatile in it.
fn settled(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(key, _)| !VOLATILE.contains(&key.as_str()))
                .map(|(key, value)| (key.clone(), settled(value)))
                .collect(),
        ),
        Value::Array(values) => Value::Array(values.iter().map(settled).collect()),
        value => value.clone(),
    }
}

/// The members of a list by what names them, if one key names them all apart.
fn by_name(list: &[Value]) -> Option<Map<String, Value>> {
    if list.is_empty() {
        return Some(Map::new());
    }
    NAMES.iter().find_map(|key| {
        let name = |value: &Value| match value.get(key)? {
            Value::String(name) => Some(name.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let named: Option<Vec<_>> = list.iter().map(|value| Some((name(value)?, value.clone()))).collect();
        let named = named?;
        let apart = named.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len() == named.len();
        apart.then(|| named.into_iter().collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host;
    use crate::host::source::fake::{Entry, FakeHost};

    /// A host with a NIC at `nic` in group `group` with a bridge.
    fn host(nic: &str, group: &str, kernel: &str) -> FakeHost {
        let at = |leaf: &str| format!("/sys/bus/pci/devices/{nic}/{leaf}");
        let member = |name: &str| format!("/sys/kernel/iommu_groups/{group}/devices/{name}");
        FakeHost::new(&[
            ("/proc/sys/kernel/osrelease", Entry::Text(kernel)),
            ("/proc/sys/kernel/random/boot_id", Entry::Text(nic)),
            (&at("vendor"), Entry::Text("0x8086")),
            (&at("device"), Entry::Text("0x10c9")),
            (&at("subsystem_vendor"), Entry::Text("0x8086")),
            (&at("subsystem_device"), Entry::Text("0xa03c")),
            (&at("class"), Entry::Text("0x020000")),
            (&at("driver"), Entry::Link("../../drivers/igb")),
            (&at("iommu_group"), Entry::Link(&format!("../../../kernel/iommu_groups/{group}"))),
            (&member(nic), Entry::Directory),
        ])
    }

    fn diff(before: &FakeHost, after: &FakeHost) -> Diff {
        compare(&host::collect(&before.source()), &host::collect(&after.source())).unwrap()
    }

    fn lines(diff: &Diff) -> Vec<String> {
        let line = |change: &Change| {
            format!("{} {:?} {} -> {}", change.path.join("."), change.kind, change.before, change.after)
        };
        diff.changes.iter().map(line).collect()
    }

    #[test]
    fn another_boot_of_the_same_host_differs_in_nothing() {
        let before = host("0000:01:00.0", "7", "6.12");
        let after = host("0000:01:00.0", "9", "6.12");
        after.add(&[("/proc/sys/kernel/random/boot_id", Entry::Text("other"))]);
        assert_eq!(lines(&diff(&before, &after)), [""; 0]);
    }

    #[test]
    fn a_card_that_moved_is_told_as_moved_and_not_as_gone_and_new() {
        let found = diff(&host("0000:01:00.0", "7", "6.12"), &host("0000:02:00.0", "9", "6.18"));
        assert_eq!(
            lines(&found),
            [
                r#"pci.devices.0000:02:00.0 Moved "0000:01:00.0" -> "0000:02:00.0""#,
                r#"kernel.release Changed "6.12" -> "6.18""#,
            ]
        );
    }

    #[test]
    fn a_neighbour_in_the_group_is_told_by_name() {
        let (before, after) = (host("0000:01:00.0", "7", "6.12"), host("0000:01:00.0", "7", "6.12"));
        after.add(&[("/sys/kernel/iommu_groups/7/devices/0000:00:1f.3", Entry::Directory)]);
        let found = lines(&diff(&before, &after));
        let expected = r#"pci.devices.0000:01:00.0.shares_its_group_with Changed [] -> ["0000:00:1f.3"]"#;
        assert!(found.contains(&expected.to_owned()), "{found:?}");
    }

    #[test]
    fn another_card_in_the_same_place_has_not_moved() {
        let (before, after) = (host("0000:01:00.0", "7", "6.12"), host("0000:01:00.0", "7", "6.12"));
        after.add(&[("/sys/bus/pci/devices/0000:01:00.0/device", Entry::Text("0x1563"))]);
        let found = lines(&diff(&before, &after));
        assert!(
            found.contains(&"pci.devices.0000:01:00.0.device_id Changed 4297 -> 5475".to_owned()),
            "{found:?}"
        );
    }

    #[test]
    fn what_one_side_could_not_read_is_not_compared() {
        let before = host("0000:01:00.0", "7", "6.12");
        let (old, new) = (before.source(), before.source_without(&["osrelease"]));
        let found = compare(&host::collect(&old), &host::collect(&new)).unwrap();
        assert!(found.is_empty());
        assert!(found.not_compared.contains(&"kernel.release".to_owned()), "{:?}", found.not_compared);
    }
}
