//! PCI functions: reset, power, displays, links and memory, what they are to the host.

mod displays;
mod host;
mod known_resets;
mod links;
mod power;
mod resets;
mod roles;
#[cfg(test)]
pub(super) mod tests;

use super::{Check, Outcome, Purpose, Question};
use crate::host::HostFacts;
use crate::host::pci::PciDevice;
use crate::spec::pci::PciAddress;

const VFIO: &[Purpose] = &[Purpose::Vfio];
const SPEED: &[Purpose] = &[Purpose::Performance];

/// The checks of this file.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "pci-errors",
        title: "PCI Express reports no errors",
        purposes: &[Purpose::Vfio, Purpose::Performance],
        why: "A link that repeats what it sends is slow; one that cannot correct an error loses data, and a guest's \
              device with it.",
        refs: &["PCIe 6.0, 6.2", "Linux: Documentation/PCI/pcieaer-howto.rst"],
        run: Question::Host(host::errors),
    },
    Check {
        id: "pci-numa-nodes",
        title: "the NUMA node of functions is known",
        purposes: SPEED,
        why: "A device reaches the memory of its own socket faster. Who places a guest has to know which socket that is.",
        refs: &["ACPI 6.5, 6.2.15, _PXM", "Linux: Documentation/ABI/testing/sysfs-bus-pci, numa_node"],
        run: Question::Host(host::numa_nodes),
    },
    Check {
        id: "pci-chipset",
        title: "it is no part of the chipset",
        purposes: VFIO,
        why: "Bridges stay with the host. Clocks, SMBus, management engine and remote management look like other \
              functions and are what the machine runs on.",
        refs: &["PCI Code and ID 1.11, 1", "Linux: drivers/vfio/vfio_main.c"],
        run: Question::Function(roles::chipset),
    },
    Check {
        id: "pci-answers",
        title: "it answers",
        purposes: VFIO,
        why: "A function that lost its power or its link, or that a reset broke, reads as all ones. Nothing works with \
              it until it is found again.",
        refs: &["PCIe 6.0, 2.3.2", "Linux: include/linux/pci.h, PCI_ERROR_RESPONSE"],
        run: Question::Function(power::answers),
    },
    Check {
        id: "pci-controller",
        title: "nothing that the host needs hangs on it",
        purposes: VFIO,
        why: "A guest gets a controller with all that is plugged into it: drives, keyboards, whatever stands behind a \
              volume management device.",
        refs: &["Linux: drivers/pci/controller/vmd.c", "Linux: Documentation/ABI/testing/sysfs-bus-usb"],
        run: Question::Function(roles::controller),
    },
    Check {
        id: "pci-identical",
        title: "no argument claims its twins",
        purposes: VFIO,
        why: "vfio-pci.ids= names functions by their IDs. Where two have the same, both go to VFIO: the guest's and the \
              host's.",
        refs: &["Linux: drivers/vfio/pci/vfio_pci.c, ids"],
        run: Question::Function(roles::identical),
    },
    Check {
        id: "pci-reset",
        title: "it can be reset",
        purposes: VFIO,
        why: "Between two users a function has to forget the first. One that cannot be reset keeps its state: secrets, \
              broken modes, DMA that still runs. Many then work for one guest only.",
        refs: &["PCIe 6.0, 6.6.2", "Linux: Documentation/ABI/testing/sysfs-bus-pci, reset_method"],
        run: Question::Function(resets::usable),
    },
    Check {
        id: "pci-reset-siblings",
        title: "its reset hits nobody else",
        purposes: VFIO,
        why: "A reset of a bus resets all that is on it. VFIO does that only for whoever holds all of it, so that a \
              function without a reset of its own is not reset while the host uses its neighbour.",
        refs: &["PCIe 6.0, 6.6.1", "Linux: include/uapi/linux/vfio.h, VFIO_DEVICE_PCI_HOT_RESET"],
        run: Question::Function(resets::siblings),
    },
    Check {
        id: "pci-reset-known-bad",
        title: "nothing bad is known of its reset",
        purposes: VFIO,
        why: "Some devices offer a reset that does not work, or that takes the host down. They are known by their IDs; \
              newer kernels avoid some of them.",
        refs: &["Linux: drivers/pci/quirks.c", "https://github.com/gnif/vendor-reset"],
        run: Question::Function(known_resets::known_bad),
    },
    Check {
        id: "pci-reset-failed",
        title: "no reset of it went wrong",
        purposes: VFIO,
        why: "What the kernel's log says of this very device tells more than its capabilities: a function that was not \
              ready after a reset once will do so again.",
        refs: &["Linux: drivers/pci/pci.c, pci_dev_wait"],
        run: Question::Function(resets::failed),
    },
    Check {
        id: "pci-d3cold",
        title: "it does not lose power while idle",
        purposes: VFIO,
        why: "VFIO lets a function sleep while no guest uses it. In D3cold it has no power at all, and some displays \
              never come back.",
        refs: &["PCIe 6.0, 5.3.1.4.2", "Linux: drivers/vfio/pci/vfio_pci_core.c, disable_idle_d3"],
        run: Question::Function(power::d3cold),
    },
    Check {
        id: "pci-framebuffer",
        title: "the kernel does not draw on it",
        purposes: VFIO,
        why: "Firmware leaves a picture in the memory of the display that it started with, and the kernel goes on to \
              draw there. While it holds that memory, VFIO cannot give it to a guest.",
        refs: &["Linux: drivers/firmware/sysfb.c", "Linux: drivers/gpu/drm/sysfb/simpledrm.c"],
        run: Question::Function(displays::framebuffer),
    },
    Check {
        id: "pci-last-display",
        title: "the host keeps a display",
        purposes: VFIO,
        why: "A host without display and serial console says nothing when it does not boot or loses its network.",
        refs: &["Linux: Documentation/admin-guide/serial-console.rst"],
        run: Question::Function(displays::last_display),
    },
    Check {
        id: "pci-option-rom",
        title: "the display brings its ROM",
        purposes: VFIO,
        why: "A guest's firmware shows its first picture with the program in the display's option ROM. Some drivers need \
              its tables, too.",
        refs: &["PCI 3.0, 6.3", "Linux: Documentation/ABI/testing/sysfs-bus-pci, rom"],
        run: Question::Function(displays::option_rom),
    },
    Check {
        id: "pci-companions",
        title: "the whole card goes along",
        purposes: VFIO,
        why: "Sound, USB and power of a graphics card are functions of their own. Left with the host, they keep the card \
              awake, hold its reset up, and are missed by the guest's driver.",
        refs: &["PCI 3.0, 3.2.2.3.4", "Linux: Documentation/driver-api/vfio.rst"],
        run: Question::Function(displays::companions),
    },
    Check {
        id: "pci-bars",
        title: "its memory has a place",
        purposes: VFIO,
        why: "A device is worked with through windows of memory. Where firmware left too little room for them, the \
              device is there and no driver can use it.",
        refs: &["PCI 3.0, 6.2.5", "Linux: Documentation/ABI/testing/sysfs-bus-pci, resource"],
        run: Question::Function(links::bars),
    },
    Check {
        id: "pci-link",
        title: "its link runs at all that it can",
        purposes: SPEED,
        why: "A card in the wrong slot, or one that does not sit well, works at a part of its speed, in the host as in a \
              guest.",
        refs: &["PCIe 6.0, 7.5.3.6 to 7.5.3.8"],
        run: Question::Function(links::link),
    },
    Check {
        id: "pci-resizable-bar",
        title: "its resizable memory is not the smallest",
        purposes: SPEED,
        why: "A display whose memory is reached through a small window moves it about all the time. The size is chosen \
              before a guest has the device.",
        refs: &["PCIe 6.0, 7.8.6", "Linux: Documentation/ABI/testing/sysfs-bus-pci, resourceN_resize"],
        run: Question::Function(links::resizable_bar),
    },
    Check {
        id: "pci-message-interrupts",
        title: "it interrupts by messages",
        purposes: SPEED,
        why: "Messages go to a guest without the host in between, where the processor can post them. Lines are shared, \
              and every interrupt on them is handled by the host first.",
        refs: &["PCI 3.0, 6.8", "Linux: drivers/vfio/pci/vfio_pci_intrs.c"],
        run: Question::Function(links::message_interrupts),
    },
];

