//! Dumps of rtnetlink: all links with the virtual functions below them, all routes of all tables.
//!
//! The kernel takes the RTNL lock when a dump starts, which a driver that hangs may hold for ever. So the request is sent
//! in a [`child`], and what is left to receive is received with a time limit.
//!
//! Spec: Linux man-pages, rtnetlink(7); Linux: include/uapi/linux/if_link.h, `IFLA_VFINFO_LIST`.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::link::{
    LinkAttribute, LinkExtentMask, LinkMessage, LinkVfInfo, VfInfo, VfLinkState, VfVlan,
};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::SEQUENCE;
use crate::spec::ethernet::MacAddress;
use crate::sys::child::{self, ChildError, Job};

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpedLink {
    /// Index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// The virtual functions below it, as its driver tells them.
    pub vfs: Vec<DumpedVf>,
}

/// What the driver of a physical function says about one of its virtual functions; what it does not say is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DumpedVf {
    /// Index, from 0.
    pub index: u32,
    /// Ethernet address; zeros where the driver gives it none.
    pub mac: Option<MacAddress>,
    /// VLAN that the device adds and removes; 0 for none.
    pub vlan: Option<u32>,
    /// Priority of its frames in that VLAN, 0 to 7.
    pub vlan_priority: Option<u32>,
    /// Whether frames with another source address than its own are dropped.
    pub spoof_check: Option<bool>,
    /// Whether it may ask for what only trusted functions may have (promiscuous mode, another address).
    pub trusted: Option<bool>,
    /// `auto` follows the physical function's link; `enable` and `disable` do not.
    pub link_state: Option<&'static str>,
    /// What it may always send, in Mbit/s; 0 where nothing is promised.
    pub min_tx_rate_mbps: Option<u32>,
    /// What it may send at most, in Mbit/s; 0 for as much as the port can.
    pub max_tx_rate_mbps: Option<u32>,
}

/// A route over an interface. One with several next hops is several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpedRoute {
    /// Number of the table; 254 is `main`.
    pub table: u32,
    /// Whether it leads everywhere.
    pub is_default: bool,
    /// Whether the kernel made it by itself for the interface alone: IPv6 link-local and multicast.
    pub is_interface_own: bool,
    /// Index of the interface.
    pub interface_index: u32,
}

/// All links.
///
/// # Errors
/// [`ChildError`]; what the kernel answered is [`ChildError::Refused`].
pub fn links(limit: Duration) -> Result<Vec<DumpedLink>, ChildError> {
    let mut request = LinkMessage::default();
    request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::Vf, LinkExtentMask::SkipStats]));
    let answers = dump(RouteNetlinkMessage::GetLink(request), limit)?;
    Ok(answers.into_iter().filter_map(link).collect())
}

/// The unicast routes of all tables, of IPv4 and of IPv6.
///
/// # Errors
/// As [`links`].
pub fn routes(limit: Duration) -> Result<Vec<DumpedRoute>, ChildError> {
    // The kernel dumps every family for a request that names none (Linux: net/core/rtnetlink.c, `rtnl_dump_all`).
    let answers = dump(RouteNetlinkMessage::GetRoute(RouteMessage::default()), limit)?;
    Ok(answers.into_iter().flat_map(hops).collect())
}

/// Sends `request` as a dump and receives all of its answer.
pub(super) fn dump(
    request: RouteNetlinkMessage,
    limit: Duration,
) -> Result<Vec<RouteNetlinkMessage>, ChildError> {
    let deadline = Instant::now() + limit;
    let mut message = NetlinkMessage::from(request);
    message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    message.header.sequence_number = SEQUENCE;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);

    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    child::run(Job::Send { socket: socket.as_fd(), request: &bytes }, limit)?;

    let mut answers = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        if poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout).map_err(io::Error::from)? == 0
        {
            return Err(ChildError::GivenUp { limit });
        }
        let (datagram, _) = socket.recv_from_full()?;
        if take(&datagram, &mut answers)? {
            return Ok(answers);
        }
    }
}

