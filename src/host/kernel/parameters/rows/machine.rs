//! Parameters about processors, memory, interrupt controllers, the console's framebuffer and modules.

use crate::host::kernel::parameters::known::{Known, Need, Subject, Takes, row, word};

/// About the console's framebuffer.
pub(super) const OF_DISPLAY: &[Known] = &[
    row("initcall_blacklist", Subject::Display, Takes::Text, "parts of the kernel that are not started")
        .each(),
    row(
        "nomodeset",
        Subject::Display,
        Takes::Nothing,
        "display drivers do not set modes; the firmware's picture stays",
    ),
];

const ISOLCPUS_FLAGS: &[&str] = &["nohz", "domain", "managed_irq"];

/// About memory.
pub(super) const OF_MEMORY: &[Known] = &[
    row("default_hugepagesz", Subject::Memory, Takes::Size, "the size of huge pages for who names none")
        .needs(&[Need::Option("HUGETLBFS")]),
    row(
        "hugepagesz",
        Subject::Memory,
        Takes::Size,
        "the size of the huge pages that the next argument counts",
    )
    .needs(&[Need::Option("HUGETLBFS")])
    .each(),
    row("hugepages", Subject::Memory, Takes::Text, "huge pages to take at boot")
        .needs(&[Need::Option("HUGETLBFS")])
        .each(),
    row(
        "transparent_hugepage",
        Subject::Memory,
        Takes::Words(&[
            word("always", "huge pages wherever they fit"),
            word("madvise", "huge pages for who asks"),
            word("never", "no huge pages but those of hugetlbfs"),
        ]),
        "huge pages that the kernel makes by itself",
    )
    .needs(&[Need::Option("TRANSPARENT_HUGEPAGE")]),
    row("mem", Subject::Memory, Takes::Text, "memory above this is not used"),
    row("memmap", Subject::Memory, Takes::Text, "corrects firmware's map of memory").each(),
    row("numa", Subject::Memory, Takes::Text, "how the nodes of memory are found"),
    row("numa_balancing", Subject::Memory, Takes::Text, "pages move to the node that uses them")
        .needs(&[Need::Option("NUMA_BALANCING")]),
    row("cma", Subject::Memory, Takes::Text, "memory kept for large buffers"),
    row("swiotlb", Subject::Memory, Takes::Text, "memory for bounce buffers"),
];

/// About processors and interrupt controllers.
pub(super) const OF_CPU: &[Known] = &[
    row("isolcpus", Subject::Cpu, Takes::Cpus(ISOLCPUS_FLAGS), "the scheduler leaves these processors alone"),
    row(
        "nohz_full",
        Subject::Cpu,
        Takes::Cpus(&[]),
        "no timer tick on these processors while one program runs",
    )
    .needs(&[Need::Option("NO_HZ_FULL")]),
    row("rcu_nocbs", Subject::Cpu, Takes::Cpus(&[]), "RCU's work is done elsewhere than on these processors")
        .needs(&[Need::Option("RCU_NOCB_CPU")]),
    row("rcu_nocb_poll", Subject::Cpu, Takes::Nothing, "RCU's work is polled for"),
    row(
        "irqaffinity",
        Subject::Cpu,
        Takes::Cpus(&[]),
        "interrupts go to these processors unless told otherwise",
    ),
    row("mitigations", Subject::Cpu, Takes::Text, "which defects of the processor are worked round"),
    row("nosmt", Subject::Cpu, Takes::Text, "one thread of each core only"),
    row("nosmp", Subject::Cpu, Takes::Nothing, "one processor only"),
    row("maxcpus", Subject::Cpu, Takes::Number, "most processors that are started"),
    row("nr_cpus", Subject::Cpu, Takes::Number, "most processors that the kernel knows"),
    row("clearcpuid", Subject::Cpu, Takes::Text, "features of the processor that are hidden").each(),
    row("processor.max_cstate", Subject::Cpu, Takes::Number, "how deep idle processors sleep"),
    row("intel_idle.max_cstate", Subject::Cpu, Takes::Number, "how deep idle processors sleep"),
    row("intel_pstate", Subject::Cpu, Takes::Text, "how Intel's frequencies are chosen"),
    row("amd_pstate", Subject::Cpu, Takes::Text, "how AMD's frequencies are chosen"),
    row("idle", Subject::Cpu, Takes::Text, "what idle processors do"),
    row(
        "noapic",
        Subject::Interrupts,
        Takes::Nothing,
        "no I/O APIC: interrupts of lines by the old controller",
    ),
    row(
        "nolapic",
        Subject::Interrupts,
        Takes::Nothing,
        "no local APIC: one processor, no message interrupts",
    ),
    row("acpi", Subject::Interrupts, Takes::Text, "whether firmware's tables are used"),
    row(
        "no_timer_check",
        Subject::Interrupts,
        Takes::Nothing,
        "the timer's interrupt is not verified at boot",
    ),
    row("threadirqs", Subject::Interrupts, Takes::Nothing, "handlers of interrupts run as threads"),
];

/// About modules.
pub(super) const OF_MODULES: &[Known] = &[
    row(
        "modprobe.blacklist",
        Subject::Modules,
        Takes::Text,
        "modules that are not loaded for a device by themselves",
    )
    .each(),
    row("module_blacklist", Subject::Modules, Takes::Text, "modules that the kernel refuses"),
    row(
        "rd.driver.pre",
        Subject::Modules,
        Takes::Text,
        "modules that the initial RAM file system loads first",
    )
    .needs(&[Need::Dracut])
    .each(),
    row(
        "rd.driver.post",
        Subject::Modules,
        Takes::Text,
        "modules that the initial RAM file system loads last",
    )
    .needs(&[Need::Dracut])
    .each(),
    row(
        "rd.driver.blacklist",
        Subject::Modules,
        Takes::Text,
        "modules that the initial RAM file system leaves out",
    )
    .needs(&[Need::Dracut])
    .each(),
    row(
        "rdblacklist",
        Subject::Modules,
        Takes::Text,
        "modules that the initial RAM file system leaves out (old)",
    )
    .needs(&[Need::Dracut])
    .each(),
];

/// `video=` with the name of a framebuffer of the firmware; with anything else it sets modes and is not told.
pub(in crate::host::kernel::parameters) const FRAMEBUFFERS: &[Known] = &[row(
    "video",
    Subject::Display,
    Takes::Words(&[
        word("efifb:off", "no console on the firmware's picture (UEFI)"),
        word("vesafb:off", "no console on the firmware's picture (BIOS)"),
        word("simplefb:off", "no console on the firmware's picture"),
    ]),
    "the console on the firmware's picture",
)
.needs(&[Need::OldFramebuffer])];
