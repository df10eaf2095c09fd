//! Functions of which the kernel knows more than their registers say: they keep peers apart without saying so, or use
//! the requester ID of another function.
//!
//! Linux 6.18: drivers/pci/quirks.c, `pci_dev_acs_enabled`, `quirk_dma_func0_alias` and `quirk_dma_func1_alias`. An older
//! kernel may lack a row; the groups that it made then say so.

use crate::host::pci::PciDevice;
use crate::spec::port::PortType;

/// Where and how a row holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// For every function of it.
    Always,
    /// For endpoints that are part of the root complex.
    RootComplexEndpoint,
    /// For root ports, once the kernel has set up the chipset.
    ChipsetRootPort,
    /// For root ports and downstream ports.
    Port,
    /// For multi-function devices on a root bus, where there is an AMD IOMMU.
    SouthBridge,
}

/// Devices of one maker.
struct Row {
    vendor: u16,
    devices: &'static [(u16, u16)],
    holds: Holds,
    name: &'static str,
}

const ANY: &[(u16, u16)] = &[(0, u16::MAX)];

/// Devices that keep peers apart, as ranges of device IDs.
const ISOLATING: &[Row] = &[
    Row {
        vendor: 0x1002,
        devices: &[(0x4383, 0x4385), (0x4399, 0x4399), (0x439C, 0x439D)],
        holds: Holds::SouthBridge,
        name: "southbridge of AMD",
    },
    Row {
        vendor: 0x1022,
        devices: &[(0x7809, 0x7809), (0x780F, 0x780F)],
        holds: Holds::SouthBridge,
        name: "southbridge of AMD",
    },
    Row {
        vendor: 0x1924,
        devices: &[(0x0903, 0x0903), (0x0923, 0x0923), (0x0A03, 0x0A03)],
        holds: Holds::Always,
        name: "network card of Solarflare",
    },
    Row {
        vendor: 0x8086,
        devices: &[
            (0x105E, 0x1060),
            (0x10A7, 0x10A7),
            (0x10A9, 0x10A9),
            (0x10C6, 0x10C6),
            (0x10C9, 0x10C9),
            (0x10D6, 0x10D6),
            (0x10D9, 0x10D9),
            (0x10DB, 0x10DB),
            (0x10DD, 0x10DD),
            (0x10E1, 0x10E1),
            (0x10E6, 0x10E8),
            (0x10F1, 0x10F1),
            (0x10F7, 0x10FC),
            (0x1507, 0x1507),
            (0x1509, 0x150A),
            (0x150D, 0x1511),
            (0x1514, 0x1514),
            (0x1516, 0x1516),
            (0x1518, 0x1518),
            (0x151C, 0x151C),
            (0x1521, 0x1524),
            (0x1526, 0x1527),
            (0x1529, 0x152A),
            (0x154D, 0x154D),
            (0x154F, 0x154F),
            (0x1551, 0x1551),
            (0x1558, 0x1558),
            (0x15B7, 0x15B8),
        ],
        holds: Holds::Always,
        name: "network card of Intel",
    },
    Row {
        vendor: 0x8086,
        devices: ANY,
        holds: Holds::RootComplexEndpoint,
        name: "endpoint in a root complex of Intel",
    },
    Row {
        vendor: 0x8086,
        devices: &[
            (0x1C10, 0x1C1F),
            (0x1D10, 0x1D10),
            (0x1D12, 0x1D12),
            (0x1D14, 0x1D14),
            (0x1D16, 0x1D16),
            (0x1D18, 0x1D18),
            (0x1D1A, 0x1D1A),
            (0x1D1C, 0x1D1C),
            (0x1D1E, 0x1D1E),
            (0x1E10, 0x1E1F),
            (0x3B42, 0x3B51),
            (0x8C10, 0x8C1F),
            (0x8C90, 0x8C90),
            (0x8C92, 0x8C92),
            (0x8C94, 0x8C94),
            (0x8C96, 0x8C96),
            (0x8C98, 0x8C98),
            (0x8C9A, 0x8C9A),
            (0x8C9C, 0x8C9C),
            (0x8C9E, 0x8C9E),
            (0x8D10, 0x8D1E),
            (0x9C10, 0x9C1B),
            (0x9C90, 0x9C9B),
        ],
        holds: Holds::ChipsetRootPort,
        name: "root port of an Intel chipset",
    },
    Row {
        vendor: 0x19A2,
        devices: &[(0x0710, 0x0710)],
        holds: Holds::Always,
        name: "network card of Emulex",
    },
    Row {
        vendor: 0x10DF,
        devices: &[(0x0720, 0x0720)],
        holds: Holds::Always,
        name: "network card of Emulex",
    },
    Row {
        vendor: 0x14E4,
        devices: &[(0x16D7, 0x16D7), (0x1750, 0x1752), (0x1760, 0x1763)],
        holds: Holds::Always,
        name: "network card of Broadcom",
    },
    Row {
        vendor: 0x1D17,
        devices: &[(0x3038, 0x3038), (0x3104, 0x3104), (0x9083, 0x9083)],
        holds: Holds::Always,
        name: "controller of Zhaoxin",
    },
    Row {
        vendor: 0x1D17,
        devices: &[(0x0710, 0x071E), (0x0721, 0x0721), (0x0723, 0x0752)],
        holds: Holds::Port,
        name: "port of Zhaoxin",
    },
    Row {
        vendor: 0x8088,
        devices: &[
            (0x0100, 0x010F),
            (0x1001, 0x1001),
            (0x2001, 0x2001),
            (0x5010, 0x5010),
            (0x5025, 0x5025),
            (0x5040, 0x5040),
            (0x5110, 0x5110),
            (0x5125, 0x5125),
            (0x5140, 0x5140),
        ],
        holds: Holds::Always,
        name: "network card of Wangxun",
    },
    Row { vendor: 0x1DEF, devices: &[(0xE005, 0xE00C)], holds: Holds::Always, name: "root port of Ampere" },
];

