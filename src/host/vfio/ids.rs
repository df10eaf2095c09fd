//! Functions that vfio-pci is told to take by their IDs, and which these are here.
//!
//! Linux: drivers/vfio/pci/vfio_pci.c (`vfio_pci_fill_ids`): `vendor:device[:subvendor[:subdevice[:class[:mask]]]]`, with
//! commas between them; drivers/pci/pci.h (`pci_match_one_device`).

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::kernel::{Kernel, ModuleState};
use crate::host::pci::{Pci, PciDevice};
use crate::spec::pci::PciAddress;

/// Most IDs of one list that are told; the kernel takes 1,024 characters.
const MOST: usize = 128;

/// A list of IDs that somebody gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestedIds {
    /// Where: `/proc/cmdline` or a file of modprobe.d.
    pub source: String,
    /// Whether vfio-pci gets this list: the last one wins, and options of modprobe do not reach what is built in.
    pub in_effect: bool,
    /// The IDs in their order.
    pub ids: Vec<DeviceId>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceId {
    /// As it was given.
    pub text: String,
    /// Whether the kernel understands it.
    pub valid: bool,
    /// The functions that have it.
    pub functions: Vec<PciAddress>,
}

/// The parts of an ID; `None` is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pattern {
    vendor: u32,
    device: u32,
    subvendor: Option<u32>,
    subdevice: Option<u32>,
    class: u32,
    class_mask: u32,
}

/// What is given, in the order in which vfio-pci gets it: modprobe.d, then the command line (modprobe.d(5)).
pub(super) fn collect(kernel: &Kernel, pci: &Pci) -> Fact<Vec<RequestedIds>> {
    let (settings, arguments) = match (&kernel.modprobe, &kernel.parameters) {
        (Fact::Known(settings), Fact::Known(arguments)) => (settings, arguments),
        (Fact::Known(_), unread) => return unread.as_ref().map(|_| Vec::new()),
        (unread, _) => return unread.as_ref().map(|_| Vec::new()),
    };
    let list = |source: &str, text: &str| RequestedIds {
        source: source.to_owned(),
        in_effect: false,
        ids: text.split(',').filter(|id| !id.is_empty()).take(MOST).map(|id| device_id(id, pci)).collect(),
    };
    let of_module = settings.iter().filter(|setting| setting.module == "vfio_pci");
    let mut found: Vec<_> =
        of_module.filter_map(|setting| Some(list(&setting.file, setting.option("ids")?))).collect();
    let of_modprobe = found.len();
    let arguments = arguments.iter().filter(|argument| argument.is("vfio-pci.ids"));
    found.extend(arguments.filter_map(|argument| Some(list("/proc/cmdline", argument.value.as_deref()?))));
    let is_built_in = kernel.module("vfio_pci") == Some(ModuleState::BuiltIn);
    if let Some(last) = found.last_mut().filter(|_| !is_built_in) {
        last.in_effect = true;
    } else if let Some(last) = found.get_mut(of_modprobe..).and_then(<[_]>::last_mut) {
        last.in_effect = true;
    }
    Fact::Known(found)
}

fn device_id(text: &str, pci: &Pci) -> DeviceId {
    let pattern = Pattern::parse(text);
    let functions = pci.functions().iter().filter(|function| pattern.is_some_and(|it| it.fits(function)));
    DeviceId {
        text: text.to_owned(),
        valid: pattern.is_some(),
        functions: functions.map(|function| function.address).collect(),
    }
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':').map(|part| u32::from_str_radix(part, 16));
        let mut next = |default: u32| parts.next().unwrap_or(Ok(default)).ok();
        let (vendor, device) = (next(0)?, next(0)?);
        let any = |value: u32| (value != u32::MAX).then_some(value);
        let pattern = Self {
            vendor,
            device,
            subvendor: any(next(u32::MAX)?),
            subdevice: any(next(u32::MAX)?),
            class: next(0)?,
            class_mask: next(0)?,
        };
        (text.contains(':') && parts.next().is_none()).then_some(pattern)
    }

    fn fits(&self, function: &PciDevice) -> bool {
        let is =
            |fact: &Fact<u16>, wanted: u32| fact.known().is_some_and(|value| u32::from(*value) == wanted);
        let fits = |fact, wanted: Option<u32>| wanted.is_none_or(|wanted| is(fact, wanted));
        is(&function.vendor_id, self.vendor)
            && is(&function.device_id, self.device)
            && fits(&function.subsystem_vendor_id, self.subvendor)
            && fits(&function.subsystem_device_id, self.subdevice)
            && (self.class_mask == 0
                || function.class.known().is_some_and(|class| (class ^ self.class) & self.class_mask == 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_the_kernel_reads_them() {
        let parse = Pattern::parse;
        assert_eq!(parse("10DE:2204").map(|it| (it.vendor, it.device)), Some((0x10DE, 0x2204)));
        assert_eq!(parse("10de:2204:1043:ffffffff:030000:ff0000").unwrap().subvendor, Some(0x1043));
        for bad in ["10de", "10de:", "0x10de:1", "10de:2204:1:2:3:4:5", "10de-2204", "x:y", ":"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
