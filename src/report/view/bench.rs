//! What virtualization costs, as a table.

use crate::bench::interrupts::Interrupted;
use crate::bench::{Interrupts, Measurement, Probe};
use crate::host::fact::Fact;
use crate::host::kvm::{Backing, Kvm};
use crate::report::style::Tone;
use crate::report::table::Table;

/// What `thruway bench interrupts` shows.
#[must_use]
pub fn render(found: &Interrupts, kvm: &Kvm, nested: &Fact<bool>, width: Option<u16>) -> String {
    let mut table = Table::new(&["WHAT", "MEDIAN", "99 OF 100", ""], width).rigid(0).rigid(1).rigid(2);
    for line in &found.measurements {
        let (median, p99) = line.spread.map_or_else(
            || ("-".to_owned(), "-".to_owned()),
            |spread| (time(spread.median_ns), time(spread.p99_ns)),
        );
        let why = line.not_measured.clone().map_or_else(String::new, |why| format!("not measured: {why}"));
        let cells = [what(line), median, p99].map(|cell| (Tone::Plain, cell));
        table.row(cells.into_iter().chain([(Tone::Bad, why)]));
    }
    format!("{}\n{}", table.render().trim_end(), caveat(kvm, nested))
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
