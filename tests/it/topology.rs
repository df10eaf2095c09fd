//! `thruway topology --root` on the hosts in `tests/hosts`.

use crate::hosts::Host;
use crate::support::assert_golden;

#[test]
fn trees_pictures_and_graphs() {
    for name in ["vtd-igb", "shared-group", "intel-off", "malformed", "software-kvm"] {
        let host = Host::new(name);
        for (format, ending) in [("tree", "txt"), ("svg", "svg"), ("dot", "dot")] {
            let run = host.ask(100, &["topology", "--format", format]);
            assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{name} as {format}");
            assert_golden(format!("tests/golden/topology/{name}.{ending}"), &run.stdout);
        }
    }
}

#[test]
fn the_document_nests_functions_below_their_bridges() {
    let run = Host::new("vtd-igb").ask(100, &["topology", "--format", "json"]);
    let document: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(document["schema"], "thruway.topology");
    let port = &document["data"]["roots"][0]["functions"][1];
    assert_eq!(port["address"], "0000:00:02.0");
    assert_eq!(port["functions"][0]["address"], "0000:01:00.0");
    assert_eq!(port["functions"][0]["iommu_group"], 6);
}

#[test]
fn colour_comes_only_when_asked_for() {
    let host = Host::new("vtd-igb");
    assert!(!host.ask(100, &["topology"]).stdout.contains('\x1b'));
    assert!(host.ask(100, &["--color", "always", "topology"]).stdout.contains('\x1b'));
}
