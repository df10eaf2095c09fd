//! Network interfaces and routes over rtnetlink, each exchange with a time limit.
//!
//! Bringing a link up runs the driver's `ndo_open` under the RTNL lock, which can take long or never end, and so do the
//! settings of virtual functions with its `ndo_set_vf_*`, so the exchange happens in a [`super::child`].
//!
//! Spec: Linux man-pages, rtnetlink(7), netlink(7); Linux: include/uapi/linux/if_link.h, `IFLA_VFINFO_LIST`.

mod address;
mod dump;

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    LinkAttribute, LinkFlags, LinkMessage, LinkVfInfo, VfInfo, VfInfoLinkState, VfInfoMac, VfInfoRate,
    VfInfoSpoofCheck, VfInfoTrust, VfInfoVlan,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::child::{self, ChildError, Job};
use crate::spec::ethernet::MacAddress;

pub use address::{InterfaceAddress, add_address, addresses, set_controller};
pub use dump::{DumpedLink, DumpedRoute, DumpedVf, links, routes};
pub use netlink_packet_route::link::VfLinkState;

const SEQUENCE: u32 = 1;

/// Brings the network interface `name` up or down.
///
/// # Errors
/// [`ChildError`]; `NotFound` or `ENODEV` when there is no such interface, `PermissionDenied` without CAP_NET_ADMIN.
pub fn set_link(name: &str, up: bool, limit: Duration) -> Result<(), ChildError> {
    exchange_link(up_or_down(index_of(name)?, up), limit)
}

/// One setting of a virtual function, as the driver of its physical function keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VfSetting {
    /// Ethernet address; zero lets the function choose its own.
    Mac(MacAddress),
    /// VLAN that the device adds and removes (802.1Q).
    Vlan {
        /// Number; 0 for none.
        number: u32,
        /// Priority, 0 to 7.
        priority: u32,
    },
    /// Whether it may have what only trusted functions may.
    Trust(bool),
    /// Whether frames with another source address than its own are dropped.
    SpoofCheck(bool),
    /// What it may send.
    TxRate {
        /// Always, in Mbit/s; 0 for no promise.
        min_mbps: u32,
        /// At most, in Mbit/s; 0 for no limit.
        max_mbps: u32,
    },
    /// Whether its link follows that of the physical function.
    LinkState(VfLinkState),
}

impl VfSetting {
    /// What it is about, as a part of a sentence.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mac(_) => "the MAC address",
            Self::Vlan { .. } => "the VLAN",
            Self::Trust(_) => "trust",
            Self::SpoofCheck(_) => "spoof checking",
            Self::TxRate { .. } => "transmit rates",
            Self::LinkState(_) => "the link state",
        }
    }
}

impl fmt::Display for VfSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let switch = |on: bool| if on { "on" } else { "off" };
        match *self {
            Self::Mac(MacAddress::ZERO) => f.write_str("no MAC address"),
            Self::Mac(mac) => write!(f, "MAC address {mac}"),
            Self::Vlan { number: 0, .. } => f.write_str("no VLAN"),
            Self::Vlan { number, .. } => write!(f, "VLAN {number}"),
            Self::Trust(on) => write!(f, "trust {}", switch(on)),
            Self::SpoofCheck(on) => write!(f, "spoof check {}", switch(on)),
            Self::TxRate { min_mbps: 0, max_mbps: 0 } => f.write_str("no transmit rates"),
            Self::TxRate { min_mbps, max_mbps: 0 } => write!(f, "at least {min_mbps} Mbit/s"),
            Self::TxRate { min_mbps: 0, max_mbps } => write!(f, "at most {max_mbps} Mbit/s"),
            Self::TxRate { min_mbps, max_mbps } => write!(f, "{min_mbps} to {max_mbps} Mbit/s"),
            Self::LinkState(VfLinkState::Auto) => f.write_str("link auto"),
            Self::LinkState(VfLinkState::Enable) => f.write_str("link enable"),
            Self::LinkState(VfLinkState::Disable) => f.write_str("link disable"),
            Self::LinkState(other) => write!(f, "link state {other:?}"),
        }
    }
}

/// Sets `setting` of virtual function `vf` of the network interface `name`. Each in an exchange of its own: the kernel
/// stops at the first that the driver refuses, and does not say which one that was (Linux: net/core/rtnetlink.c,
/// `do_setvfinfo`).
///
/// # Errors
/// As [`set_link`]; `EOPNOTSUPP` when the driver has no such setting, `EINVAL` when there is no such function or the
/// driver does not take the value.
pub fn set_vf(name: &str, vf: u16, setting: VfSetting, limit: Duration) -> Result<(), ChildError> {
    exchange_link(vf_setting(index_of(name)?, vf.into(), setting), limit)
}

fn index_of(name: &str) -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex(name)?)
}

fn exchange_link(link: LinkMessage, limit: Duration) -> Result<(), ChildError> {
    exchange(RouteNetlinkMessage::SetLink(link), 0, limit)
}

