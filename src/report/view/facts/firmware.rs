//! Firmware: how it starts the kernel, the machine, its tables of IOMMUs, its settings.

use super::{Text, switch, why, word};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::firmware::{BootMode, Dmi, Firmware, LiveSetting};
use crate::report::style::Tone;
use crate::spec::dmar::Dmar;
use crate::spec::ivrs::Ivrs;

/// Its section.
pub(super) fn show(text: &mut Text, facts: &HostFacts) {
    let firmware = &facts.firmware;
    text.section("Firmware");
    text.line("boot", boot(firmware));
    machine(text, &firmware.dmi);
    text.line("ACPI tables", (Tone::Plain, word(&firmware.acpi_tables, |names| names.join(" "))));
    table(text, "DMAR (Intel VT-d)", &firmware.dmar, dmar);
    table(text, "IVRS (AMD-Vi)", &firmware.ivrs, ivrs);
    for live in firmware.settings.known().into_iter().flatten() {
        text.line("setting", setting(live));
    }
}

fn boot(firmware: &Firmware) -> (Tone, String) {
    let mode = word(&firmware.boot_mode, |mode| {
        match mode {
            BootMode::Uefi => "UEFI",
            BootMode::Bios => "BIOS",
        }
        .to_owned()
    });
    let secure = match &firmware.secure_boot {
        Fact::NotPresent => String::new(),
        secure => format!(", Secure Boot {}", word(secure, |on| if *on { "on" } else { "off" }.to_owned())),
    };
    let lockdown = match &firmware.lockdown {
        Fact::NotPresent => String::new(),
        lockdown => format!(", lockdown {}", word(lockdown, Clone::clone)),
    };
    (Tone::Plain, format!("{mode}{secure}{lockdown}"))
}

/// Board and firmware; the system too, where it is called otherwise.
fn machine(text: &mut Text, dmi: &Dmi) {
    let joined = |facts: &[&Fact<String>]| {
        let words: Vec<_> = facts.iter().filter_map(|fact| fact.known().map(String::as_str)).collect();
        (!words.is_empty()).then(|| words.join(" "))
    };
    let board = joined(&[&dmi.board_vendor, &dmi.board_name, &dmi.board_version]);
    let system = joined(&[&dmi.system_vendor, &dmi.product_name, &dmi.product_version]);
    let firmware = joined(&[&dmi.bios_vendor, &dmi.bios_version, &dmi.bios_date]);
    for (name, words) in [("board", board), ("system", system), ("firmware", firmware)] {
        if let Some(words) = words {
            text.line(name, (Tone::Plain, words));
        }
    }
    if let Some(why) = why(&dmi.board_vendor).or_else(|| why(&dmi.system_vendor)) {
        text.line("machine", (Tone::Notice, format!("unknown ({why})")));
    }
}

fn table<T>(text: &mut Text, name: &str, table: &Fact<T>, show: impl FnOnce(&mut Text, &str, &T)) {
    match table {
        Fact::Known(table) => show(text, name, table),
        Fact::NotPresent => {}
        unread => text.line(name, switch(&unread.as_ref().map(|_| false), ["", ""])),
    }
}

fn dmar(text: &mut Text, name: &str, table: &Dmar) {
    let mut words =
        vec![count(table.units.len(), "unit"), format!("{}-bit DMA", table.host_address_width_bits)];
    let flags = [
        (table.interrupt_remapping, "interrupt remapping"),
        (table.x2apic_opt_out, "x2APIC opt-out"),
        (table.dma_control_opt_in, "DMA protection opt-in"),
    ];
    words.extend(flags.iter().filter(|(set, _)| *set).map(|(_, word)| (*word).to_owned()));
    words.extend(unknown(table.unknown_records.len()));
    text.line(name, (Tone::Plain, words.join(", ")));
    for region in &table.reserved_memory {
        let whose = |scope: &crate::spec::dmar::Scope| {
            scope.address.map_or_else(|| scope.kind.to_string(), |address| address.to_string())
        };
        let devices: Vec<_> = region.scopes.iter().map(whose).collect();
        let words = format!("{:#x} to {:#x} for {}", region.base, region.limit, devices.join(", "));
        text.line("reserved memory", (Tone::Notice, words));
    }
    for fault in &table.faults {
        text.line("fault", (Tone::Bad, fault.to_string()));
    }
}

fn ivrs(text: &mut Text, name: &str, table: &Ivrs) {
    let units = table.units.iter().filter(|unit| !unit.superseded).count();
    let mut words =
        vec![count(units, "unit"), format!("{}-bit physical addresses", table.physical_address_bits)];
    if table.dma_remapped_at_boot {
        words.push("DMA protection opt-in".to_owned());
    }
    words.extend(unknown(table.unknown_records.len()));
    text.line(name, (Tone::Plain, words.join(", ")));
    for memory in &table.memory {
        let end = memory.base.saturating_add(memory.length_bytes.saturating_sub(1));
        let words = format!(
            "{:#x} to {end:#x} for devices {:04x} to {:04x}",
            memory.base, memory.start_device, memory.end_device
        );
        text.line("reserved memory", (Tone::Notice, words));
    }
    for fault in &table.faults {
        text.line("fault", (Tone::Bad, fault.to_string()));
    }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn unknown(records: usize) -> Option<String> {
    (records > 0).then(|| format!("{} of unknown type", count(records, "record")))
}

fn setting(live: &LiveSetting) -> (Tone, String) {
    let value = word(&live.value, Clone::clone);
    let tone = if live.enabled == Fact::Known(false) { Tone::Notice } else { Tone::Plain };
    (tone, format!("{} = {value} ({})", live.name, live.driver))
}
