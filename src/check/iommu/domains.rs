//! Default domains: what the host's own devices may reach, and how fast their mappings go.

use super::{COMMAND_LINE, command_line, group_file, units};
use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::iommu::{Group, Invalidation};

/// Types of domains in which a device reaches what was mapped for it, or nothing (Linux: drivers/iommu/iommu.c,
/// `iommu_group_show_type`).
const CONFINING: [&str; 4] = ["DMA", "DMA-FQ", "blocked", "unmanaged"];

/// A group whose default domain is of type `kind`.
fn group_of_type<'a>(facts: &'a HostFacts, kind: &str) -> Option<&'a Group> {
    let groups = facts.iommu.groups.known()?;
    groups.iter().find(|group| group.kind.known().is_some_and(|known| known == kind))
}

/// What `/sys/kernel/iommu_groups/*/type` hold together.
fn types(facts: &HostFacts) -> String {
    let types = facts.iommu.default_domains.known().into_iter().flatten();
    types.map(|(kind, count)| format!("{kind} ({count})")).collect::<Vec<_>>().join(", ")
}

/// `iommu-default-domain`
pub(super) fn default_domain(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "the type of the default domains";
    if let Err(outcome) = units(facts, SUBJECT) {
        return outcome;
    }
    let types = match &facts.iommu.default_domains {
        Fact::Known(known) if known.is_empty() => {
            return Outcome::unknown(
                "the kernel does not tell the type of its default domains (before Linux 5.11)",
            );
        }
        Fact::Known(_) => types(facts),
        unread => return Outcome::unread(unread, SUBJECT),
    };
    let kinds = facts.iommu.default_domains.known().into_iter().flatten().map(|(kind, _)| kind.as_str());
    if let Some(strange) = kinds.into_iter().find(|kind| *kind != "identity" && !CONFINING.contains(kind)) {
        return Outcome::unknown(format!("`{}` is no type of domain that is known", strange.escape_debug()))
            .evidence("/sys/kernel/iommu_groups/*/type", types);
    }
    let Some(group) = group_of_type(facts, "identity") else {
        return Outcome::pass("devices of the host are confined")
            .evidence("/sys/kernel/iommu_groups/*/type", types);
    };
    let outcome = Outcome::warn(format!("devices of the host are not confined: default domains are {types}"))
        .evidence(group_file(group.id, "type"), "identity");
    let argument = ["iommu", "iommu.passthrough"].into_iter().find_map(|name| {
        let mut values = facts.kernel.parameter(name);
        let value =
            values.find(|value| value.split(',').any(|word| matches!(word, "pt" | "1" | "y" | "Y")))?;
        Some(format!("{name}={value}"))
    });
    match argument {
        Some(argument) => outcome
            .evidence(COMMAND_LINE, command_line(facts))
            .cause(format!("`{argument}` makes identity the default"))
            .remedy(Remedy::without_kernel_argument(facts, &argument)),
        None => outcome
            .cause(
                "the kernel was built so (IOMMU_DEFAULT_PASSTHROUGH), or asks it for a device that needs it",
            )
            .remedy(Remedy::kernel_argument(facts, "iommu.passthrough=0")),
    }
}

/// `iommu-lazy-invalidation`
pub(super) fn lazy(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "when mappings are flushed";
    if let Err(outcome) = units(facts, SUBJECT) {
        return outcome;
    }
    match &facts.iommu.invalidation {
        Fact::Known(Invalidation::Lazy) => Outcome::pass("mappings are flushed in batches")
            .evidence("/sys/kernel/iommu_groups/*/type", types(facts)),
        Fact::Known(Invalidation::Strict) => strict(facts),
        Fact::NotPresent => Outcome::not_applicable("no default domain translates"),
        unread => Outcome::unread(unread, SUBJECT),
    }
}

fn strict(facts: &HostFacts) -> Outcome {
    let outcome = Outcome::warn("every unmapping waits for the IOMMU's caches")
        .evidence("/sys/kernel/iommu_groups/*/type", types(facts));
    let asks = |(name, word): (&'static str, &str)| {
        let mut values = facts.kernel.parameter(name);
        values.find(|value| value.split(',').any(|one| one == word)).map(|value| format!("{name}={value}"))
    };
    let argument = [("iommu.strict", "1"), ("intel_iommu", "strict"), ("amd_iommu", "fullflush")];
    if let Some(argument) = argument.into_iter().find_map(asks) {
        return outcome
            .evidence(COMMAND_LINE, command_line(facts))
            .cause(format!("`{argument}` asks for it"))
            .remedy(Remedy::without_kernel_argument(facts, &argument));
    }
    let emulated = facts
        .iommu
        .units
        .known()
        .into_iter()
        .flatten()
        .any(|unit| unit.vtd.known().is_some_and(|vtd| vtd.caching_mode));
    if emulated {
        return outcome
            .cause("the IOMMU is an emulated one in caching mode, where batches do not pay")
            .remedy(Remedy::advice(
                "nothing on this machine: its hypervisor decides (QEMU: `caching-mode`)",
            ));
    }
    outcome
        .cause("the kernel was built so (IOMMU_DEFAULT_DMA_STRICT), or set so at run time")
        .remedy(Remedy::kernel_argument(facts, "iommu.strict=0"))
}
