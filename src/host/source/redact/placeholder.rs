//! What stands in the place of what was taken out: one placeholder for one value, wherever the value stands.

use std::collections::BTreeMap;
use std::fmt;

/// What a value is that tells this host, or its user, from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A serial number, asset tag or other text that one device or machine has.
    Serial,
    /// A MAC address, or a longer hardware address.
    HardwareAddress,
    /// A UUID: of a machine, boot, disk, partition or file system.
    Uuid,
    /// Another number that is unique in the world: World Wide Name, EUI-64, machine or container id.
    Identifier,
    /// An IPv4 or IPv6 address.
    IpAddress,
    /// The host's name.
    HostName,
    /// A user's name, in a path.
    UserName,
    /// The value of a kernel parameter that looks like a password or key.
    Password,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Serial,
        Self::HardwareAddress,
        Self::Uuid,
        Self::Identifier,
        Self::IpAddress,
        Self::HostName,
        Self::UserName,
        Self::Password,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Serial => "serial numbers",
            Self::HardwareAddress => "MAC addresses",
            Self::Uuid => "UUIDs",
            Self::Identifier => "unique identifiers",
            Self::IpAddress => "IP addresses",
            Self::HostName => "host names",
            Self::UserName => "user names",
            Self::Password => "passwords",
        })
    }
}

/// The placeholders that were given out.
#[derive(Debug, Default)]
pub(super) struct Placeholders {
    /// Numbers by value, from 1, each kind for itself.
    numbers: BTreeMap<Kind, BTreeMap<String, u32>>,
}

impl Placeholders {
    /// The number of `value`, the same whenever it is asked for. Case does not matter.
    pub(super) fn number(&mut self, kind: Kind, value: &str) -> u32 {
        let values = self.numbers.entry(kind).or_default();
        let next = u32::try_from(values.len()).unwrap_or(u32::MAX).saturating_add(1);
        *values.entry(value.to_ascii_lowercase()).or_insert(next)
    }

    /// How many values of each kind were replaced.
    pub(super) fn counts(&self) -> BTreeMap<Kind, usize> {
        self.numbers.iter().map(|(kind, values)| (*kind, values.len())).collect()
    }

    /// The hardware addresses that were replaced, with their numbers.
    pub(super) fn hardware_addresses(&self) -> impl Iterator<Item = (&str, u32)> {
        self.numbers
            .get(&Kind::HardwareAddress)
            .into_iter()
            .flatten()
            .map(|(value, number)| (value.as_str(), *number))
    }
}

/// A locally administered unicast address (IEEE 802-2014, 8.4), or a longer one that starts like it.
pub(super) fn hardware_address(bytes: usize, number: u32) -> Vec<u8> {
    let mut address = vec![0; bytes.max(6)];
    if let Some(first) = address.first_mut() {
        *first = 0x02;
    }
    let end = address.len();
    if let Some(tail) = address.get_mut(end - 4..) {
        tail.copy_from_slice(&number.to_be_bytes());
    }
    address
}

/// A UUID of version 4 and the variant of RFC 9562, 4.1 and 5.4.
pub(super) fn uuid(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

/// An address out of 198.18.0.0/15, which is for tests of network devices (RFC 2544) and leads nowhere.
pub(super) fn ipv4(number: u32) -> std::net::Ipv4Addr {
    const FIRST: u32 = 0xC612_0000;
    const MASK: u32 = 0x0001_FFFF;
    std::net::Ipv4Addr::from(FIRST | (number & MASK))
}

/// An address out of 2001:db8::/32, which is for documentation (RFC 3849).
pub(super) fn ipv6(number: u32) -> std::net::Ipv6Addr {
    const FIRST: u128 = 0x2001_0db8 << 96;
    std::net::Ipv6Addr::from(FIRST | u128::from(number))
}
