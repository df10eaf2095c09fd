//! One device: which kind, with the settings of its kind, and of its place where it is on the PCI bus.

use serde::Serialize;

use super::{OnPci, PciSettings};
use crate::vmm::chipset::debug_exit::DebugExitConfig;
use crate::vmm::chipset::pvpanic::PvpanicConfig;
use crate::vmm::chipset::vmgenid::VmGenIdConfig;
use crate::vmm::vfio::VfioConfig;
use crate::vmm::virtio::devices::block::BlockConfig;
use crate::vmm::virtio::devices::console::ConsoleConfig;
use crate::vmm::virtio::devices::net::NetConfig;
use crate::vmm::virtio::devices::rng::RngConfig;

/// One device of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceConfig {
    /// Paravirtual disk.
    VirtioBlock(OnPci<BlockConfig>),
    /// Paravirtual network card.
    VirtioNet(OnPci<NetConfig>),
    /// Paravirtual console.
    VirtioConsole(OnPci<ConsoleConfig>),
    /// Paravirtual entropy source.
    VirtioRng(OnPci<RngConfig>),
    /// A host function, passed through.
    VfioPci(OnPci<VfioConfig>),
    /// The port by which a guest kernel reports its panic.
    Pvpanic(PvpanicConfig),
    /// An identity of this start of the machine.
    Vmgenid(VmGenIdConfig),
    /// The port by which a test in a guest ends the machine.
    IsaDebugExit(DebugExitConfig),
}

impl DeviceConfig {
    /// The key that names this kind of device in a profile.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::VirtioBlock(_) => "virtio-block",
            Self::VirtioNet(_) => "virtio-net",
            Self::VirtioConsole(_) => "virtio-console",
            Self::VirtioRng(_) => "virtio-rng",
            Self::VfioPci(_) => "vfio-pci",
            Self::Pvpanic(_) => "pvpanic",
            Self::Vmgenid(_) => "vmgenid",
            Self::IsaDebugExit(_) => "isa-debug-exit",
        }
    }

    /// What it is told as a PCI device, if it is one.
    #[must_use]
    pub fn pci(&self) -> Option<&PciSettings> {
        match self {
            Self::VirtioBlock(OnPci { pci, .. })
            | Self::VirtioNet(OnPci { pci, .. })
            | Self::VirtioConsole(OnPci { pci, .. })
            | Self::VirtioRng(OnPci { pci, .. })
            | Self::VfioPci(OnPci { pci, .. }) => Some(pci),
            Self::Pvpanic(_) | Self::Vmgenid(_) | Self::IsaDebugExit(_) => None,
        }
    }

    /// Like [`Self::pci`], to be changed.
    pub fn pci_mut(&mut self) -> Option<&mut PciSettings> {
        match self {
            Self::VirtioBlock(OnPci { pci, .. })
            | Self::VirtioNet(OnPci { pci, .. })
            | Self::VirtioConsole(OnPci { pci, .. })
            | Self::VirtioRng(OnPci { pci, .. })
            | Self::VfioPci(OnPci { pci, .. }) => Some(pci),
            Self::Pvpanic(_) | Self::Vmgenid(_) | Self::IsaDebugExit(_) => None,
        }
    }

    /// Whether it can be put into a slot while the machine runs. A console's place on the host is opened with the machine.
    #[must_use]
    pub fn is_pluggable(&self) -> bool {
        self.pci().is_some() && !matches!(self, Self::VirtioConsole(_))
    }

    /// Its kind with what tells it from others of that kind: `virtio-net(tap0)`.
    #[must_use]
    pub fn label(&self) -> String {
        let kind = self.kind();
        match self {
            Self::VirtioBlock(block) => format!("{kind}({})", block.device.path.display()),
            Self::VirtioNet(net) => format!("{kind}({})", net.device.tap),
            Self::VfioPci(function) => format!("{kind}({})", function.device.address),
            _ => kind.to_owned(),
        }
    }
}
