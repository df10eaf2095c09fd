//! Functions whose resets are known to go wrong, by their IDs: a table with what happens, what helps, and who says so.
//!
//! A row is bad only where the kernel would use the method: newer kernels leave methods out of `reset_method` that they
//! know to hurt (Linux: drivers/pci/quirks.c), and put a better one in as `device_specific`.
//!
//! Confidence: high from the kernel's own list or from a project that exists for the fault; medium from several reports;
//! low from one report, or where reports disagree.

/// A fault, and the functions that share it.
#[derive(Debug)]
pub struct KnownReset {
    /// Name of the functions for people.
    pub name: &'static str,
    vendor: u16,
    devices: &'static [u16],
    /// Methods that hurt, in the kernel's words.
    pub broken: &'static [&'static str],
    /// What happens.
    pub effect: &'static str,
    /// What helps.
    pub workaround: &'static str,
    /// Who says so.
    pub evidence: &'static str,
    /// How sure that is: `high`, `medium` or `low`.
    pub confidence: &'static str,
}

const HIGH: &str = "high";
const MEDIUM: &str = "medium";
const LOW: &str = "low";

const AMD_EFFECT: &str = "the kernel's reset leaves the card dead: it starts for one guest, and then not until the host boots anew";
const VENDOR_RESET: &str = "load the module vendor-reset before anything resets the card, and write `device_specific` \
                            to its reset_method (https://github.com/gnif/vendor-reset)";
const NO_MODULE: &str = "boot the host anew between guests; people report success with suspending it for a second, and \
                         with a copy of the card's ROM for the guest";
const QUIRKS: &str = "https://github.com/torvalds/linux/blob/master/drivers/pci/quirks.c";
const NEWER_KERNEL: &str = "a kernel whose quirks know the device does not use this method";
const LATE_AFTER_FLR: &str = "it is accessed too soon after the reset and the guest's driver fails";

/// The first of 64 boards that the kernel tells by a mask (Linux: drivers/pci/quirks.c, `quirk_nvidia_no_bus_reset`).
const NVIDIA_BOARD: u16 = 0x2340;
const NVIDIA_BOARD_MASK: u16 = 0xFFC0;

