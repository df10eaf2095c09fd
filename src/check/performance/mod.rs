//! What costs a guest time: frequency, idle states, the clock, isolation, mitigations, nodes.

mod isolation;
mod mitigations;
mod nodes;
mod power;
#[cfg(test)]
pub(super) mod tests;

use super::{Check, Purpose, Question};

const SPEED: &[Purpose] = &[Purpose::Performance];

/// The checks of this file.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "performance-governor",
        title: "CPUs run at full speed under load",
        purposes: SPEED,
        why: "A governor that follows the load raises the frequency late, and sees a guest that waits for a device as \
              idle. `performance` does not wait.",
        refs: &[
            "Linux: Documentation/admin-guide/pm/cpufreq.rst",
            "Documentation/admin-guide/pm/intel_pstate.rst",
        ],
        run: Question::Host(power::governor),
    },
    Check {
        id: "performance-idle-states",
        title: "idle CPUs wake up fast",
        purposes: SPEED,
        why: "A guest that waits lets its CPU idle, and the deeper that sleeps the longer an interrupt takes to wake it. \
              States of more than 100 microseconds are felt by networks and NVMe.",
        refs: &["Linux: Documentation/admin-guide/pm/cpuidle.rst"],
        run: Question::Host(power::idle_states),
    },
    Check {
        id: "performance-clock",
        title: "the kernel tells time by the TSC",
        purposes: SPEED,
        why: "Only while the host tells time by the TSC can KVM give guests a clock that they read without leaving. By \
              the HPET or the ACPI timer each reading is slow on the host and an exit in the guest.",
        refs: &[
            "Linux: arch/x86/kvm/x86.c, gtod_is_based_on_tsc",
            "Documentation/virt/kvm/x86/timekeeping.rst",
        ],
        run: Question::Host(power::clock),
    },
    Check {
        id: "performance-isolation",
        title: "isolated CPUs are free of tasks and ticks alike",
        purposes: SPEED,
        why: "isolcpus keeps tasks away and leaves the timer's tick; nohz_full stops the tick and leaves tasks. One \
              without the other gives half of what it costs.",
        refs: &[
            "Linux: Documentation/admin-guide/kernel-parameters.txt, isolcpus, nohz_full",
            "Documentation/timers/no_hz.rst",
        ],
        run: Question::Host(isolation::tasks_and_ticks),
    },
    Check {
        id: "performance-isolated-cpus-run",
        title: "arguments that isolate name CPUs that run",
        purposes: SPEED,
        why: "The kernel leaves CPUs that it does not have out of a list without a word: the list was made for another \
              machine, or CPUs were switched off since.",
        refs: &["Linux: Documentation/admin-guide/kernel-parameters.rst, cpu lists"],
        run: Question::Host(isolation::named_cpus_run),
    },
    Check {
        id: "performance-isolated-cores",
        title: "isolated CPUs are whole cores",
        purposes: SPEED,
        why: "The threads of a core share its execution units and caches. While one thread is isolated and its sibling \
              is not, the host's work slows the guest as if nothing were isolated.",
        refs: &["Linux: Documentation/admin-guide/cputopology.rst, thread_siblings_list"],
        run: Question::Host(isolation::whole_cores),
    },
    Check {
        id: "performance-cpuset",
        title: "CPUs can be set apart without a reboot",
        purposes: SPEED,
        why: "A partition of control groups (version 2) sets CPUs apart while a guest runs and gives them back after. \
              Version 1 cannot, and without the controller cpuset nothing can.",
        refs: &["Linux: Documentation/admin-guide/cgroup-v2.rst, cpuset.cpus.partition"],
        run: Question::Host(isolation::control_groups),
    },
    Check {
        id: "performance-sibling-threads",
        title: "threads of a core keep secrets from each other",
        purposes: &[Purpose::Kvm],
        why: "On some processors a thread can read what its sibling works on. Two guests on one core, or a guest and the \
              host, then have no secrets from each other.",
        refs: &[
            "Linux: Documentation/admin-guide/hw-vuln/core-scheduling.rst",
            "Documentation/admin-guide/hw-vuln/l1tf.rst",
        ],
        run: Question::Host(mitigations::sibling_threads),
    },
    Check {
        id: "performance-vulnerabilities",
        title: "guests cannot use faults of the processor",
        purposes: &[Purpose::Kvm],
        why: "Against most of these faults the kernel has a remedy. One that is open lets a guest read memory of the \
              host or of other guests.",
        refs: &["Linux: Documentation/admin-guide/hw-vuln/index.rst"],
        run: Question::Host(mitigations::open),
    },
    Check {
        id: "performance-mitigations",
        title: "entering a guest is cheap",
        purposes: SPEED,
        why: "Some remedies against faults of the processor work on every entry to a guest or exit from it: flushing a \
              cache, clearing branch predictors, breaking huge pages up. Their price is paid with each exit.",
        refs: &["Linux: Documentation/admin-guide/hw-vuln/index.rst"],
        run: Question::Host(mitigations::costs),
    },
    Check {
        id: "performance-node-interleaving",
        title: "firmware shows the nodes that there are",
        purposes: SPEED,
        why: "Firmware can interleave the memory of all sockets and show one node. Half of all accesses then cross to \
              another socket, and nobody can place a guest beside its device.",
        refs: &["ACPI 6.5, 5.2.16 (SRAT)", "Linux: Documentation/mm/numa.rst"],
        run: Question::Host(nodes::interleaving),
    },
    Check {
        id: "performance-numa-balancing",
        title: "the kernel does not move pinned guests' memory",
        purposes: SPEED,
        why: "NUMA balancing unmaps memory to see who uses it. For guests that are placed by hand, or whose memory is \
              pinned for a device, that is all cost: nothing can move.",
        refs: &["Linux: Documentation/admin-guide/sysctl/kernel.rst, numa_balancing"],
        run: Question::Host(nodes::balancing),
    },
    Check {
        id: "performance-function-node",
        title: "it is known where the function is",
        purposes: SPEED,
        why: "A guest is fastest on the CPUs and the memory of the node that its device is on. Where firmware does not \
              say which that is, the kernel takes any.",
        refs: &["Linux: Documentation/ABI/testing/sysfs-bus-pci, numa_node"],
        run: Question::Function(nodes::of_function),
    },
];
