//! Why a host function could not be passed through: the function, the cause and the way out.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::spec::pci::PciAddress;
use crate::spec::units::ByteSize;
use crate::sys::vfio::AttachError;
use crate::vmm::memory::dma::DmaError;

/// A function that stands in the way, with its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its address, as sysfs spells it.
    pub address: String,
    /// The driver that it is bound to.
    pub driver: String,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (driver {})", self.address, self.driver)
    }
}

/// Joins items for a message.
fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn holders(pids: &[u32]) -> String {
    match pids {
        [] => "by another process".to_owned(),
        [pid] => format!("by process {pid}"),
        pids => format!("by processes {}", list(pids)),
    }
}

/// Passthrough failed.
#[derive(Debug, thiserror::Error)]
pub enum VfioError {
    /// /dev/vfio/vfio cannot be used.
    #[error(
        "cannot open /dev/vfio/vfio; VFIO needs the modules vfio and vfio_iommu_type1, and permission on the file"
    )]
    Container(#[source] vfio_ioctls::VfioError),
    /// No function at this address.
    #[error("there is no PCI function {address} on this host")]
    NoSuchDevice {
        /// The address asked for.
        address: PciAddress,
    },
    /// The function belongs to no IOMMU group.
    #[error(
        "{address} has no IOMMU group, so its DMA cannot be confined; switch on the IOMMU (VT-d or AMD-Vi) in the firmware \
         and, for Intel, boot with intel_iommu=on"
    )]
    NoGroup {
        /// The function.
        address: PciAddress,
    },
    /// The function is not bound to vfio-pci.
    #[error(
        "{address} is {}, not bound to vfio-pci; bind it with `thruway bind {address}`",
        driver.as_ref().map_or_else(|| "without a driver".to_owned(), |name| format!("bound to {name}"))
    )]
    NotBound {
        /// The function.
        address: PciAddress,
        /// Its driver, if it has one.
        driver: Option<String>,
    },
    /// Other members of the group are in use by the host.
    #[error(
        "IOMMU group {group} of {address} is not viable: the host still uses {}; all members of a group go to one guest, so \
         bind them to vfio-pci too, or unbind them",
        list(members)
    )]
    NotViable {
        /// The function.
        address: PciAddress,
        /// Its group.
        group: u32,
        /// The members that are in the way.
        members: Vec<Member>,
    },
    /// The group is open already.
    #[error("IOMMU group {group} of {address} is in use {}", holders(pids))]
    Busy {
        /// The function.
        address: PciAddress,
        /// Its group.
        group: u32,
        /// Processes that hold the group open, as far as they can be seen.
        pids: Vec<u32>,
    },
    /// No permission on the group's file.
    #[error("no permission on {} for {address}; run as root, or give this user the file", path.display())]
    Permission {
        /// The function.
        address: PciAddress,
        /// The group's file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Nothing keeps a device from forging interrupts.
    #[error(
        "the kernel refuses {address} because interrupts are not remapped, so a guest could forge interrupts of the host; \
         switch on interrupt remapping in the firmware. If you trust the guest, the module parameter \
         vfio_iommu_type1.allow_unsafe_interrupts=1 lifts the refusal"
    )]
    NoInterruptRemapping {
        /// The function.
        address: PciAddress,
    },
    /// Firmware keeps memory mapped for this device.
    #[error(
        "the kernel refuses {address} because its firmware needs memory mapped one to one for it ({}); look for a firmware \
         setting that releases the device (RMRR, shared memory, legacy USB)",
        list(regions)
    )]
    DirectMapped {
        /// The function.
        address: PciAddress,
        /// The reserved regions, as sysfs states them.
        regions: Vec<String>,
    },
    /// A step failed for a reason that has no variant of its own.
    #[error("cannot take {address} (IOMMU group {group})")]
    Attach {
        /// The function.
        address: PciAddress,
        /// Its group.
        group: u32,
        /// The step and its reason.
        #[source]
        source: AttachError,
    },
    /// Guest RAM does not fit the IOMMU.
    #[error(
        "{address} cannot reach guest RAM at {:#x} to {:#x}: its IOMMU maps only {}",
        ram.start(), ram.end(),
        list(&reachable.iter().map(|r| format!("{:#x} to {:#x}", r.start(), r.end())).collect::<Vec<_>>())
    )]
    Unreachable {
        /// The function.
        address: PciAddress,
        /// The region of guest RAM.
        ram: RangeInclusive<u64>,
        /// What the IOMMU can map.
        reachable: Vec<RangeInclusive<u64>>,
    },
    /// The limit on locked memory is too low.
    #[error(
        "passthrough locks all {needed} of guest RAM, but this process may lock only {limit}; raise the limit on locked \
         memory (ulimit -l, or LimitMEMLOCK= of the service), or run as root"
    )]
    LockedMemory {
        /// Guest RAM.
        needed: ByteSize,
        /// RLIMIT_MEMLOCK.
        limit: ByteSize,
        /// What was refused.
        #[source]
        source: DmaError,
    },
    /// DMA mapping failed for another reason.
    #[error("cannot give {address} access to guest RAM")]
    Map {
        /// The function.
        address: PciAddress,
        /// What was refused.
        #[source]
        source: DmaError,
    },
    /// The function cannot be passed through at all.
    #[error("{address} {reason}")]
    Unsuitable {
        /// The function.
        address: PciAddress,
        /// What it is, as the end of a sentence.
        reason: &'static str,
    },
    /// The opened device did not answer.
    #[error("{address}: cannot {action}")]
    Device {
        /// The function.
        address: PciAddress,
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}
