//! Network interfaces and routes over rtnetlink, each exchange with a time limit.
//!
//! Bringing a link up runs the driver's `ndo_open` under the RTNL lock, which can take long or never end, so the
//! exchange happens in a [`super::child`].
//!
//! Spec: Linux man-pages, rtnetlink(7), netlink(7).

mod dump;

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::child::{self, ChildError, Job};

pub use dump::{DumpedLink, DumpedRoute, DumpedVf, links, routes};

const SEQUENCE: u32 = 1;

/// Brings the network interface `name` up or down.
///
/// # Errors
/// [`ChildError`]; `NotFound` or `ENODEV` when there is no such interface, `PermissionDenied` without CAP_NET_ADMIN.
pub fn set_link(name: &str, up: bool, limit: Duration) -> Result<(), ChildError> {
    let index = nix::net::if_::if_nametoindex(name).map_err(io::Error::from)?;
    let request = request(index, up);
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let (_, answer) = child::run(Job::Exchange { socket: socket.as_fd(), request: &request }, limit)?;
    Ok(acknowledged(&answer)?)
}

fn request(index: u32, up: bool) -> Vec<u8> {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.change_mask = LinkFlags::Up;
    link.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
    let mut message = NetlinkMessage::from(RouteNetlinkMessage::SetLink(link));
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK;
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

    #[test]
    fn request_asks_for_the_up_flag_alone() {
        let bytes = request(7, true);

        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes).unwrap();

        let NetlinkPayload::InnerMessage(RouteNetlinkMessage::SetLink(link)) = message.payload else {
            panic!("{:?}", message.payload)
        };
        assert_eq!(link.header.index, 7);
        assert_eq!((link.header.flags, link.header.change_mask), (LinkFlags::Up, LinkFlags::Up));
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
