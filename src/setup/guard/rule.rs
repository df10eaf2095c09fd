//! The rules' names, which stay: scripts and profiles may depend on them.

use std::fmt;

use serde::Serialize;

/// The rules. Their names are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Bridges and root ports are never taken.
    Bridge,
    /// A disk below the function is mounted, swap, part of something bigger, or open.
    DiskInUse,
    /// A disk below the function holds partitions or a file system that nobody uses now.
    DiskWithData,
    /// The only way out of this host leads over the function.
    OnlyDefaultRoute,
    /// A default route leads over the function, and another one elsewhere.
    DefaultRoute,
    /// The session that asks may have come over the function.
    SessionPath,
    /// A process, usually a virtual machine, holds the function.
    VfioOpen,
    /// The function's virtual functions would go with it.
    PfWithVfs,
    /// A virtual function that would go is in use.
    VfInUse,
    /// More virtual functions than the device offers.
    VfCountMax,
    /// A display may be the only one.
    Display,
    /// A sound function of a display that stays.
    DisplayAudio,
    /// The keyboard may be on this USB controller.
    UsbController,
    /// A part of the chipset that the host may need.
    Chipset,
    /// Another member of the IOMMU group is used by the host.
    GroupMember,
    /// Firmware demands memory that stays mapped one to one.
    ReservedRegion,
    /// Interrupts are not remapped: a guest could send any to the host.
    InterruptRemapping,
    /// No IOMMU stands between the function and the host's memory.
    NoIommu,
    /// The function cannot be reset.
    NoReset,
    /// What decides about another rule cannot be seen.
    Unseen,
}

impl Rule {
    /// The rule's name, as in documents: `disk-in-use`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::DiskInUse => "disk-in-use",
            Self::DiskWithData => "disk-with-data",
            Self::OnlyDefaultRoute => "only-default-route",
            Self::DefaultRoute => "default-route",
            Self::SessionPath => "session-path",
            Self::VfioOpen => "vfio-open",
            Self::PfWithVfs => "pf-with-vfs",
            Self::VfInUse => "vf-in-use",
            Self::VfCountMax => "vf-count-max",
            Self::Display => "display",
            Self::DisplayAudio => "display-audio",
            Self::UsbController => "usb-controller",
            Self::Chipset => "chipset",
            Self::GroupMember => "group-member",
            Self::ReservedRegion => "reserved-region",
            Self::InterruptRemapping => "interrupt-remapping",
            Self::NoIommu => "no-iommu",
            Self::NoReset => "no-reset",
            Self::Unseen => "unseen",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
