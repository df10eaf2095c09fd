//! Whether a function keeps its peers apart, by the rule with which the kernel divides functions into groups.
//!
//! Linux: drivers/pci/pci.c, `pci_acs_enabled` and `pci_acs_flags_enabled`. Quirks go before registers; the override
//! that some distributions patch in (`pcie_acs_override=`) comes last and only where there is no capability.

use crate::host::fact::Fact;
use crate::host::iommu::quirks::{self, Circumstances};
use crate::host::kernel::Kernel;
use crate::host::kernel_log::KernelLog;
use crate::host::pci::PciDevice;
use crate::spec::acs::Services;
use crate::spec::port::PortType;

/// Whether a function keeps its peers apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Isolation {
    /// It does.
    Kept(Basis),
    /// It does not.
    Open(Lack),
    /// The registers that say so could not be read.
    Unknown {
        /// Where they would have been read.
        source: String,
        /// Why they could not.
        reason: String,
    },
}

/// Why peers are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// All that its ACS capability offers of what is needed is switched on.
    Acs,
    /// It has no peers: a single function.
    SingleFunction,
    /// The kernel knows that this device does, whatever its registers say.
    Quirk(&'static str),
    /// Somebody told a patched kernel to believe so. Nothing is kept apart.
    Override,
}

/// What is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// The ACS capability.
    Capability,
    /// Services that the capability offers and that are switched off.
    Services(Services),
    /// It is a conventional function, or a bridge to such: a shared bus keeps nobody apart.
    Express,
}

/// What `pcie_acs_override=` asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Override {
    /// The parameter's values, as they stand on the command line.
    pub arguments: Vec<String>,
    /// Whether the kernel says in its log that it does so. Kernels without the patch ignore the parameter.
    pub logged: bool,
    downstream: bool,
    multifunction: bool,
    ids: Vec<(u16, u16)>,
}

impl Override {
    /// The parameter's name.
    pub const PARAMETER: &str = "pcie_acs_override";
    /// What a patched kernel writes into its log.
    pub const MESSAGE: &str = "PCIe ACS overrides enabled";

    /// What was asked of the running kernel.
    #[must_use]
    pub fn of(kernel: &Kernel, log: &KernelLog) -> Self {
        let arguments: Vec<_> = kernel.parameter(Self::PARAMETER).map(str::to_owned).collect();
        let words = || arguments.iter().flat_map(|argument| argument.split(','));
        let id = |word: &str| {
            let (vendor, device) = word.strip_prefix("id:")?.split_once(':')?;
            Some((u16::from_str_radix(vendor, 16).ok()?, u16::from_str_radix(device, 16).ok()?))
        };
        Self {
            downstream: words().any(|word| word == "downstream"),
            multifunction: words().any(|word| word == "multifunction"),
            ids: words().filter_map(id).collect(),
            logged: log.first(&[Self::MESSAGE]).is_some(),
            arguments,
        }
    }

    /// Whether it is about `function`, which must have no ACS capability.
    #[must_use]
    pub fn covers(&self, function: &PciDevice) -> bool {
        let ids = function.vendor_id.known().copied().zip(function.device_id.known().copied());
        let Some(express) = function.ports.express.known() else { return false };
        function.ports.acs == Fact::NotPresent
            && (ids.is_some_and(|ids| self.ids.contains(&ids))
                || if express.port_type.leads_down() {
                    self.downstream
                } else {
                    self.multifunction && is_multifunction(function)
                })
    }
}

/// Whether the kernel counts `function` as one of several in its slot. It does so for all above function 0 (Linux:
/// drivers/pci/probe.c, `pci_scan_slot`), and never for virtual functions (drivers/pci/iov.c).
pub(super) fn is_multifunction(function: &PciDevice) -> bool {
    function.physical_function.known().is_none()
        && (function.address.function > 0 || function.ports.multifunction == Fact::Known(true))
}

