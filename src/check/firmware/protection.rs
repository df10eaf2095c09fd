//! What firmware asks of an IOMMU: memory that devices keep, memory that they must not reach.

use super::tables::{Table, table};
use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::firmware::Setting;
use crate::spec::dmar::ReservedMemory;
use crate::spec::ivrs::Memory;
use crate::spec::pci::ClassCode;

/// How many regions are told.
const TOLD: usize = 6;

/// `firmware-reserved-memory`: where an IOMMU runs, the kernel's own list tells, exceptions included.
pub(super) fn reserved_memory(facts: &HostFacts) -> Outcome {
    if facts.iommu.dma_remapping == Fact::Known(true) {
        return Outcome::not_applicable(
            "an IOMMU runs, and the check iommu-direct-regions tells what it obeys",
        );
    }
    let table = match table(facts, "for which devices firmware reserves memory") {
        Ok(table) => table,
        Err(outcome) => return outcome,
    };
    let path = table.path();
    let held: Vec<String> = match table {
        Table::Dmar(dmar) => dmar.reserved_memory.iter().filter_map(|region| held(facts, region)).collect(),
        Table::Ivrs(ivrs) => ivrs.memory.iter().map(held_at_amd).collect(),
    };
    if held.is_empty() {
        return Outcome::pass("firmware reserves no memory that keeps a device")
            .evidence(path, "no such region");
    }
    let warn = Outcome::warn("firmware reserves memory for devices: these cannot be passed through")
        .cause("the kernel refuses devices that must keep reaching a part of memory, once an IOMMU runs")
        .remedy(Remedy::advice(
            "switch the function that needs it off in the firmware setup (on servers of HP `HP Shared Memory \
             features`, elsewhere legacy USB, or graphics before the system), or pass other devices through",
        ));
    held.iter().take(TOLD).fold(warn, |outcome, region| outcome.evidence(&path, region))
}

/// A region and whose it is, unless it is of those alone that the kernel lets go: USB controllers and displays (Linux:
/// drivers/iommu/intel/iommu.c, `device_rmrr_is_relaxable`).
fn held(facts: &HostFacts, region: &ReservedMemory) -> Option<String> {
    const USB: (u8, u8) = (0x0C, 0x03);
    const DISPLAY: u8 = 0x03;
    let is_let_go = |class: &u32| {
        let class = ClassCode::from_u24(*class);
        (class.base, class.sub) == USB || class.base == DISPLAY
    };
    let named: Vec<String> = region
        .scopes
        .iter()
        .filter(|scope| {
            let function = scope.address.and_then(|address| facts.device(address));
            !function.is_some_and(|function| function.class.known().is_some_and(is_let_go))
        })
        .map(|scope| scope.address.map_or_else(|| "a device".to_owned(), |address| address.to_string()))
        .collect();
    (!named.is_empty()).then(|| format!("{:#x} to {:#x} for {}", region.base, region.limit, named.join(", ")))
}

/// A region of AMD's table and whose it is; the kernel excepts none.
fn held_at_amd(memory: &Memory) -> String {
    let limit = memory.base.saturating_add(memory.length_bytes.saturating_sub(1));
    let (first, last) = (memory.start_device, memory.end_device);
    let devices = if first == last {
        format!("device {first:04x}")
    } else {
        format!("devices {first:04x} to {last:04x}")
    };
    format!("{:#x} to {limit:#x} for {devices}", memory.base)
}

/// `firmware-dma-protection`
pub(super) fn dma_protection(facts: &HostFacts) -> Outcome {
    let table = match table(facts, "whether firmware asks for protection from DMA") {
        Ok(table) => table,
        Err(outcome) => return outcome,
    };
    let path = table.path();
    let (asks, flag) = match table {
        Table::Dmar(dmar) => (dmar.dma_control_opt_in, "DMA_CTRL_PLATFORM_OPT_IN"),
        Table::Ivrs(ivrs) => (ivrs.dma_remapped_at_boot, "DMA remapping before boot"),
    };
    if !asks {
        return Outcome::not_applicable("firmware does not ask for it")
            .evidence(path, format!("flag {flag} is clear"));
    }
    match &facts.iommu.dma_remapping {
        Fact::Known(true) => Outcome::pass("firmware asks for protection from DMA, and an IOMMU runs")
            .evidence(path, format!("flag {flag} is set")),
        Fact::Known(false) => Outcome::warn("firmware asks for protection from DMA, and no IOMMU runs")
            .evidence(path, format!("flag {flag} is set"))
            .evidence("/sys/class/iommu", "empty")
            .cause("the kernel was told, or built, not to run the IOMMU; the check iommu-running tells which")
            .remedy(Remedy::advice("let the kernel run the IOMMU: see the check iommu-running"))
            .remedy(Remedy::firmware(facts, Setting::Iommu)),
        unread => Outcome::unread(unread, "whether an IOMMU runs"),
    }
}