/// Makers and devices that use the requester ID of function 0 of their slot.
const USES_FUNCTION_0: &[(u16, u16)] =
    &[(0x1180, 0xE832), (0x1180, 0xE476), (0x6766, 0x3D40), (0x6766, 0x3D41)];

/// Makers and devices that use the requester ID of function 1 of their slot: Marvell's SATA controllers and relatives.
const USES_FUNCTION_1: &[(u16, u16)] = &[
    (0x1B4B, 0x9120),
    (0x1B4B, 0x9123),
    (0x1B4B, 0x9125),
    (0x1B4B, 0x9128),
    (0x1B4B, 0x9130),
    (0x1B4B, 0x9170),
    (0x1B4B, 0x9172),
    (0x1B4B, 0x917A),
    (0x1B4B, 0x9182),
    (0x1B4B, 0x9183),
    (0x1B4B, 0x91A0),
    (0x1B4B, 0x9215),
    (0x1B4B, 0x9220),
    (0x1B4B, 0x9230),
    (0x1B4B, 0x9235),
    (0x1103, 0x0642),
    (0x1103, 0x0645),
    (0x197B, 0x2392),
    (0x1C28, 0x0122),
];

/// What a row depends on beside the function's identifiers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances {
    /// The function hangs on no bridge.
    pub(super) on_root_bus: bool,
    /// It has others in its slot.
    pub(super) multifunction: bool,
    /// There is an AMD IOMMU.
    pub(super) amd_iommu: bool,
    /// The kernel's log says that it could not set the chipset up.
    pub(super) chipset_failed: bool,
}

/// What the kernel takes `function` for, if it is known to keep peers apart whatever its registers say.
pub(super) fn isolating(function: &PciDevice, circumstances: Circumstances) -> Option<&'static str> {
    let (vendor, device) = (*function.vendor_id.known()?, *function.device_id.known()?);
    let port_type = function.ports.express.known().map(|express| express.port_type);
    let holds = |row: &Row| match row.holds {
        Holds::Always => true,
        Holds::RootComplexEndpoint => port_type == Some(PortType::ROOT_COMPLEX_ENDPOINT),
        Holds::ChipsetRootPort => port_type == Some(PortType::ROOT_PORT) && !circumstances.chipset_failed,
        Holds::Port => port_type.is_some_and(PortType::leads_down),
        Holds::SouthBridge => {
            circumstances.multifunction && circumstances.on_root_bus && circumstances.amd_iommu
        }
    };
    let fits = |row: &&Row| {
        row.vendor == vendor
            && row.devices.iter().any(|(first, last)| (*first..=*last).contains(&device))
            && holds(row)
    };
    ISOLATING.iter().find(fits).map(|row| row.name)
}

/// The function of its slot whose requester ID `function` is known to use instead of its own.
pub(super) fn dma_alias(function: &PciDevice) -> Option<u8> {
    let ids = (*function.vendor_id.known()?, *function.device_id.known()?);
    let alias = if USES_FUNCTION_0.contains(&ids) {
        0
    } else if USES_FUNCTION_1.contains(&ids) {
        1
    } else {
        return None;
    };
    (alias != function.address.function).then_some(alias)
}