/// Asks for `message`, with further `flags`, and waits for the answer.
fn exchange(message: RouteNetlinkMessage, flags: u16, limit: Duration) -> Result<(), ChildError> {
    let request = request(message, flags);
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let (_, answer) = child::run(Job::Exchange { socket: socket.as_fd(), request: &request }, limit)?;
    Ok(acknowledged(&answer)?)
}

fn up_or_down(index: u32, up: bool) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.change_mask = LinkFlags::Up;
    link.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
    link
}

fn vf_setting(index: u32, vf: u32, setting: VfSetting) -> LinkMessage {
    let info = match setting {
        VfSetting::Mac(mac) => VfInfo::Mac(VfInfoMac::new(vf, &mac.bytes())),
        VfSetting::Vlan { number, priority } => VfInfo::Vlan(VfInfoVlan::new(vf, number, priority)),
        VfSetting::Trust(on) => VfInfo::Trust(VfInfoTrust::new(vf, on)),
        VfSetting::SpoofCheck(on) => VfInfo::SpoofCheck(VfInfoSpoofCheck::new(vf, on)),
        VfSetting::TxRate { min_mbps, max_mbps } => VfInfo::Rate(VfInfoRate::new(vf, min_mbps, max_mbps)),
        VfSetting::LinkState(state) => VfInfo::LinkState(VfInfoLinkState::new(vf, state)),
    };
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.attributes.push(LinkAttribute::VfInfoList(vec![LinkVfInfo(vec![info])]));
    link
}

fn request(message: RouteNetlinkMessage, flags: u16) -> Vec<u8> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    message.header.sequence_number = SEQUENCE;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(answer)
        .map_err(|error| invalid(error.to_string()))?;
    match message.payload {
        NetlinkPayload::Error(error) if message.header.sequence_number == SEQUENCE => match error.code {
            None => Ok(()),
            Some(_) => Err(error.to_io()),
        },
        _ => Err(invalid("the kernel's answer is no acknowledgement".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel reads of `link`.
    fn sent(link: LinkMessage) -> LinkMessage {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&request(
            RouteNetlinkMessage::SetLink(link),
            0,
        ))
        .unwrap();
        let NetlinkPayload::InnerMessage(RouteNetlinkMessage::SetLink(link)) = message.payload else {
            panic!("{:?}", message.payload)
        };
        link
    }

    #[test]
    fn request_asks_for_the_up_flag_alone() {
        let link = sent(up_or_down(7, true));

        assert_eq!(link.header.index, 7);
        assert_eq!((link.header.flags, link.header.change_mask), (LinkFlags::Up, LinkFlags::Up));
    }

    #[test]
    fn setting_of_a_virtual_function_is_asked_for_alone() {
        let mac = MacAddress::from_bytes([2, 0, 0, 0, 0, 9]);
        for (setting, info) in [
            (VfSetting::Mac(mac), VfInfo::Mac(VfInfoMac::new(3, &[2, 0, 0, 0, 0, 9]))),
            (VfSetting::Vlan { number: 42, priority: 5 }, VfInfo::Vlan(VfInfoVlan::new(3, 42, 5))),
            (VfSetting::Trust(true), VfInfo::Trust(VfInfoTrust::new(3, true))),
            (VfSetting::SpoofCheck(false), VfInfo::SpoofCheck(VfInfoSpoofCheck::new(3, false))),
            (VfSetting::TxRate { min_mbps: 10, max_mbps: 100 }, VfInfo::Rate(VfInfoRate::new(3, 10, 100))),
            (
                VfSetting::LinkState(VfLinkState::Disable),
                VfInfo::LinkState(VfInfoLinkState::new(3, VfLinkState::Disable)),
            ),
        ] {
            let link = sent(vf_setting(7, 3, setting));

            assert_eq!((link.header.index, link.header.change_mask), (7, LinkFlags::empty()));
            assert_eq!(link.attributes, [LinkAttribute::VfInfoList(vec![LinkVfInfo(vec![info])])]);
        }
    }

    #[test]
    fn refusal_carries_the_kernels_error() {
        // nlmsghdr (length 36, type NLMSG_ERROR, sequence 1), nlmsgerr (-EPERM, then the header of the request).
        let mut answer = Vec::new();
        answer.extend(36u32.to_ne_bytes());
        answer.extend(2u16.to_ne_bytes());
        answer.extend(0u16.to_ne_bytes());
        answer.extend(SEQUENCE.to_ne_bytes());
        answer.extend(0u32.to_ne_bytes());
        answer.extend((-libc::EPERM).to_ne_bytes());
        answer.extend([0; 16]);

        let error = acknowledged(&answer).unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn an_interface_that_does_not_exist_is_named_by_the_kernel() {
        let error = set_link("thruway-none", true, Duration::from_secs(5)).unwrap_err();

        assert!(matches!(error, ChildError::Refused(error) if error.raw_os_error() == Some(libc::ENODEV)));
    }
}