/// An attribute of a function, as the place of evidence.
fn attribute(function: &PciDevice, name: &str) -> String {
    format!("/sys/bus/pci/devices/{}/{name}", function.address)
}

/// Addresses in a row.
fn names(addresses: &[PciAddress]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Vendor and device ID, or the answer where one of them could not be read. `subject` as in [`Outcome::unread`].
fn ids(function: &PciDevice, subject: &str) -> Result<(u16, u16), Outcome> {
    match (function.vendor_id.known(), function.device_id.known()) {
        (Some(vendor), Some(device)) => Ok((*vendor, *device)),
        (None, _) => Err(Outcome::unread(&function.vendor_id, subject)),
        (_, None) => Err(Outcome::unread(&function.device_id, subject)),
    }
}

/// The answer for a bridge, of which nobody asks this.
fn skip_bridge(function: &PciDevice) -> Option<Outcome> {
    function.is_bridge().then(|| Outcome::not_applicable("it is a bridge"))
}

/// The other functions of the device that `function` is one of.
fn same_device<'a>(facts: &'a HostFacts, function: &PciDevice) -> impl Iterator<Item = &'a PciDevice> {
    let address = function.address;
    facts.pci.functions().iter().filter(move |other| {
        other.address != address
            && (other.address.domain, other.address.bus, other.address.device)
                == (address.domain, address.bus, address.device)
    })
}