/// The kernel's rule, and what it depends on beside the function.
#[derive(Debug)]
pub struct Rules<'a> {
    /// What the override asks for.
    pub acs_override: Override,
    /// Arguments with which the kernel was told to switch ACS off (`pci=config_acs=`, `pci=disable_acs_redir=`), as
    /// they stand on the command line.
    pub acs_arguments: Vec<String>,
    log: &'a KernelLog,
    amd_iommu: bool,
}

impl<'a> Rules<'a> {
    /// The rules of a running kernel. `acpi_tables` as in [`super::Iommu::acpi_tables`].
    #[must_use]
    pub fn of(kernel: &Kernel, log: &'a KernelLog, acpi_tables: &Fact<Vec<String>>) -> Self {
        Self {
            acs_override: Override::of(kernel, log),
            acs_arguments: kernel
                .parameter("pci")
                .filter(|value| ["config_acs=", "disable_acs_redir="].iter().any(|word| value.contains(word)))
                .map(|value| format!("pci={value}"))
                .collect(),
            log,
            amd_iommu: acpi_tables.known().is_some_and(|tables| tables.iter().any(|table| table == "IVRS")),
        }
    }

    /// The messages of the kernel's log that are about ACS.
    pub(super) fn messages(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.log.with(&["ACS"])
    }

    /// Whether `function` keeps its peers apart.
    #[must_use]
    pub fn isolation(&self, function: &PciDevice, on_root_bus: bool) -> Isolation {
        let by_registers = by_registers(function);
        if matches!(by_registers, Isolation::Kept(_)) {
            return by_registers;
        }
        let address = function.address.to_string();
        let circumstances = Circumstances {
            on_root_bus,
            multifunction: is_multifunction(function),
            amd_iommu: self.amd_iommu,
            chipset_failed: self
                .log
                .with(&["Failed to enable Intel PCH ACS quirk"])
                .any(|message| message.contains(&address)),
        };
        if let Some(name) = quirks::isolating(function, circumstances) {
            return Isolation::Kept(Basis::Quirk(name));
        }
        match by_registers {
            Isolation::Open(Lack::Capability)
                if self.acs_override.logged && self.acs_override.covers(function) =>
            {
                Isolation::Kept(Basis::Override)
            }
            other => other,
        }
    }
}

/// What the registers alone say.
fn by_registers(function: &PciDevice) -> Isolation {
    let express = match &function.ports.express {
        Fact::Known(express) => express,
        Fact::NotPresent => return Isolation::Open(Lack::Express),
        unread => return unknown(unread),
    };
    match express.port_type {
        PortType::BRIDGE_TO_PCI | PortType::BRIDGE_FROM_PCI | PortType::ROOT_COMPLEX_EVENT_COLLECTOR => {
            Isolation::Open(Lack::Express)
        }
        PortType::ROOT_PORT | PortType::DOWNSTREAM_PORT => by_services(function),
        _ if is_multifunction(function) => by_services(function),
        _ => Isolation::Kept(Basis::SingleFunction),
    }
}

/// A service that is not offered is taken to be not needed.
fn by_services(function: &PciDevice) -> Isolation {
    match &function.ports.acs {
        Fact::Known(acs) => match (Services::ISOLATION & acs.offered).difference(acs.enabled) {
            off if off.is_empty() => Isolation::Kept(Basis::Acs),
            off => Isolation::Open(Lack::Services(off)),
        },
        Fact::NotPresent => Isolation::Open(Lack::Capability),
        unread => unknown(unread),
    }
}

fn unknown<T>(fact: &Fact<T>) -> Isolation {
    let (source, reason) = match fact {
        Fact::Denied { source } => (source.clone(), "permission denied".to_owned()),
        Fact::Unreadable { source, reason } => (source.clone(), reason.clone()),
        Fact::Known(_) | Fact::NotPresent => (String::new(), String::new()),
    };
    Isolation::Unknown { source, reason }
}
