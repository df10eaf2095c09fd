//! What virtualization costs, as a table.

use crate::bench::interrupts::Interrupted;
use crate::bench::{Interrupts, Measurement, Probe};
use crate::host::fact::Fact;
use crate::host::kvm::{Backing, Kvm};
use crate::report::style::Tone;
use crate::report::table::Table;
use crate::vmm::config::InterruptMode;

/// What `thruway bench interrupts` shows.
#[must_use]
pub fn render(found: &Interrupts, kvm: &Kvm, nested: &Fact<bool>, width: Option<u16>) -> String {
    let modes = [
        (InterruptMode::Kernel, "kernel"),
        (InterruptMode::Split, "split"),
        (InterruptMode::Userspace, "userspace"),
    ];
    let mut titles = vec!["WHAT"];
    titles.extend(["KERNEL", "99 %", "SPLIT", "99 %", "USERSPACE", "99 %"]);
    let mut table = (1..=6).fold(Table::new(&titles, width), Table::rigid);
    let mut notes = Vec::new();
    let mut seen: Vec<(Probe, Option<Interrupted>)> = Vec::new();
    for line in &found.measurements {
        let key = (line.probe, line.guest);
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let mut cells = vec![(Tone::Plain, what(line))];
        for (mode, name) in modes {
            let of_mode = found
                .measurements
                .iter()
                .find(|other| other.interrupts == mode && (other.probe, other.guest) == key);
            let times = of_mode.and_then(|line| line.spread).map_or_else(
                || ["-".to_owned(), String::new()],
                |spread| [time(spread.median_ns), time(spread.p99_ns)],
            );
            cells.extend(times.map(|text| (Tone::Plain, text)));
            if let Some(why) = of_mode.and_then(|line| line.not_measured.as_ref()) {
                notes.push(format!("{} ({name}) was not measured: {why}\n", what(line)));
            }
        }
        table.row(cells);
    }
    let notes: String = notes.iter().map(|note| Tone::Bad.paint(note)).collect();
    format!("{}\n\n{notes}{}", table.render().trim_end(), caveat(kvm, nested))
}

fn what(line: &Measurement) -> String {
    let probe = match line.probe {
        Probe::PortExit => "port exit",
        Probe::MmioExit => "MMIO exit",
        Probe::Ioeventfd => "ioeventfd",
        Probe::Hypercall => "hypercall",
        Probe::Pic => "interrupt by the PIC",
        Probe::IoApic => "interrupt by the I/O APIC",
        Probe::Msi => "message from this process",
        Probe::Irqfd => "message by irqfd",
    };
    let guest = match line.guest {
        Some(Interrupted::Running) => ", guest runs",
        Some(Interrupted::Halted) => ", guest halted",
        None => "",
    };
    format!("{probe}{guest}")
}

/// `820 ns`, `3.4 µs`, `12 ms`.
fn time(nanoseconds: u64) -> String {
    let tenths = |unit: u64, name: &str| {
        let tenths = nanoseconds / (unit / 10);
        if tenths < 100 {
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        } else {
            format!("{} {name}", nanoseconds / unit)
        }
    };
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => tenths(1_000, "µs"),
        1_000_000..1_000_000_000 => tenths(1_000_000, "ms"),
        _ => tenths(1_000_000_000, "s"),
    }
}

/// Whose numbers these are.
fn caveat(kvm: &Kvm, nested: &Fact<bool>) -> String {
    let text = match (&kvm.backing, nested) {
        (Fact::Known(Backing::Software), _) => {
            "No hardware stands behind this KVM: these are the numbers of an interpreter."
        }
        (Fact::Known(Backing::Hardware), Fact::Known(true)) => {
            "This host is a guest itself: each exit here is several of the host below."
        }
        (Fact::Known(Backing::Hardware), Fact::Known(false)) => return "In hardware.\n".to_owned(),
        _ => "Whether hardware stands behind this KVM cannot be told.",
    };
    format!("{}\n", Tone::Bad.paint(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_digits_at_least_and_a_unit() {
        for (nanoseconds, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.0 µs"),
            (9_990, "9.9 µs"),
            (12_345, "12 µs"),
            (999_999, "999 µs"),
            (1_250_000, "1.2 ms"),
            (61_000_000_000, "61 s"),
        ] {
            assert_eq!(time(nanoseconds), text);
        }
    }
}
