//! The IOMMU: running, translating, remapping interrupts; reserved regions; the ways to do without it.

mod domains;
mod interrupts;
mod limits;
mod regions;
mod running;
#[cfg(test)]
pub(super) mod tests;
mod unprotected;

use super::{Check, Outcome, Purpose, Question};
use crate::host::HostFacts;
use crate::host::iommu::Unit;

const ANY_USE: &[Purpose] = &[Purpose::Vfio, Purpose::Sriov];
const SPEED: &[Purpose] = &[Purpose::Performance];

/// The checks of this file.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "iommu-running",
        title: "the kernel runs an IOMMU",
        purposes: ANY_USE,
        why: "An IOMMU translates the addresses that devices use. Without one a device of a guest could read and write \
              all of the host's memory, so the kernel hands none out.",
        refs: &["Linux: Documentation/driver-api/vfio.rst", "Intel VT-d 4.1, 1", "AMD 48882 rev. 3.07, 2"],
        run: Question::Host(running::running),
    },
    Check {
        id: "iommu-dma-translation",
        title: "the IOMMU can translate DMA",
        purposes: ANY_USE,
        why: "A unit may remap interrupts alone. Its capability word then offers no width for page tables, and no \
              argument of the kernel changes that.",
        refs: &["Intel VT-d 4.1, 11.4.2, SAGAW"],
        run: Question::Host(running::dma_translation),
    },
    Check {
        id: "iommu-groups",
        title: "every function is in a group",
        purposes: ANY_USE,
        why: "The kernel hands devices to guests by groups. A function without one is not behind the IOMMU: it cannot \
              be passed through, and the host is not protected from it.",
        refs: &["Linux: Documentation/ABI/testing/sysfs-kernel-iommu_groups"],
        run: Question::Host(running::groups),
    },
    Check {
        id: "iommu-arguments",
        title: "IOMMU arguments of the kernel have an effect",
        purposes: ANY_USE,
        why: "Arguments that are copied from guides often do nothing: `amd_iommu=on` is no value, `iommu=pt` switches \
              nothing on, and an argument for the other maker's IOMMU is ignored.",
        refs: &["Linux: Documentation/admin-guide/kernel-parameters.txt, amd_iommu, intel_iommu, iommu"],
        run: Question::Host(running::arguments),
    },
    Check {
        id: "iommu-interrupt-remapping",
        title: "interrupts are remapped",
        purposes: ANY_USE,
        why: "Without remapping a device can write any interrupt message, so a guest that has one could raise \
              interrupts of the host. The kernel refuses to hand devices out then, unless it is told to take the risk.",
        refs: &["Intel VT-d 4.1, 5.1", "Linux: drivers/vfio/vfio_iommu_type1.c, allow_unsafe_interrupts"],
        run: Question::Host(interrupts::remapping),
    },
    Check {
        id: "iommu-unsafe-interrupts",
        title: "VFIO insists on interrupt remapping",
        purposes: ANY_USE,
        why: "`allow_unsafe_interrupts` lets VFIO hand devices out without interrupt remapping. Guides set it blindly; \
              where interrupts are remapped it does nothing but remove the protection for the day when they are not.",
        refs: &["Linux: drivers/vfio/vfio_iommu_type1.c", "Linux: drivers/iommu/iommufd/device.c"],
        run: Question::Host(interrupts::unsafe_allowed),
    },
    Check {
        id: "iommu-posted-interrupts",
        title: "the IOMMU posts interrupts to running guests",
        purposes: SPEED,
        why: "A unit that posts interrupts delivers those of a passed-through device to a running virtual CPU without \
              leaving the guest. Without it each interrupt costs an exit.",
        refs: &["Intel VT-d 4.1, 5.2", "AMD 48882 rev. 3.07, guest virtual APIC"],
        run: Question::Host(interrupts::posted),
    },
    Check {
        id: "iommu-x2apic-opt-out",
        title: "firmware lets the kernel use x2APIC",
        purposes: &[Purpose::Performance, Purpose::Kvm],
        why: "Firmware can ask the kernel to stay with xAPIC. Machines with more than 255 CPUs cannot use all of them \
              then, and interrupt delivery is slower.",
        refs: &["Intel VT-d 4.1, 8.1, X2APIC_OPT_OUT"],
        run: Question::Host(interrupts::x2apic_opt_out),
    },
    Check {
        id: "iommu-default-domain",
        title: "devices of the host are confined, too",
        purposes: &[Purpose::Vfio],
        why: "With default domains of type identity (`iommu=pt`) the host's own devices reach all of memory. That is \
              faster, does not matter to devices of guests, and leaves the host open to its own devices.",
        refs: &["Linux: Documentation/ABI/testing/sysfs-kernel-iommu_groups, type"],
        run: Question::Host(domains::default_domain),
    },
    Check {
        id: "iommu-lazy-invalidation",
        title: "mappings are flushed in batches",
        purposes: SPEED,
        why: "In strict mode every unmapping of a host's device waits for the IOMMU to flush its caches, which costs \
              network and NVMe throughput. Lazy mode flushes in batches.",
        refs: &["Linux: Documentation/admin-guide/kernel-parameters.txt, iommu.strict"],
        run: Question::Host(domains::lazy),
    },
    Check {
        id: "iommu-address-width",
        title: "the IOMMU reaches all of memory",
        purposes: ANY_USE,
        why: "A unit translates addresses of a limited width. Where memory reaches further, a guest that has a device \
              cannot have all of its memory mapped.",
        refs: &["Intel VT-d 4.1, 11.4.2, MGAW and SAGAW", "AMD 48882 rev. 3.07, EFR, HATS"],
        run: Question::Host(limits::address_width),
    },
    Check {
        id: "iommu-snoop-control",
        title: "the IOMMU keeps devices coherent with caches",
        purposes: &[Purpose::Performance],
        why: "Without snoop control a device may bypass the caches. KVM must then let the guest flush caches with \
              WBINVD, which stalls the host's processors, and honour the guest's memory types.",
        refs: &["Intel VT-d 4.1, 11.4.3, SC", "Linux: virt/kvm/vfio.c"],
        run: Question::Host(limits::snoop_control),
    },
    Check {
        id: "iommu-direct-regions",
        title: "firmware holds no memory of devices",
        purposes: ANY_USE,
        why: "Firmware may demand that a device keeps reaching a part of memory one to one (RMRR, IVMD). A guest's \
              memory may not be there, so the kernel refuses to hand such a device out.",
        refs: &["Intel VT-d 4.1, 8.4", "Linux: commit a48ce36e2786"],
        run: Question::Host(regions::host),
    },
    Check {
        id: "iommu-function-direct-region",
        title: "firmware holds no memory of this function's group",
        purposes: ANY_USE,
        why: "The kernel refuses a whole group when firmware demands a direct mapping (RMRR, IVMD) for one of its \
              members: `Firmware has requested this device have a 1:1 IOMMU mapping`.",
        refs: &["Intel VT-d 4.1, 8.4", "Linux: commit a48ce36e2786"],
        run: Question::Function(regions::function),
    },
    Check {
        id: "iommu-no-iommu-mode",
        title: "VFIO hands nothing out without an IOMMU",
        purposes: ANY_USE,
        why: "In no-IOMMU mode VFIO hands functions out with nothing between them and the host's memory: who has one \
              owns the host. It is for programs of the host's root, never for guests.",
        refs: &["Linux: drivers/vfio/Kconfig, VFIO_NOIOMMU"],
        run: Question::Host(unprotected::no_iommu_mode),
    },
    Check {
        id: "iommu-faults",
        title: "the IOMMU refused no access",
        purposes: ANY_USE,
        why: "A refused access is a driver's or a guest's mistake, a mapping that firmware forgot, or an attack. A \
              device that is refused does not work.",
        refs: &["Intel VT-d 4.1, 7", "AMD 48882 rev. 3.07, event log"],
        run: Question::Host(unprotected::faults),
    },
];

const UNITS: &str = "/sys/class/iommu";
const COMMAND_LINE: &str = "/proc/cmdline";

/// The units that run, or the answer where none does or nobody can say. `subject` as in [`Outcome::unread`].
fn units<'a>(facts: &'a HostFacts, subject: &str) -> Result<&'a [Unit], Outcome> {
    match facts.iommu.units.known() {
        Some(units) if units.is_empty() => {
            Err(Outcome::not_applicable("no IOMMU runs").evidence(UNITS, "empty"))
        }
        Some(units) => Ok(units),
        None => Err(Outcome::unread(&facts.iommu.units, subject)),
    }
}

/// The command line, as evidence.
fn command_line(facts: &HostFacts) -> &str {
    facts.kernel.command_line.known().map_or("", String::as_str)
}

/// A group's attribute, as the place of evidence.
fn group_file(id: u32, file: &str) -> String {
    format!("/sys/kernel/iommu_groups/{id}/{file}")
}
