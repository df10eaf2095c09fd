//! Addresses of network interfaces, and the bridge or bond that an interface belongs to.
//!
//! Spec: Linux man-pages, rtnetlink(7), `RTM_GETADDR`, `RTM_NEWADDR`; Linux: include/uapi/linux/if_addr.h, if_link.h
//! (`IFLA_MASTER`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use serde::{Deserialize, Serialize};

use super::dump::dump;
use super::{exchange, exchange_link, index_of};
use crate::sys::child::ChildError;

/// An address that somebody gave an interface for good: not leased, not made by the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceAddress {
    /// The address.
    pub ip: IpAddr,
    /// Bits of its network.
    pub prefix_len: u8,
    /// Where all of the network listen, if that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broadcast: Option<Ipv4Addr>,
    /// Whether no route to its network comes with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_prefix_route: bool,
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix_len)
    }
}

/// The lasting addresses of the network interface `name`. A link-local address of IPv6 the kernel makes itself, and one
/// with an end belongs to who leased it.
///
/// # Errors
/// [`ChildError`]; `ENODEV` when there is no such interface.
pub fn addresses(name: &str, limit: Duration) -> Result<Vec<InterfaceAddress>, ChildError> {
    let index = index_of(name)?;
    let answers = dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()), limit)?;
    Ok(answers.into_iter().filter_map(|answer| lasting(answer, index)).collect())
}

fn lasting(answer: RouteNetlinkMessage, index: u32) -> Option<InterfaceAddress> {
    let RouteNetlinkMessage::NewAddress(message) = answer else { return None };
    let header = message.header;
    let is_lasting = header.flags.contains(AddressHeaderFlags::Permanent);
    if header.index != index || !is_lasting || matches!(header.scope, AddressScope::Link | AddressScope::Host)
    {
        return None;
    }
    let (mut address, mut local, mut broadcast, mut no_prefix_route) = (None, None, None, false);
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Address(ip) => address = Some(ip),
            AddressAttribute::Local(ip) => local = Some(ip),
            AddressAttribute::Broadcast(ip) => broadcast = Some(ip),
            AddressAttribute::Flags(flags) => no_prefix_route = flags.contains(AddressFlags::Noprefixroute),
            _ => {}
        }
    }
    // Of a point-to-point link the two differ, and what is ours is the local one.
    Some(InterfaceAddress {
        ip: local.or(address)?,
        prefix_len: header.prefix_len,
        broadcast,
        no_prefix_route,
    })
}

/// Gives the network interface `name` an address; one that it has already is fine.
///
/// # Errors
/// As [`super::set_link`].
pub fn add_address(name: &str, address: &InterfaceAddress, limit: Duration) -> Result<(), ChildError> {
    let message = RouteNetlinkMessage::NewAddress(addition(index_of(name)?, address));
    exchange(message, NLM_F_CREATE | NLM_F_REPLACE, limit)
}

fn addition(index: u32, address: &InterfaceAddress) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = address.prefix_len;
    message.header.family = if address.ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    if address.no_prefix_route {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Noprefixroute));
    }
    message.attributes.push(AddressAttribute::Local(address.ip));
    message.attributes.push(AddressAttribute::Address(address.ip));
    message.attributes.extend(address.broadcast.map(AddressAttribute::Broadcast));
    message
}

/// Makes the network interface `name` a port of the bridge or bond `controller`.
///
/// # Errors
/// As [`super::set_link`].
pub fn set_controller(name: &str, controller: &str, limit: Duration) -> Result<(), ChildError> {
    let mut link = LinkMessage::default();
    link.header.index = index_of(name)?;
    link.attributes.push(LinkAttribute::Controller(index_of(controller)?));
    exchange_link(link, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(index: u32, scope: AddressScope, flags: AddressHeaderFlags) -> RouteNetlinkMessage {
        let address = InterfaceAddress {
            ip: "192.0.2.7".parse().unwrap(),
            prefix_len: 24,
            broadcast: Some(Ipv4Addr::new(192, 0, 2, 255)),
            no_prefix_route: true,
        };
        let mut message = addition(index, &address);
        (message.header.scope, message.header.flags) = (scope, flags);
        RouteNetlinkMessage::NewAddress(message)
    }

    #[test]
    fn what_is_given_is_what_is_read_back() {
        let permanent = AddressHeaderFlags::Permanent;

        let found = lasting(answer(3, AddressScope::Universe, permanent), 3).unwrap();

        assert_eq!(found.to_string(), "192.0.2.7/24");
        assert_eq!((found.broadcast, found.no_prefix_route), (Some(Ipv4Addr::new(192, 0, 2, 255)), true));
        for other in [
            answer(4, AddressScope::Universe, permanent),
            answer(3, AddressScope::Link, permanent),
            answer(3, AddressScope::Universe, AddressHeaderFlags::empty()),
        ] {
            assert_eq!(lasting(other, 3), None);
        }
    }

    #[test]
    fn the_loopback_interface_has_no_address_to_restore() {
        assert_eq!(addresses("lo", Duration::from_secs(5)).unwrap(), []);
        assert!(addresses("thruway-none", Duration::from_secs(5)).is_err());
    }
}
