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
    /// The host starts from a disk below the function, though nothing of it is mounted now.
    BootDisk,
    /// A disk below the function holds partitions or a file system that nobody uses now.
    DiskWithData,
    /// The next boot mounts a disk below the function.
    DiskInFstab,
    /// Drives behind the function, in a PCI domain of its own, are in use or hold data.
    VolumeManagement,
    /// The only way out of this host leads over the function.
    OnlyDefaultRoute,
    /// A default route leads over the function, and another one elsewhere.
    DefaultRoute,
    /// The session that asks may have come over the function.
    SessionPath,
    /// What this host runs from, or other files of its, come over the network, and may come over the function.
    RemoteStorage,
    /// A process, usually a virtual machine, holds the function.
    VfioOpen,
    /// The function's virtual functions would go with it.
    PfWithVfs,
    /// A virtual function that would go is in use.
    VfInUse,
    /// More virtual functions than the device offers.
    VfCountMax,
    /// The host may be showing its console on the display.
    Display,
    /// A sound function of a display that stays.
    DisplayAudio,
    /// A process holds a device file of the function.
    NodeOpen,
    /// A keyboard hangs on the function.
    Input,
    /// Something that the host uses hangs on this USB controller.
    UsbController,
    /// The function may be the serial console.
    SerialConsole,
    /// A part of the chipset that the host may need.
    Chipset,
    /// The function keeps the machine cool.
    Thermal,
    /// The function is memory of the host.
    Memory,
    /// Another member of the IOMMU group is used by the host.
    GroupMember,
    /// Firmware demands memory that stays mapped one to one.
    ReservedRegion,
    /// Only an argument of a patched kernel keeps the function apart from others.
    AcsOverride,
    /// Interrupts are not remapped: a guest could send any to the host.
    InterruptRemapping,
    /// No IOMMU stands between the function and the host's memory.
    NoIommu,
    /// The function cannot be reset.
    NoReset,
    /// Only a reset of its bus resets the function, which resets others too.
    BusReset,
    /// Resets of such functions are known to go wrong.
    KnownReset,
    /// The function may lose its power while nobody uses it, and not come back.
    D3cold,
    /// A display without the ROM that shows a guest its first picture.
    OptionRom,
    /// Other functions of the card stay with the host.
    PartOfCard,
    /// The function is on another NUMA node than the memory.
    NumaRemote,
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
            Self::BootDisk => "boot-disk",
            Self::DiskWithData => "disk-with-data",
            Self::DiskInFstab => "disk-in-fstab",
            Self::VolumeManagement => "volume-management",
            Self::OnlyDefaultRoute => "only-default-route",
            Self::DefaultRoute => "default-route",
            Self::SessionPath => "session-path",
            Self::RemoteStorage => "remote-storage",
            Self::VfioOpen => "vfio-open",
            Self::PfWithVfs => "pf-with-vfs",
            Self::VfInUse => "vf-in-use",
            Self::VfCountMax => "vf-count-max",
            Self::Display => "display",
            Self::DisplayAudio => "display-audio",
            Self::NodeOpen => "node-open",
            Self::Input => "input",
            Self::UsbController => "usb-controller",
            Self::SerialConsole => "serial-console",
            Self::Chipset => "chipset",
            Self::Thermal => "thermal",
            Self::Memory => "memory",
            Self::GroupMember => "group-member",
            Self::ReservedRegion => "reserved-region",
            Self::AcsOverride => "acs-override",
            Self::InterruptRemapping => "interrupt-remapping",
            Self::NoIommu => "no-iommu",
            Self::NoReset => "no-reset",
            Self::BusReset => "bus-reset",
            Self::KnownReset => "known-reset",
            Self::D3cold => "d3cold",
            Self::OptionRom => "option-rom",
            Self::PartOfCard => "part-of-card",
            Self::NumaRemote => "numa-remote",
            Self::Unseen => "unseen",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
