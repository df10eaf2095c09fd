//! Files of lines that say more than the inspector reads: what it reads is kept.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::placeholder::{self, Kind};
use super::text::{Scope, TextRedactor};

/// The serial numbers in what udev noted of a device (systemd: man/udev.xml, `ID_SERIAL_SHORT`).
pub(super) fn udev_serials(text: &str) -> impl Iterator<Item = &str> {
    const KEYS: [&str; 4] = ["ID_SERIAL_SHORT=", "ID_SCSI_SERIAL=", "ID_WWN=", "ID_SERIAL="];
    text.lines().filter_map(|line| {
        let entry = line.strip_prefix("E:")?;
        KEYS.iter().find_map(|key| entry.strip_prefix(key))
    })
}

/// Type of a file system, and the name of a ZFS pool, which leads to whether it is imported.
pub(super) fn udev_kept(text: &str) -> String {
    let is_zfs = text.lines().any(|line| line == "E:ID_FS_TYPE=zfs_member");
    let kept =
        |line: &&str| line.starts_with("E:ID_FS_TYPE=") || (is_zfs && line.starts_with("E:ID_FS_LABEL="));
    text.lines().filter(kept).map(|line| format!("{line}\n")).collect()
}

/// The capabilities of the process that made the capture, without its numbers and those of its user.
pub(super) fn capabilities_kept(text: &str) -> String {
    text.lines().filter(|line| line.starts_with("CapEff:")).map(|line| format!("{line}\n")).collect()
}

/// Mounts (proc_pid_mountinfo(5)) without the options of their file systems, and without the names of servers.
pub(super) fn mounts_kept(text: &str) -> String {
    text.lines()
        .map(|line| {
            let Some((mount, system)) = line.split_once(" - ") else { return "\n".to_owned() };
            let mut words = system.split(' ');
            let (kind, device) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let device = if device.contains(':') || device.starts_with("//") { "none" } else { device };
            format!("{mount} - {kind} {device} rw\n")
        })
        .collect()
}

/// `/proc/net/route`: destination and gateway are in hexadecimal, in the order of the host's bytes.
pub(super) fn ipv4_routes(redactor: &mut TextRedactor, text: &str) -> String {
    lines_by_field(redactor, text, |redactor, at, field| {
        let address = matches!(at, 1 | 2).then(|| u32::from_str_radix(field, 16).ok()).flatten()?;
        let address = Ipv4Addr::from(address.to_le_bytes());
        if field.len() != 8 || address.is_unspecified() || address.is_loopback() {
            return None;
        }
        let number = redactor.placeholders.number(Kind::IpAddress, &address.to_string());
        Some(format!("{:08X}", u32::from_le_bytes(placeholder::ipv4(number).octets())))
    })
}

/// `/proc/net/ipv6_route`: destination, source and next hop are 32 hexadecimal digits each.
pub(super) fn ipv6_routes(redactor: &mut TextRedactor, text: &str) -> String {
    lines_by_field(redactor, text, |redactor, at, field| {
        let address = matches!(at, 0 | 2 | 4).then(|| u128::from_str_radix(field, 16).ok()).flatten()?;
        let address = Ipv6Addr::from(address);
        // fe80::/64 and ff00::/8 are routes that every host has.
        let everybodys = address.is_unspecified()
            || address.is_loopback()
            || address.is_multicast()
            || address == Ipv6Addr::new(0xFE80, 0, 0, 0, 0, 0, 0, 0);
        if field.len() != 32 || everybodys {
            return None;
        }
        let number = redactor.placeholders.number(Kind::IpAddress, &address.to_string());
        Some(format!("{:032x}", u128::from(placeholder::ipv6(number))))
    })
}

/// `text` with the fields replaced for which `replace`, given number and content, has something, and the others
/// searched; blanks stay.
fn lines_by_field(
    redactor: &mut TextRedactor,
    text: &str,
    mut replace: impl FnMut(&mut TextRedactor, usize, &str) -> Option<String>,
) -> String {
    let mut replaced = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let mut number = 0;
        for piece in line.split_inclusive(char::is_whitespace) {
            let field = piece.trim_end_matches(char::is_whitespace);
            if field.is_empty() {
                replaced.push_str(piece);
                continue;
            }
            // Numbers here are addresses or nobody's: names of interfaces are what is left to find.
            let instead = replace(redactor, number, field);
            replaced.push_str(&instead.unwrap_or_else(|| redactor.redact(field, Scope::Kernel)));
            replaced.push_str(piece.get(field.len()..).unwrap_or_default());
            number += 1;
        }
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_keep_their_shape_and_lose_their_addresses() {
        let mut redactor = TextRedactor::default();
        let routes = "Iface\tDestination\tGateway \tFlags\neth0\t00000000\t0101A8C0\t0003\neth0\t0001A8C0\t00000000\t0001\n";
        assert_eq!(
            ipv4_routes(&mut redactor, routes),
            "Iface\tDestination\tGateway \tFlags\neth0\t00000000\t010012C6\t0003\neth0\t020012C6\t00000000\t0001\n"
        );
        assert_eq!(redactor.redact("gw=192.168.1.1", Scope::Host), "gw=198.18.0.1");
        let zeros = "0".repeat(32);
        let line = format!(
            "20010db8000000000000000000000099 40 {zeros} 00 fe800000000000000000000000000000 x eth0\n"
        );
        let redacted = ipv6_routes(&mut redactor, &line);
        assert_eq!(
            redacted,
            format!(
                "20010db8000000000000000000000003 40 {zeros} 00 fe800000000000000000000000000000 x eth0\n"
            )
        );
    }

    #[test]
    fn of_the_state_of_our_process_its_capabilities_stay() {
        let status = "Name:\tthruway\nPid:\t1234\nUid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000004000\n";
        assert_eq!(capabilities_kept(status), "CapEff:\t0000000000004000\n");
    }

    #[test]
    fn mounts_lose_their_options_and_servers() {
        let mounts = "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw,discard\n23 1 0:44 /x /srv rw - cifs //nas/alice rw,username=alice\n24 1 0:45 / /nfs rw - nfs4 nas:/export rw,addr=10.0.0.9\n";
        assert_eq!(
            mounts_kept(mounts),
            "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n23 1 0:44 /x /srv rw - cifs none rw\n24 1 0:45 / /nfs rw - nfs4 none rw\n"
        );
    }

    #[test]
    fn of_what_udev_noted_the_type_stays_and_the_pool_of_zfs() {
        let note = "E:ID_FS_TYPE=ext4\nE:ID_FS_LABEL=alice\nE:ID_SERIAL_SHORT=S1\nS:disk/by-label/alice\n";
        assert_eq!(udev_kept(note), "E:ID_FS_TYPE=ext4\n");
        assert_eq!(udev_serials(note).collect::<Vec<_>>(), ["S1"]);
        assert!(udev_kept("E:ID_FS_TYPE=zfs_member\nE:ID_FS_LABEL=tank\n").contains("LABEL=tank"));
    }
}
