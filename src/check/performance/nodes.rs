//! The nodes of a NUMA machine: shown by firmware, left in peace by the kernel, known of a function.

use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::host::scheduling::NUMA_BALANCING;
use crate::host::topology::NODES;

/// `performance-node-interleaving`
pub(super) fn interleaving(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "whether firmware shows the nodes";
    let topology = &facts.topology;
    let packages = match &topology.packages {
        Fact::Known(packages) => *packages,
        Fact::NotPresent => {
            return Outcome::not_applicable("the kernel does not tell how many sockets there are");
        }
        unread => return Outcome::unread(unread, SUBJECT),
    };
    if packages < 2 {
        return Outcome::not_applicable("there is one socket");
    }
    if topology.nodes.is_unread() {
        return Outcome::unread(&topology.nodes, SUBJECT);
    }
    let nodes = topology.nodes().len();
    let evidence = |outcome: Outcome| {
        outcome
            .evidence(
                "/sys/devices/system/cpu/cpu*/topology/physical_package_id",
                format!("{packages} sockets"),
            )
            .evidence(NODES, format!("{nodes} nodes"))
    };
    if nodes > 1 {
        return evidence(Outcome::pass(format!("firmware shows {nodes} nodes for {packages} sockets")));
    }
    if facts.cpu.hypervisor.present != Fact::Known(false) {
        return evidence(Outcome::not_applicable(
            "sockets of a virtual machine are what its hypervisor likes",
        ));
    }
    evidence(Outcome::warn(format!("there are {packages} sockets, and firmware shows one node")))
        .cause("firmware interleaves memory, or `numa=off` is on the command line")
        .remedy(
            Remedy::advice(
                "switch node interleaving off in the firmware setup, usually with the settings of memory: `Node \
                 Interleaving` (Dell, HPE, Lenovo), `NUMA` on (Supermicro, ASUS), `NUMA nodes per socket` (AMD)",
            )
            .after_reboot(),
        )
}

/// `performance-numa-balancing`
pub(super) fn balancing(facts: &HostFacts) -> Outcome {
    if facts.topology.nodes.is_unread() {
        return Outcome::unread(&facts.topology.nodes, "how many nodes there are");
    }
    if facts.topology.nodes().len() < 2 {
        return Outcome::not_applicable("there is one node");
    }
    let on = match &facts.scheduling.numa_balancing {
        Fact::Known(on) => *on,
        Fact::NotPresent => return Outcome::not_applicable("this kernel does not balance nodes"),
        unread => return Outcome::unread(unread, "whether the kernel balances nodes"),
    };
    if !on {
        return Outcome::pass("the kernel does not balance nodes").evidence(NUMA_BALANCING, 0);
    }
    let isolated = facts.scheduling.isolated_cpus();
    let passed = facts.pci.functions().iter().find(|function| function.vfio_bound == Fact::Known(true));
    let why = match passed {
        Some(function) => format!("{} is bound to VFIO: memory of its guest is pinned", function.address),
        None if !isolated.is_empty() => {
            format!("CPUs {isolated} are isolated: guests there are placed by hand")
        }
        None => {
            return Outcome::pass("the kernel balances nodes, which helps guests that nobody places")
                .evidence(NUMA_BALANCING, 1);
        }
    };
    Outcome::warn("the kernel unmaps memory of guests whose memory stays where it is")
        .evidence(NUMA_BALANCING, 1)
        .cause(why)
        .remedy(Remedy::command(
            "sudo sysctl kernel.numa_balancing=0",
            "until the next boot; to keep it, put `kernel.numa_balancing = 0` into /etc/sysctl.d; guests that nobody \
             places then stay where they started",
        ))
}

/// `performance-function-node`
pub(super) fn of_function(facts: &HostFacts, function: &PciDevice) -> Outcome {
    let file = format!("/sys/bus/pci/devices/{}/numa_node", function.address);
    if facts.topology.nodes.is_unread() {
        return Outcome::unread(&facts.topology.nodes, "how many nodes there are");
    }
    if facts.topology.nodes().len() < 2 {
        return Outcome::not_applicable("there is one node, or none that is known");
    }
    let node = match &function.numa_node {
        Fact::Known(node) => *node,
        Fact::NotPresent => {
            return Outcome::warn("firmware does not say on which node the function is")
                .evidence(file, -1)
                .cause("its ACPI tables name no proximity domain (_PXM) for the bus")
                .remedy(Remedy::advice(
                    "look in the board's manual for the socket of the slot, and place the guest there by hand; a later \
                     firmware may say",
                ));
        }
        unread => return Outcome::unread(unread, "the function's node"),
    };
    let Some(known) = facts.topology.node(node) else {
        return Outcome::unknown(format!(
            "the function is on node {node}, of which the kernel shows nothing"
        ))
        .evidence(file, node);
    };
    match &known.cpus {
        Fact::Known(cpus) if cpus.is_empty() => {
            Outcome::warn(format!("the function is on node {node}, which has no CPUs"))
                .evidence(file, node)
                .evidence(format!("{NODES}/node{node}/cpulist"), "empty")
                .cause("no processor is in that socket, its CPUs are offline, or the node is of memory alone")
                .remedy(Remedy::hardware("a slot of a node with CPUs"))
        }
        Fact::Known(cpus) => Outcome::pass(format!(
            "it is on node {node}: give its guest CPUs of {cpus}, and memory of that node"
        ))
        .evidence(file, node)
        .evidence(format!("{NODES}/node{node}/cpulist"), cpus),
        unread => Outcome::unread(unread, "the CPUs of the function's node"),
    }
}
