//! Tap interfaces: Ethernet frames of a host interface as reads and writes (Linux: Documentation/networking/tuntap.rst).
#![expect(unsafe_code, reason = "ioctls of /dev/net/tun")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::net::if_::if_nametoindex;
use vm_memory::VolatileSlice;

use crate::sys::scatter;

const DEVICE: &str = "/dev/net/tun";

mod ioctl {
    //! Requests of include/uapi/linux/if_tun.h.
    nix::ioctl_write_ptr_bad!(
        set_interface,
        nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
        libc::ifreq
    );
    nix::ioctl_write_int_bad!(set_offload, nix::request_code_write!(b'T', 208, size_of::<libc::c_uint>()));
    nix::ioctl_write_ptr_bad!(
        set_header_size,
        nix::request_code_write!(b'T', 216, size_of::<libc::c_int>()),
        libc::c_int
    );
}

bitflags::bitflags! {
    /// What the reader of a tap takes (TUNSETOFFLOAD).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Offload: u8 {
        /// Packets whose checksum is not complete.
        const CHECKSUM = 0x01;
        /// TCP over IPv4 to be segmented.
        const TSO4 = 0x02;
        /// TCP over IPv6 to be segmented.
        const TSO6 = 0x04;
        /// TSO packets with ECN.
        const TSO_ECN = 0x08;
    }
}

/// An open tap interface. Each read and write is one frame with a virtio-net header before it; both return
/// [`WouldBlock`](io::ErrorKind::WouldBlock) rather than wait.
#[derive(Debug)]
pub struct Tap(File);

/// Why a tap interface cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The host has no tun driver.
    #[error("cannot open {DEVICE}: load the tun driver (`modprobe tun`) or ask for access to it")]
    NoDriver(#[source] io::Error),
    /// There is no interface of this name.
    #[error(
        "there is no interface `{name}`: make it with `ip tuntap add dev {name} mode tap user USER`, and `ip link set {name} up`"
    )]
    Missing {
        /// Name that was asked for.
        name: String,
    },
    /// The name is empty, too long or not one that an interface can have.
    #[error("`{name}` cannot be the name of an interface")]
    InvalidName {
        /// Name that was asked for.
        name: String,
    },
    /// Another process has it open.
    #[error("tap interface `{name}` is in use by another process")]
    InUse {
        /// The interface.
        name: String,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// It belongs to somebody else.
    #[error("no permission for tap interface `{name}`: make it with `user USER`, or run with CAP_NET_ADMIN")]
    Permission {
        /// The interface.
        name: String,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The interface is no tap interface.
    #[error("interface `{name}` is not a tap interface of one queue")]
    NotATap {
        /// The interface.
        name: String,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// Something else that the kernel refused.
    #[error("cannot {what} tap interface `{name}`")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// The interface.
        name: String,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
}

impl Tap {
    /// Opens the existing tap interface `name`, with a virtio-net header of `header_bytes` before each frame. Nothing is
    /// created: an interface that is missing stays missing.
    ///
    /// # Errors
    /// [`TapError`], which says what to do.
    pub fn open(name: &str, header_bytes: u8) -> Result<Self, TapError> {
        let owned = || name.to_owned();
        let request = interface_request(name).ok_or_else(|| TapError::InvalidName { name: owned() })?;
        if if_nametoindex(name).is_err() {
            return Err(TapError::Missing { name: owned() });
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(DEVICE)
            .map_err(TapError::NoDriver)?;
        // SAFETY: the descriptor is open and `request` is an initialised ifreq that the kernel copies.
        let attached = unsafe { ioctl::set_interface(file.as_raw_fd(), &raw const request) };
        attached.map_err(|errno| {
            let (name, source) = (owned(), io::Error::from(errno));
            match errno {
                nix::errno::Errno::EBUSY => TapError::InUse { name, source },
                nix::errno::Errno::EPERM => TapError::Permission { name, source },
                nix::errno::Errno::EINVAL => TapError::NotATap { name, source },
                _ => TapError::Refused { what: "attach to", name, source },
            }
        })?;
        let size = libc::c_int::from(header_bytes);
        // SAFETY: the descriptor is open and the kernel copies one int from `size`.
        let sized = unsafe { ioctl::set_header_size(file.as_raw_fd(), &raw const size) };
        sized.map_err(|errno| TapError::Refused {
            what: "set the header size of",
            name: owned(),
            source: errno.into(),
        })?;
        Ok(Self(file))
    }

    /// Says which packets the reader takes.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn set_offload(&self, offload: Offload) -> io::Result<()> {
        // SAFETY: the descriptor is open; the argument is a number.
        unsafe { ioctl::set_offload(self.0.as_raw_fd(), libc::c_int::from(offload.bits())) }?;
        Ok(())
    }

    /// Reads one header and frame.
    ///
    /// # Errors
    /// What read(2) answered.
    pub fn receive(&self, frame: &mut [u8]) -> io::Result<usize> {
        scatter::read(&self.0, &[VolatileSlice::from(frame)])
    }

    /// Writes one header and frame that lie in pieces.
    ///
    /// # Errors
    /// What writev(2) answered: `EINVAL` for a malformed header.
    pub fn send(&self, pieces: &[VolatileSlice<'_>]) -> io::Result<usize> {
        scatter::write(&self.0, pieces)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An ifreq that asks for a tap interface with virtio-net headers; `None` for a name that does not fit or is empty.
fn interface_request(name: &str) -> Option<libc::ifreq> {
    let mut ifr_name = [0; libc::IFNAMSIZ];
    if name.is_empty() || name.len() >= ifr_name.len() || name.contains('\0') {
        return None;
    }
    for (target, byte) in ifr_name.iter_mut().zip(name.bytes()) {
        *target = libc::c_char::from_ne_bytes([byte]);
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    let ifru_flags = libc::c_short::try_from(flags).ok()?;
    Some(libc::ifreq { ifr_name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_interface_and_impossible_names_are_told_apart() {
        assert!(matches!(Tap::open("no-such-tap0", 12), Err(TapError::Missing { .. })));
        for name in ["", "name-that-is-too-long", "a\0b"] {
            assert!(matches!(Tap::open(name, 12), Err(TapError::InvalidName { .. })), "{name:?}");
        }
    }

    #[test]
    fn an_interface_that_is_no_tap_is_named() {
        let error = Tap::open("lo", 12).unwrap_err();
        let refused =
            matches!(error, TapError::NoDriver(_) | TapError::NotATap { .. } | TapError::Permission { .. });
        assert!(refused, "{error:?}");
    }
}
