//! What the guest on the road said: the lines that `init/road.sh` and `init/guest.sh` print among everything else that a
//! serial console carries.

use std::time::Duration;

use serde::Serialize;

/// What is known of the guest, as its lines come in.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct GuestLog {
    /// Seconds of the guest's own clock at its init's first line.
    pub(super) init_s: Option<f64>,
    /// The same when its script began.
    pub(super) script_s: Option<f64>,
    /// The same when its script ended.
    pub(super) end_s: Option<f64>,
    /// Status of its script.
    pub(super) status: Option<i32>,
    /// Network interfaces.
    pub(super) interfaces: Vec<Interface>,
    /// Disks.
    pub(super) disks: Vec<Disk>,
    /// What its script could not do.
    pub(super) failures: Vec<String>,
}

/// A network interface of the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) carrier: bool,
    pub(super) address: Option<String>,
    pub(super) gateway: Option<String>,
    pub(super) pings_sent: u32,
    pub(super) pings_received: u32,
    /// `min/avg/max`.
    pub(super) round_trip_ms: Option<String>,
    pub(super) interrupts_before: u64,
    pub(super) interrupts_after: u64,
}

/// A disk of the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Disk {
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) capacity_sectors: u64,
    pub(super) written_and_read_back_bytes: u64,
    pub(super) interrupts_before: u64,
    pub(super) interrupts_after: u64,
}

