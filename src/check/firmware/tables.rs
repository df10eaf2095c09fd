//! The tables by which firmware describes IOMMUs: their form, their sense, and what the kernel found in them.

use std::collections::BTreeSet;

use super::TABLES;
use crate::check::{Outcome, Remedy, Status};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::kernel_log::KernelLog;
use crate::spec::dmar::{self, Dmar};
use crate::spec::ivrs::{self, Ivrs};
use crate::spec::sdt::UnknownRecord;

/// How many faults of a table, and how many messages, are told.
const TOLD: usize = 5;

/// The table that firmware has.
pub(super) enum Table<'a> {
    Dmar(&'a Dmar),
    Ivrs(&'a Ivrs),
}

impl Table<'_> {
    /// Where it stands.
    pub(super) fn path(&self) -> String {
        let name = match self {
            Self::Dmar(_) => dmar::SIGNATURE,
            Self::Ivrs(_) => ivrs::SIGNATURE,
        };
        format!("{TABLES}/{name}")
    }
}

/// The table, or the answer where there is none or nobody can say. `subject` as in [`Outcome::unread`].
pub(super) fn table<'a>(facts: &'a HostFacts, subject: &str) -> Result<Table<'a>, Outcome> {
    match (&facts.firmware.dmar, &facts.firmware.ivrs) {
        (Fact::Known(dmar), _) => Ok(Table::Dmar(dmar)),
        (_, Fact::Known(ivrs)) => Ok(Table::Ivrs(ivrs)),
        (Fact::NotPresent, Fact::NotPresent) => {
            Err(Outcome::not_applicable("firmware has neither a DMAR nor an IVRS table"))
        }
        (Fact::NotPresent, unread) => Err(Outcome::unread(unread, subject)),
        (unread, _) => Err(Outcome::unread(unread, subject)),
    }
}

fn newer_firmware() -> Remedy {
    Remedy::advice("update the firmware; report the fault to the maker of the board with these lines")
        .after_reboot()
}

/// `firmware-iommu-table`
pub(super) fn well_formed(facts: &HostFacts) -> Outcome {
    let table = match table(facts, "whether the table of IOMMUs is well formed") {
        Ok(table) => table,
        Err(outcome) => return outcome,
    };
    let path = table.path();
    let (faults, unknown, size) = match table {
        Table::Dmar(dmar) => (&dmar.faults, &dmar.unknown_records, dmar.header.length_bytes),
        Table::Ivrs(ivrs) => (&ivrs.faults, &ivrs.unknown_records, ivrs.header.length_bytes),
    };
    if faults.is_empty() {
        // Types that came after us are no fault: the standards ask to step over them.
        let pass =
            Outcome::pass("the table of IOMMUs is well formed").evidence(&path, format!("{size} bytes"));
        let tell = |record: &UnknownRecord| {
            format!("type {:#x} at offset {:#x} is unknown", record.kind, record.offset)
        };
        return unknown.iter().take(TOLD).fold(pass, |outcome, record| outcome.evidence(&path, tell(record)));
    }
    let warn = Outcome::warn(format!("the table of IOMMUs is malformed: {} faults", faults.len()))
        .cause("the firmware's maker wrote it so; the kernel may leave out what stands behind a fault")
        .remedy(newer_firmware());
    faults.iter().take(TOLD).fold(warn, |outcome, fault| outcome.evidence(&path, fault))
}

/// `firmware-iommu-units`
pub(super) fn units(facts: &HostFacts) -> Outcome {
    let table = match table(facts, "what the table of IOMMUs says") {
        Ok(table) => table,
        Err(outcome) => return outcome,
    };
    let path = table.path();
    let (count, nonsense) = match table {
        Table::Dmar(dmar) => (dmar.units.len(), dmar_nonsense(dmar)),
        Table::Ivrs(ivrs) => (ivrs.units.len(), ivrs_nonsense(ivrs)),
    };
    if nonsense.is_empty() {
        return Outcome::pass("the table of IOMMUs makes sense").evidence(path, format!("{count} units"));
    }
    let warn = Outcome::warn(format!("the table of IOMMUs makes no sense: {}", nonsense.join("; ")))
        .cause("the firmware leaves the units out of its work (a setting that is off), or is broken")
        .remedy(newer_firmware());
    nonsense.iter().take(TOLD).fold(warn, |outcome, words| outcome.evidence(&path, words))
}

/// No registers can be there.
fn is_no_place(base: u64) -> bool {
    base == 0 || base == u64::MAX || !base.is_multiple_of(4096)
}

fn dmar_nonsense(dmar: &Dmar) -> Vec<String> {
    let mut nonsense = Vec::new();
    if dmar.units.is_empty() {
        nonsense.push("it lists no unit".to_owned());
    }
    let (mut bases, mut takers) = (BTreeSet::new(), BTreeSet::new());
    for unit in &dmar.units {
        if is_no_place(unit.register_base) {
            nonsense.push(format!("a unit's registers are at {:#x}", unit.register_base));
        } else if !bases.insert(unit.register_base) {
            nonsense.push(format!("two units have registers at {:#x}", unit.register_base));
        }
        if unit.include_all && !takers.insert(unit.segment) {
            nonsense.push(format!("two units take all that is left of segment {}", unit.segment));
        }
    }
    nonsense
}

/// Blocks of several types describe the same unit; the latest counts.
fn ivrs_nonsense(ivrs: &Ivrs) -> Vec<String> {
    let mut nonsense = Vec::new();
    if ivrs.units.is_empty() {
        nonsense.push("it lists no unit".to_owned());
    }
    let mut bases = BTreeSet::new();
    for unit in ivrs.units.iter().filter(|unit| !unit.superseded) {
        if is_no_place(unit.base) {
            nonsense.push(format!("the registers of unit {} are at {:#x}", unit.address, unit.base));
        } else if !bases.insert(unit.base) {
            nonsense.push(format!("two units have registers at {:#x}", unit.base));
        }
    }
    nonsense
}

/// `firmware-faults`: what the kernel logged with its marks for faults of firmware (Linux: include/linux/printk.h,
/// FW_BUG and FW_WARN; drivers/iommu/intel/dmar.c, `warn_invalid_dmar`).
pub(super) fn faults(facts: &HostFacts) -> Outcome {
    if let Err(outcome) = table(facts, "what the table of IOMMUs says")
        && outcome.status == Status::NotApplicable
    {
        return outcome;
    }
    if facts.kernel_log.0.known().is_none() {
        return Outcome::unread(&facts.kernel_log.0, "what the kernel found in the tables");
    }
    const MARKS: [&str; 3] = ["[Firmware Bug]", "[Firmware Warn]", "Your BIOS is broken"];
    let is_about = |line: &&str| ["DMAR", "AMD-Vi", "IOMMU", "iommu"].iter().any(|word| line.contains(word));
    let lines: Vec<_> = facts.kernel_log.with(&MARKS).filter(is_about).collect();
    if lines.is_empty() {
        return Outcome::pass("the kernel's log tells of no fault in them")
            .evidence(KernelLog::SOURCE, "no line is marked as a fault of firmware");
    }
    let warn = Outcome::warn("the kernel found faults of firmware in what it says of IOMMUs")
        .cause("what firmware says does not fit the machine")
        .remedy(newer_firmware());
    lines.iter().take(TOLD).fold(warn, |outcome, line| outcome.evidence(KernelLog::SOURCE, line))
}