/// Takes the messages of one datagram; true at the end of the dump. A message that this version cannot read is skipped:
/// one odd attribute of one interface must not hide the others.
fn take(mut datagram: &[u8], answers: &mut Vec<RouteNetlinkMessage>) -> io::Result<bool> {
    /// Bytes of `struct nlmsghdr` (netlink(7)).
    const HEADER_BYTES: usize = 16;
    while let Some(length) = datagram.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes)) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(message) = datagram.get(..length).filter(|message| message.len() >= HEADER_BYTES) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message of the dump is cut off"));
        };
        if let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message) {
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                _ => {}
            }
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn link(message: RouteNetlinkMessage) -> Option<DumpedLink> {
    let RouteNetlinkMessage::NewLink(link) = message else { return None };
    let (mut name, mut vfs) = (None, Vec::new());
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text),
            LinkAttribute::VfInfoList(list) => vfs = list.iter().filter_map(vf).collect(),
            _ => {}
        }
    }
    Some(DumpedLink { index: link.header.index, name: name?, vfs })
}

/// Every attribute of a virtual function carries its index.
fn vf(info: &LinkVfInfo) -> Option<DumpedVf> {
    let mut vf = DumpedVf::default();
    let mut index = None;
    for attribute in &info.0 {
        match attribute {
            VfInfo::Mac(mac) => {
                index = Some(mac.vf_id);
                vf.mac = mac.mac.first_chunk().copied().map(MacAddress::from_bytes);
            }
            VfInfo::Vlan(vlan) if vf.vlan.is_none() => {
                (vf.vlan, vf.vlan_priority) = (Some(vlan.vlan_id), Some(vlan.qos));
            }
            VfInfo::VlanList(list) => {
                let outer = list.iter().find_map(|vlan| match vlan {
                    VfVlan::Info(vlan) => Some(vlan),
                    _ => None,
                });
                if let Some(vlan) = outer {
                    (vf.vlan, vf.vlan_priority) = (Some(vlan.vlan_id), Some(vlan.qos));
                }
            }
            VfInfo::Rate(rate) => {
                vf.min_tx_rate_mbps = Some(rate.min_tx_rate);
                vf.max_tx_rate_mbps = Some(rate.max_tx_rate);
            }
            // A driver that does not say (-1 in the kernel's answer) reads as off here, and so does trust.
            VfInfo::SpoofCheck(check) => vf.spoof_check = Some(check.enabled),
            VfInfo::Trust(trust) => vf.trusted = Some(trust.enabled),
            VfInfo::LinkState(link) => {
                vf.link_state = match link.state {
                    VfLinkState::Auto => Some("auto"),
                    VfLinkState::Enable => Some("enable"),
                    VfLinkState::Disable => Some("disable"),
                    _ => None,
                };
            }
            _ => {}
        }
    }
    Some(DumpedVf { index: index?, ..vf })
}

fn hops(message: RouteNetlinkMessage) -> Vec<DumpedRoute> {
    let RouteNetlinkMessage::NewRoute(RouteMessage { header, attributes, .. }) = message else {
        return Vec::new();
    };
    let is_ip = matches!(header.address_family, AddressFamily::Inet | AddressFamily::Inet6);
    if !is_ip || header.kind != RouteType::Unicast {
        return Vec::new();
    }
    let mut table = u32::from(header.table);
    let (mut interfaces, mut own) = (Vec::new(), false);
    for attribute in &attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Oif(index) => interfaces.push(*index),
            RouteAttribute::MultiPath(hops) => interfaces.extend(hops.iter().map(|hop| hop.interface_index)),
            RouteAttribute::Destination(destination) => own = is_interface_own(&header, destination),
            _ => {}
        }
    }
    let is_default = header.destination_prefix_length == 0;
    let route = |interface_index| DumpedRoute { table, is_default, is_interface_own: own, interface_index };
    interfaces.into_iter().map(route).collect()
}