impl GuestLog {
    /// Takes a line of the console; the part that was for us, if it was.
    pub(super) fn take<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        let line = line.trim_end_matches(['\r', '\n']);
        if let Some(at) = line.find("thruway-guest: ") {
            let text = line.get(at + "thruway-guest: ".len()..)?;
            let mut words = text.split_whitespace();
            match (words.next()?, words.next()) {
                ("init", Some(seconds)) => self.init_s = seconds.parse().ok(),
                ("script", Some(seconds)) => self.script_s = seconds.parse().ok(),
                ("status", Some(status)) => {
                    self.status = status.parse().ok();
                    self.end_s = words.next().and_then(|seconds| seconds.parse().ok());
                }
                _ => {}
            }
            return Some(text);
        }
        let at = line.find("thruway-road: ")?;
        let text = line.get(at + "thruway-road: ".len()..)?;
        self.road_line(text);
        Some(text)
    }

    fn road_line(&mut self, text: &str) {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["interface", name, driver] => {
                self.interfaces.push(Interface {
                    name: (*name).to_owned(),
                    driver: (*driver).to_owned(),
                    ..Interface::default()
                });
            }
            ["carrier", name, ..] => self.interface(name, |interface| interface.carrier = true),
            ["lease", name, address, gateway] => self.interface(name, |interface| {
                interface.address = Some((*address).to_owned());
                interface.gateway = Some((*gateway).to_owned());
            }),
            ["ping", name, sent, received, times] => self.interface(name, |interface| {
                interface.pings_sent = sent.parse().unwrap_or(0);
                interface.pings_received = received.parse().unwrap_or(0);
                interface.round_trip_ms = Some((*times).to_owned()).filter(|times| times != "none");
            }),
            ["disk", name, driver, sectors] => self.disks.push(Disk {
                name: (*name).to_owned(),
                driver: (*driver).to_owned(),
                capacity_sectors: sectors.parse().unwrap_or(0),
                ..Disk::default()
            }),
            ["written", name, bytes] => {
                if let Some(disk) = self.disks.iter_mut().find(|disk| disk.name == *name) {
                    disk.written_and_read_back_bytes = bytes.parse().unwrap_or(0);
                }
            }
            ["interrupts", name, before, after] => {
                let (before, after) = (before.parse().unwrap_or(0), after.parse().unwrap_or(0));
                self.interface(name, |interface| {
                    interface.interrupts_before = before;
                    interface.interrupts_after = after;
                });
                if let Some(disk) = self.disks.iter_mut().find(|disk| disk.name == *name) {
                    disk.interrupts_before = before;
                    disk.interrupts_after = after;
                }
            }
            ["failed", ..] => self.failures.push(text.trim_start_matches("failed ").to_owned()),
            _ => {}
        }
    }

    fn interface(&mut self, name: &str, change: impl FnOnce(&mut Interface)) {
        if let Some(interface) = self.interfaces.iter_mut().find(|interface| interface.name == name) {
            change(interface);
        }
    }

    /// How long the guest's script ran, by the guest's clock.
    pub(super) fn script_time(&self) -> Option<Duration> {
        Duration::try_from_secs_f64(self.end_s? - self.script_s?).ok()
    }

    /// What was shown, one fact a line.
    pub(super) fn evidence(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for interface in &self.interfaces {
            let Interface { name, driver, .. } = interface;
            let up = if interface.carrier { "up" } else { "no carrier" };
            lines.push(format!("{name} ({driver}): {up}"));
            if let (Some(address), Some(gateway)) = (&interface.address, &interface.gateway) {
                lines.push(format!("{name}: DHCP lease {address}, gateway {gateway}"));
                let times = interface.round_trip_ms.as_ref();
                let times = times.map(|times| format!(", {times} ms min/avg/max")).unwrap_or_default();
                lines.push(format!(
                    "{name}: {} of {} pings to {gateway} answered{times}",
                    interface.pings_received, interface.pings_sent
                ));
            }
            lines.push(format!(
                "{name}: interrupts in the guest {} -> {}",
                interface.interrupts_before, interface.interrupts_after
            ));
        }
        for disk in &self.disks {
            let Disk { name, driver, .. } = disk;
            lines.push(format!("{name} ({driver}): {} MiB", disk.capacity_sectors / 2048));
            lines.push(format!("{name}: {} bytes written and read back", disk.written_and_read_back_bytes));
            lines.push(format!(
                "{name}: interrupts in the guest {} -> {}",
                disk.interrupts_before, disk.interrupts_after
            ));
        }
        lines
    }

    /// Why the guest did not show what it should; `None` if it did.
    pub(super) fn problem(&self) -> Option<String> {
        if let Some(failure) = self.failures.first() {
            return Some(failure.clone());
        }
        match self.status {
            None => return Some("the guest ended before its script did".to_owned()),
            Some(0) => {}
            Some(status) => return Some(format!("the guest's script ended with {status}")),
        }
        if self.interfaces.is_empty() && self.disks.is_empty() {
            return Some("the guest found no device".to_owned());
        }
        let interface = self.interfaces.iter().find(|interface| {
            interface.pings_received != 5
                || interface.pings_sent != 5
                || interface.interrupts_after <= interface.interrupts_before
        });
        if let Some(interface) = interface {
            return Some(format!("{} moved no data, or without interrupts", interface.name));
        }
        let disk = self.disks.iter().find(|disk| {
            disk.written_and_read_back_bytes == 0 || disk.interrupts_after <= disk.interrupts_before
        })?;
        Some(format!("{} moved no data, or without interrupts", disk.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
[    0.000000] Linux version 6.12\r
thruway-guest: init 1.25\r
thruway-guest: script 2.10\r
thruway-road: interface eth0 igbvf\r
[    3.0] igbvf 0000:00:03.0: Link is Up\r
thruway-road: carrier eth0 0.4\r
thruway-road: lease eth0 10.0.2.15/24 10.0.2.2\r
thruway-road: ping eth0 5 5 1.0/2.0/3.0\r
thruway-road: interrupts eth0 0 42\r
thruway-guest: status 0 9.00\r
";

    fn log(text: &str) -> GuestLog {
        let mut log = GuestLog::default();
        for line in text.lines() {
            log.take(line);
        }
        log
    }

    #[test]
    fn a_guest_that_showed_everything_has_no_problem() {
        let log = log(GOOD);

        assert_eq!(log.problem(), None);
        assert_eq!(log.init_s, Some(1.25));
        assert_eq!(log.script_time(), Some(Duration::from_millis(6900)));
        assert_eq!(
            log.evidence(),
            [
                "eth0 (igbvf): up",
                "eth0: DHCP lease 10.0.2.15/24, gateway 10.0.2.2",
                "eth0: 5 of 5 pings to 10.0.2.2 answered, 1.0/2.0/3.0 ms min/avg/max",
                "eth0: interrupts in the guest 0 -> 42",
            ]
        );
    }

    #[test]
    fn each_thing_that_is_missing_is_a_problem() {
        for (from, to) in [
            ("ping eth0 5 5", "ping eth0 5 4"),
            ("ping eth0 5 5", "ping eth0 0 0"),
            ("interrupts eth0 0 42", "interrupts eth0 42 42"),
            ("thruway-guest: status 0", "thruway-guest: status 1"),
            ("thruway-guest: status 0", "[    9.0] Kernel panic"),
            ("thruway-road: interface eth0 igbvf", ""),
            ("thruway-road: carrier", "thruway-road: failed eth0 has no"),
        ] {
            assert_ne!(log(&GOOD.replace(from, to)).problem(), None, "{from} -> {to}");
        }
    }

    #[test]
    fn a_disk_must_hold_what_was_written() {
        let text = "thruway-road: disk nvme0n1 nvme 131072\nthruway-road: written nvme0n1 4096\n\
                    thruway-road: interrupts nvme0n1 10 14\nthruway-guest: status 0 3.0\n";

        assert_eq!(log(text).problem(), None);
        assert_ne!(log(&text.replace("written", "lost")).problem(), None);
    }
}
