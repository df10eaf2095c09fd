//! One emulated host with every way in which functions come to share a group: the reason that is told for each is the
//! one that its hardware has.

use serde_json::{Value, json};

use super::{Lab, Run};
use crate::support::root;

/// What is asked about, and the documents' names.
const SCRIPT: &str = r#"
set -e
thruway groups >"$LAB_OUT/groups.txt"
thruway groups --format json >"$LAB_OUT/groups.json"
for address in 01:00.0 02:00.0 03:00.0 07:00.0 0a:01.0 0b:00.1 00:1f.2; do
    thruway groups --why $address --format json >"$LAB_OUT/$address.json"
done
thruway groups --why 03:00.0 04:00.0 --format json >"$LAB_OUT/together.json"
thruway groups --why 07:00.0 08:00.0 --format json >"$LAB_OUT/apart.json"
thruway groups --why 03:00.0 >"$LAB_OUT/why.txt"
setpriv --reuid=65534 --regid=65534 --clear-groups thruway groups --format json >"$LAB_OUT/nobody.json"
"#;

struct Told(Run);

impl Told {
    fn data(&self, name: &str) -> Value {
        self.0.json(&format!("{name}.json"))["data"].clone()
    }

    /// Kind, effect and function of each cause of the group of `address`, and its members.
    fn causes(&self, address: &str) -> Vec<Value> {
        let data = self.data(address);
        let words = |cause: &Value| {
            json!([
                cause["kind"],
                cause["function"],
                cause["acs_capability"],
                cause["members"],
                cause["effect"]
            ])
        };
        data["causes"].as_array().unwrap().iter().map(words).collect()
    }
}

#[test]
fn each_way_to_share_a_group_is_told_by_its_cause() {
    let Some(lab) = Lab::open() else { return };
    let hardware = root().join("tests/it/lab/groups.yaml");
    let run = lab.run(hardware.to_str().unwrap(), SCRIPT);
    run.succeeded();
    let told = Told(run);

    assert_eq!(told.causes("01:00.0"), [json!(null); 0], "alone behind a port with ACS");
    assert_eq!(
        told.causes("02:00.0"),
        [json!(["port_lacks_acs", "0000:00:03.0", false, ["0000:00:03.0", "0000:02:00.0"], "joins"])]
    );
    assert_eq!(
        told.causes("03:00.0"),
        [
            json!(["port_lacks_acs", "0000:00:04.0", false, ["0000:00:04.0", "0000:03:00.0"], "joins"]),
            json!(["port_lacks_acs", "0000:00:04.1", false, ["0000:00:04.1", "0000:04:00.0"], "joins"]),
            json!(["functions_share_slot", "0000:00:04.0", false, ["0000:00:04.0", "0000:00:04.1"], "joins"]),
        ]
    );
    assert_eq!(
        told.causes("07:00.0"),
        [json!(["port_lacks_acs", "0000:06:00.0", false, ["0000:06:00.0", "0000:07:00.0"], "joins"])]
    );
    assert_eq!(
        told.causes("0a:01.0"),
        [json!([
            "bridge_no_isolation",
            "0000:09:00.0",
            null,
            ["0000:09:00.0", "0000:0a:01.0", "0000:0a:02.0"],
            "joins"
        ])]
    );
    let card = ["0000:0b:00.0", "0000:0b:00.1", "0000:0b:00.2"];
    assert_eq!(
        told.causes("0b:00.1"),
        [json!(["functions_share_slot", "0000:0b:00.0", false, card, "joins"])]
    );
    let chipset = ["0000:00:1f.0", "0000:00:1f.2", "0000:00:1f.3"];
    assert_eq!(
        told.causes("00:1f.2"),
        [json!(["root_complex_integrated", "0000:00:1f.0", null, chipset, "joins"])]
    );

    two_functions(&told);
    another_slot(&told);
    every_group_is_explained(&told);
    without_privilege(&told);
}

fn two_functions(told: &Told) {
    let together = told.data("together");
    assert_eq!(together["together"], true, "{together:#}");
    let kinds: Vec<_> = together["causes"].as_array().unwrap().iter().map(|cause| &cause["kind"]).collect();
    assert_eq!(kinds, ["port_lacks_acs", "functions_share_slot", "port_lacks_acs"]);
    assert_eq!(told.data("apart")["together"], false);
}

/// What the empty slot gives, and the slot of a neighbour in the bad group.
fn another_slot(told: &Told) {
    let data = told.data("03:00.0");
    let slot = |port: &str| {
        data["slots"].as_array().unwrap().iter().find(|slot| slot["port"] == port).unwrap_or(&Value::Null)
    };
    assert_eq!(
        (&slot("0000:00:08.0")["alone"], &slot("0000:00:08.0")["occupied_by"]),
        (&json!(true), &json!([]))
    );
    assert_eq!(slot("0000:00:04.0")["neighbours"], json!(["0000:04:00.0"]), "{data:#}");
    assert_eq!(slot("0000:06:01.0")["alone"], true, "its port alone would share");
    let text = told.0.file("why.txt");
    assert!(text.contains("does not keep peers apart: no ACS"), "{text}");
}

/// The replay and the kernel agree everywhere: nothing is unknown.
fn every_group_is_explained(told: &Told) {
    let groups = told.data("groups");
    for group in groups["groups"].as_array().unwrap() {
        let causes = group["causes"].as_array().unwrap();
        assert!(causes.iter().all(|cause| cause["kind"] != "unknown"), "{group:#}");
        assert!(group["devices"].as_array().unwrap().len() == 1 || !causes.is_empty(), "{group:#}");
    }
}

/// Nobody reads 64 bytes of each function: causes are unknown, never a lack of ACS.
fn without_privilege(told: &Told) {
    let groups = told.data("nobody");
    let kinds: Vec<_> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["causes"].as_array().unwrap())
        .map(|cause| cause["kind"].as_str().unwrap())
        .collect();
    assert!(kinds.contains(&"unknown"), "{groups:#}");
    assert!(!kinds.contains(&"port_lacks_acs") && !kinds.contains(&"bridge_no_isolation"), "{groups:#}");
}
