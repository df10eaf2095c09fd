//! Pages that are there, missing, in use and promised.

use super::*;
use crate::setup::action::{Action, Change};
use crate::setup::fake::{FakeKernel, Node};

const ROOMY: Node = Node { asked: 2, used: 0, room: 8, room_compacted: 8 };
const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

fn host(nodes: &[Node]) -> FakeKernel {
    let kernel = FakeKernel::new(&[]).with_nodes(nodes);
    kernel
        .put("/sys/devices/system/node/node0/meminfo", "Node 0 MemTotal: 65536 kB\nNode 0 MemFree: 12288 kB");
    kernel
}

fn change(kernel: &FakeKernel, count: u64, node: Option<u32>) -> Change {
    Action::Hugepages(Hugepages { size_bytes: 2 << 20, count, node }).observe(kernel).unwrap()
}

#[test]
fn what_the_kernel_did_not_find_at_first_it_finds_after_memory_was_moved_together() {
    let kernel = host(&[Node { room: 4, ..ROOMY }]);
    change(&kernel, 8, Some(0)).carry_out(&kernel).unwrap();
    assert_eq!(kernel.text(&format!("{POOL}/nr_hugepages")).as_deref(), Some("8"));
    assert_eq!(kernel.log().iter().filter(|line| line.starts_with(COMPACT)).count(), 1);
}

#[test]
fn too_few_pages_are_told_with_what_is_free_and_the_kernel_arguments_that_help() {
    let kernel = host(&[ROOMY, ROOMY]);
    let before = kernel.snapshot();
    let change = change(&kernel, 100, Some(0));

    let error = change.carry_out(&kernel).unwrap_err().to_string();
    change.take_back(&kernel).unwrap();

    assert_eq!(
        error,
        "the pool of 2MiB huge pages on node 0: expected 100 pages, found 8; the node has 12MiB of free memory left, \
         not in pieces of this size; reserve them early, when memory is still in one piece, by the kernel arguments \
         `hugepagesz=2M hugepages=0:100`"
    );
    assert_eq!(kernel.snapshot(), before);
}

#[test]
fn a_pool_that_is_larger_is_already_so() {
    assert!(change(&host(&[ROOMY, ROOMY]), 3, None).is_already_so());
    assert!(!change(&host(&[ROOMY, ROOMY]), 3, Some(1)).is_already_so());
}

#[test]
fn pages_of_the_whole_host_go_back_from_the_nodes_that_got_them() {
    let kernel = host(&[Node { asked: 5, ..ROOMY }, Node { asked: 0, ..ROOMY }]);
    let before = kernel.snapshot();
    let change = change(&kernel, 14, None);
    change.carry_out(&kernel).unwrap();
    change.take_back(&kernel).unwrap();
    assert_eq!(kernel.snapshot(), before);
}

#[test]
fn a_kernel_without_numa_has_one_pool() {
    let kernel = host(&[ROOMY]);
    std::fs::remove_dir_all(kernel.at(NODES)).unwrap();
    let on_all = Hugepages { size_bytes: 2 << 20, count: 4, node: None };
    assert_eq!(on_all.observe(&kernel).unwrap().parts, [Part { node: None, pages: 2 }]);
    let on_one = Hugepages { node: Some(0), ..on_all };
    assert!(matches!(on_one.observe(&kernel), Err(ActionError::Gone(object)) if object == on_one.object()));
}

#[test]
fn pages_in_use_or_promised_are_not_taken_back() {
    let kernel = host(&[ROOMY, ROOMY]);
    let change = change(&kernel, 6, Some(1));
    change.carry_out(&kernel).unwrap();
    change.may_take_back(&kernel).unwrap();
    let held = |used| [ROOMY, Node { asked: 6, used, ..ROOMY }];

    // Two pages may be in use: as many were there before.
    for (used, of_four) in [(2, None), (3, Some("has 1 of the 4 pages")), (6, Some("has 4 of the 4 pages"))] {
        kernel.set_nodes(&held(used));
        kernel.trouble(None);
        let error = change.may_take_back(&kernel).err().map(|error| error.to_string());
        assert_eq!(error.is_some(), of_four.is_some(), "{used}: {error:?}");
        assert!(error.unwrap_or_default().contains(of_four.unwrap_or_default()));
        assert_eq!(change.take_back(&kernel).is_err(), of_four.is_some());
        assert_eq!(kernel.writes() == 0, of_four.is_some());
    }

    kernel.set_nodes(&held(0));
    kernel.put(&format!("{POOL}/resv_hugepages"), "5");
    let promised = change.may_take_back(&kernel).unwrap_err().to_string();
    assert!(
        promised.contains("on node 1 is in use") && promised.contains("has 1 of the 4 pages"),
        "{promised}"
    );
}

#[test]
fn what_somebody_else_made_of_the_pool_is_drift_and_surplus_pages_are_nobodys_doing() {
    let kernel = host(&[ROOMY]);
    let change = change(&kernel, 6, None);
    change.carry_out(&kernel).unwrap();
    let standing = |asked, used| {
        kernel.set_nodes(&[Node { asked, used, ..ROOMY }]);
        change.standing(&kernel).unwrap()
    };
    assert_eq!(standing(6, 7), Standing::Applied);
    assert_eq!(standing(7, 0), Standing::Drifted("7 pages".to_owned()));
    assert_eq!(standing(1, 0), Standing::Drifted("1 page".to_owned()));
    assert_eq!(standing(4, 0), Standing::Between);
    assert_eq!(standing(2, 4), Standing::Before);
}

#[test]
fn the_journal_says_what_each_node_had() {
    let change = change(&host(&[ROOMY, Node { asked: 1, ..ROOMY }]), 6, None);
    let json = serde_json::to_value(&change).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "action": "hugepages",
            "goal": {"size_bytes": 2_097_152, "count": 6},
            "prior": {"parts": [{"node": 0, "pages": 2}, {"node": 1, "pages": 1}]},
        })
    );
    assert_eq!(serde_json::from_value::<Change>(json).unwrap(), change);
}