#[rustfmt::skip]
const ROWS: &[KnownReset] = &[
    KnownReset {
        name: "AMD Polaris 10, 11, 12 (RX 460 to 590)", vendor: 0x1002,
        devices: &[
            0x67C0, 0x67C1, 0x67C2, 0x67C4, 0x67C7, 0x67C8, 0x67C9, 0x67CA, 0x67CC, 0x67CF, 0x67D0, 0x67DF, 0x6FDF,
            0x67E0, 0x67E1, 0x67E3, 0x67E7, 0x67E8, 0x67E9, 0x67EB, 0x67EF, 0x67FF,
            0x6980, 0x6981, 0x6985, 0x6986, 0x6987, 0x6995, 0x6997, 0x699F,
        ],
        broken: &["bus"], effect: AMD_EFFECT, workaround: VENDOR_RESET,
        evidence: "https://github.com/gnif/vendor-reset/blob/master/src/device-db.h", confidence: HIGH,
    },
    KnownReset {
        name: "AMD Vega 10 (RX Vega 56, 64)", vendor: 0x1002,
        devices: &[
            0x6860, 0x6861, 0x6862, 0x6863, 0x6864, 0x6867, 0x6868, 0x6869, 0x686A, 0x686B, 0x686C, 0x686D, 0x686E,
            0x686F, 0x687F,
        ],
        broken: &["bus"], effect: AMD_EFFECT, workaround: VENDOR_RESET,
        evidence: "https://github.com/gnif/vendor-reset/issues/35", confidence: HIGH,
    },
    KnownReset {
        name: "AMD Vega 20, Arcturus (Radeon VII, MI50, MI100)", vendor: 0x1002,
        devices: &[0x66A0, 0x66A1, 0x66A2, 0x66A3, 0x66A4, 0x66A7, 0x66AF, 0x738C],
        broken: &["bus"], effect: AMD_EFFECT, workaround: VENDOR_RESET,
        evidence: "https://github.com/gnif/vendor-reset/issues/35", confidence: HIGH,
    },
    KnownReset {
        name: "AMD Navi 10, 12, 14 (RX 5300 to 5700 XT)", vendor: 0x1002,
        devices: &[
            0x7310, 0x7312, 0x7318, 0x7319, 0x731A, 0x731B, 0x731E, 0x731F, 0x7340, 0x7341, 0x7347, 0x734F, 0x7360,
            0x7362,
        ],
        broken: &["bus"], effect: AMD_EFFECT, workaround: VENDOR_RESET,
        evidence: "https://github.com/gnif/vendor-reset/issues/3", confidence: HIGH,
    },
    KnownReset {
        name: "AMD Navi 23 (RX 6600)", vendor: 0x1002, devices: &[0x73FF],
        broken: &["bus"], effect: AMD_EFFECT, workaround: VENDOR_RESET,
        evidence: "https://github.com/gnif/vendor-reset/pull/101", confidence: LOW,
    },
    KnownReset {
        name: "AMD Navi 21 (RX 6800 to 6950 XT)", vendor: 0x1002, devices: &[0x73BF, 0x73AF, 0x73A5],
        broken: &["bus"], effect: "some people's cards do not start for a second guest; other people's do",
        workaround: NO_MODULE, evidence: "https://github.com/gnif/vendor-reset/issues/65", confidence: LOW,
    },
    KnownReset {
        name: "AMD Navi 31, 32 (RX 7700 to 7900 XTX)", vendor: 0x1002, devices: &[0x744C, 0x747E],
        broken: &["bus"], effect: AMD_EFFECT, workaround: NO_MODULE,
        evidence: "https://github.com/gnif/vendor-reset/issues/97", confidence: MEDIUM,
    },
    KnownReset {
        name: "AMD processor graphics (Raven to Phoenix)", vendor: 0x1002,
        devices: &[0x15BF, 0x15DD, 0x15DE, 0x15E7, 0x1636, 0x1638, 0x164C],
        broken: &["bus", "pm"], effect: AMD_EFFECT, workaround: NO_MODULE,
        evidence: "https://github.com/gnif/vendor-reset/issues/82", confidence: LOW,
    },
    KnownReset {
        name: "AMD Instinct MI355X, physical function", vendor: 0x1002, devices: &[0x75A3],
        broken: &["flr", "bus"],
        effect: "after the first reset it reads as all ones until the host boots anew",
        workaround: "pass virtual functions through, made by AMD's GIM driver",
        evidence: "https://github.com/amd/MxGPU-Virtualization/issues/25", confidence: MEDIUM,
    },
    KnownReset {
        name: "NVIDIA GeForce RTX 5070 Ti", vendor: 0x10DE, devices: &[0x2C05],
        broken: &["flr", "bus"],
        effect: "the reset at the end of a guest may freeze the host",
        workaround: "try it while the host has nothing to lose; another report finds that FLR alone works \
                     (https://github.com/NVIDIA/open-gpu-kernel-modules/issues/1353)",
        evidence: "https://github.com/NVIDIA/open-gpu-kernel-modules/issues/853", confidence: LOW,
    },
    KnownReset {
        name: "NVIDIA boards 2340h to 237Fh", vendor: 0x10DE, devices: &[NVIDIA_BOARD],
        broken: &["bus"], effect: "a reset of its bus does not bring it back", workaround: NEWER_KERNEL,
        evidence: QUIRKS, confidence: HIGH,
    },
    KnownReset {
        name: "Intel HD Graphics 630", vendor: 0x8086, devices: &[0x5912],
        broken: &["flr", "af_flr"], effect: "the host freezes (`not ready 1023ms after FLR`) when the guest ends or reboots",
        workaround: "leave the method out of reset_method",
        evidence: "https://github.com/patmagauran/i915ovmfPkg/issues/23", confidence: LOW,
    },
    KnownReset {
        name: "Samsung SM961, PM961", vendor: 0x144D, devices: &[0xA804],
        broken: &["flr"], effect: "it does not come back from a reset while it is enabled", workaround: NEWER_KERNEL,
        evidence: QUIRKS, confidence: HIGH,
    },
    KnownReset {
        name: "Intel DC P3700, P4500", vendor: 0x8086, devices: &[0x0953, 0x0A54],
        broken: &["flr"], effect: LATE_AFTER_FLR, workaround: NEWER_KERNEL,
        evidence: "https://github.com/spdk/spdk/issues/1492", confidence: HIGH,
    },
    KnownReset {
        name: "Solidigm P44 Pro", vendor: 0x025E, devices: &[0xF1AC],
        broken: &["flr"], effect: LATE_AFTER_FLR, workaround: NEWER_KERNEL, evidence: QUIRKS, confidence: HIGH,
    },
    KnownReset {
        name: "AMD Starship, Matisse sound and USB; FCH SATA", vendor: 0x1022,
        devices: &[0x1487, 0x148C, 0x149C, 0x7901],
        broken: &["flr"], effect: "the function hangs, and the host with it", workaround: NEWER_KERNEL,
        evidence: QUIRKS, confidence: HIGH,
    },
    KnownReset {
        name: "Intel 82579", vendor: 0x8086, devices: &[0x1502, 0x1503],
        broken: &["flr", "af_flr"], effect: "the function hangs", workaround: NEWER_KERNEL,
        evidence: QUIRKS, confidence: HIGH,
    },
    KnownReset {
        name: "MediaTek MT7922", vendor: 0x14C3, devices: &[0x0616],
        broken: &["flr"], effect: "it reads as all ones after the reset", workaround: NEWER_KERNEL,
        evidence: "https://github.com/QubesOS/qubes-issues/issues/9689", confidence: HIGH,
    },
    KnownReset {
        name: "Atheros AR93xx to QCA6174", vendor: 0x168C,
        devices: &[0x0030, 0x0032, 0x0033, 0x0034, 0x003C, 0x003E],
        broken: &["bus"], effect: "its link does not come up again, and the host may hang", workaround: NEWER_KERNEL,
        evidence: "https://lore.kernel.org/r/20140923210318.498dacbd@dualc.maya.org/", confidence: HIGH,
    },
    KnownReset {
        name: "Qualcomm WCN6855, WCN7850", vendor: 0x17CB, devices: &[0x1103, 0x1107],
        broken: &["bus"], effect: "its link does not come up again", workaround: "leave the method out of reset_method",
        evidence: "https://lore.kernel.org/all/20260602160024.1171949-4-jtornosm@redhat.com/", confidence: MEDIUM,
    },
    KnownReset {
        name: "ASMedia ASM1164 SATA", vendor: 0x1B21, devices: &[0x1164],
        broken: &["bus"], effect: "its link does not come up again", workaround: NEWER_KERNEL,
        evidence: "https://forum.proxmox.com/threads/problems-with-pcie-passthrough-with-two-identical-devices.149003/",
        confidence: HIGH,
    },
    KnownReset {
        name: "LSI FW643 FireWire", vendor: 0x11C1, devices: &[0x5900, 0x5901],
        broken: &["bus"], effect: "its link is broken until the machine is off", workaround: NEWER_KERNEL,
        evidence: QUIRKS, confidence: HIGH,
    },
    KnownReset {
        name: "TI KeyStone C667X", vendor: 0x104C, devices: &[0xB005],
        broken: &["bus"], effect: "its link does not come up again", workaround: NEWER_KERNEL,
        evidence: "https://e2e.ti.com/support/processors/f/791/t/954382", confidence: HIGH,
    },
    KnownReset {
        name: "Renesas uPD720201 USB", vendor: 0x1912, devices: &[0x0014],
        broken: &["bus"], effect: "the controller stays halted until the machine is off",
        workaround: "pass single USB devices to the guest, or use a controller that has FLR",
        evidence: "https://github.com/hathach/tinyusb/pull/3766", confidence: LOW,
    },
];