/// Link-local (fe80::/10) and multicast (ff00::/8) destinations of IPv6, which every interface has by itself.
fn is_interface_own(header: &RouteHeader, destination: &netlink_packet_route::route::RouteAddress) -> bool {
    use netlink_packet_route::route::RouteAddress;
    match destination {
        RouteAddress::Inet6(address) => {
            header.destination_prefix_length >= 8
                && (address.is_multicast() || address.is_unicast_link_local())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::{
        VfInfoLinkState, VfInfoMac, VfInfoRate, VfInfoSpoofCheck, VfInfoTrust, VfInfoVlan,
    };
    use netlink_packet_route::route::RouteAddress;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[test]
    fn this_machine_has_a_loopback_link_without_virtual_functions() {
        let links = links(LIMIT).unwrap();

        let loopback = links.iter().find(|link| link.name == "lo").unwrap();
        assert_eq!(loopback.vfs, []);
    }

    #[test]
    fn attributes_of_a_virtual_function_belong_to_its_index() {
        let info = LinkVfInfo(vec![
            VfInfo::Mac(VfInfoMac::new(3, &[2, 0, 0, 0, 0, 7])),
            VfInfo::Vlan(VfInfoVlan::new(3, 42, 5)),
            VfInfo::Rate(VfInfoRate::new(3, 10, 100)),
            VfInfo::SpoofCheck(VfInfoSpoofCheck::new(3, true)),
            VfInfo::Trust(VfInfoTrust::new(3, false)),
            VfInfo::LinkState(VfInfoLinkState::new(3, VfLinkState::Disable)),
        ]);

        let expected = DumpedVf {
            index: 3,
            mac: Some(MacAddress::from_bytes([2, 0, 0, 0, 0, 7])),
            vlan: Some(42),
            vlan_priority: Some(5),
            spoof_check: Some(true),
            trusted: Some(false),
            link_state: Some("disable"),
            min_tx_rate_mbps: Some(10),
            max_tx_rate_mbps: Some(100),
        };
        assert_eq!(vf(&info), Some(expected));
        assert_eq!(vf(&LinkVfInfo(vec![])), None);
    }

    fn route(kind: RouteType, length: u8, attributes: Vec<RouteAttribute>) -> Vec<DumpedRoute> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.kind = kind;
        message.header.destination_prefix_length = length;
        message.header.table = 254;
        message.attributes = attributes;
        hops(RouteNetlinkMessage::NewRoute(message))
    }

    #[test]
    fn a_route_of_a_numbered_table_keeps_its_number_and_only_unicast_counts() {
        let attributes = vec![RouteAttribute::Table(1000), RouteAttribute::Oif(7)];

        let expected =
            DumpedRoute { table: 1000, is_default: true, is_interface_own: false, interface_index: 7 };
        assert_eq!(route(RouteType::Unicast, 0, attributes.clone()), [expected]);
        assert_eq!(route(RouteType::BlackHole, 0, attributes), []);
    }

    #[test]
    fn link_local_and_multicast_destinations_are_the_interfaces_own() {
        for (text, length, own) in [("fe80::", 64, true), ("ff00::", 8, true), ("2001:db8::", 32, false)] {
            let destination = RouteAttribute::Destination(RouteAddress::Inet6(text.parse().unwrap()));
            let hops = route(RouteType::Unicast, length, vec![RouteAttribute::Oif(1), destination]);
            assert_eq!(hops[0].is_interface_own, own, "{text}");
        }
    }

    #[test]
    fn a_datagram_that_is_cut_off_is_an_error() {
        let mut answers = Vec::new();
        assert!(take(&[200, 0, 0, 0, 16, 0, 0, 0], &mut answers).is_err());
        assert!(take(&[4, 0, 0, 0, 16, 0, 0, 0], &mut answers).is_err());
        assert!(!take(&[], &mut answers).unwrap());
    }
}