/// What is known of the function with this vendor and device ID.
#[must_use]
pub fn known_reset((vendor, device): (u16, u16)) -> Option<&'static KnownReset> {
    let device = match (vendor, device & NVIDIA_BOARD_MASK) {
        (0x10DE, NVIDIA_BOARD) => NVIDIA_BOARD,
        _ => device,
    };
    ROWS.iter().find(|row| row.vendor == vendor && row.devices.contains(&device))
}

impl KnownReset {
    /// Which broken method the kernel would use, given those that it lists. `bus` hurts unlisted, too: VFIO resets the bus
    /// when all that is on it goes to one guest.
    #[must_use]
    pub fn used(&self, methods: &[String]) -> Option<&'static str> {
        if methods.first().is_some_and(|method| method == "device_specific") {
            return None;
        }
        let broken = |method: &str| self.broken.iter().find(|broken| **broken == method).copied();
        let unlisted = || if methods.is_empty() { broken("bus") } else { None };
        methods.iter().find_map(|method| broken(method)).or_else(unlisted)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_function_stands_in_two_rows_and_every_row_has_a_link() {
        let mut seen = BTreeSet::new();
        for row in ROWS {
            assert!(row.evidence.starts_with("https://"), "{}", row.name);
            assert!(!row.broken.is_empty() && !row.devices.is_empty(), "{}", row.name);
            for device in row.devices {
                assert!(seen.insert((row.vendor, *device)), "{}: {device:04x}", row.name);
            }
        }
    }

    #[test]
    fn a_method_of_its_own_that_comes_first_is_not_bad() {
        let methods = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let navi = known_reset((0x1002, 0x731F)).unwrap();
        assert_eq!(navi.used(&methods("bus")), Some("bus"));
        assert_eq!(navi.used(&methods("device_specific bus")), None);
        assert_eq!(known_reset((0x10DE, 0x237F)).unwrap().devices, [NVIDIA_BOARD]);
        assert!(known_reset((0x10DE, 0x2380)).is_none());
        let matisse = known_reset((0x1022, 0x149C)).unwrap();
        assert_eq!(matisse.used(&methods("pm bus")), None);
        assert_eq!(matisse.used(&methods("flr pm bus")), Some("flr"));
    }
}
