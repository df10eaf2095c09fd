//! Descriptions of hosts to emulate: a small strict YAML file becomes a QEMU command line.
//!
//! [`Hardware`] is the file as typed values, [`render`] turns it into arguments (a pure function), and
//! [`builtin`] holds the descriptions that come with the tool. `rehearse` boots them, tests state facts about them.
//!
//! The keys follow the machine, not QEMU: an `iommu` of one kind, and a `pci` list of what sits on the root bus, root
//! ports with their devices below. The slots 1e and 1f of the root bus are taken: the emulated host's own channel,
//! and the ICH9 functions of the q35 chipset.

mod builtin;
mod device;
mod dmar;
mod render;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use builtin::{BUILTIN, Builtin};
pub use device::{
    Device, E1000, E1000e, Igb, Network, Node, Nvme, NvmeNamespace, NvmeSriov, PciBridge, RootPort, Slot,
    Switch, UsbDevice, UsbStorage, VirtioNet, VirtioRng, Xhci,
};
pub use render::{Accelerator, AcpiTable, Image, Rendered, Uplink, render};

use crate::spec::units::ByteSize;

/// A host to emulate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hardware {
    /// Version of this file's schema: 1.
    pub schema: u32,
    /// One sentence for people.
    pub description: String,
    /// Processors.
    #[serde(default)]
    pub cpu: Cpu,
    /// Memory of the emulated host.
    #[serde(default = "Hardware::default_memory")]
    pub memory: ByteSize,
    /// The unit that remaps DMA and interrupts.
    #[serde(with = "serde_yaml::with::singleton_map_recursive")]
    pub iommu: Iommu,
    /// Further arguments for the kernel of the emulated host.
    #[serde(default)]
    pub kernel_arguments: Vec<String>,
    /// What sits on the root bus.
    #[serde(default, with = "serde_yaml::with::singleton_map_recursive")]
    pub pci: Vec<Node>,
}

/// Processors of the emulated host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cpu {
    /// QEMU's name of the model; not used where KVM runs the host (then it is the machine's own CPU).
    pub model: String,
    /// How many.
    pub count: u32,
    /// Whether the CPU can run guests of its own (SVM under TCG).
    pub virtualization: bool,
    /// Whether it has nested paging.
    pub nested_paging: bool,
    /// Whether it has x2APIC.
    pub x2apic: bool,
    /// What its time is.
    pub clock: Clock,
}

/// What the time of an emulated CPU is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// That of this machine.
    #[default]
    Wall,
    /// The number of instructions that it executed, whatever else this machine does meanwhile; nobody waits where nothing is to
    /// be done. For one CPU, and only where it is translated. A guest in it gets its timer's interrupts as often as its
    /// processor's speed suggests, which QEMU's translator needs where the guest writes CR8, as UEFI firmware does: it aborts
    /// when an interrupt waits at that moment (QEMU 10.0.2: target/i386/tcg/system/misc_helper.c, `helper_write_crN`).
    Instructions,
}

impl Default for Cpu {
    fn default() -> Self {
        Self {
            model: "qemu64".to_owned(),
            count: 2,
            virtualization: true,
            nested_paging: true,
            x2apic: false,
            clock: Clock::Wall,
        }
    }
}

/// The unit that remaps DMA and interrupts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Iommu {
    /// No such unit.
    None(Empty),
    /// Intel VT-d.
    Vtd(Vtd),
    /// AMD-Vi.
    Amdvi(Amdvi),
    /// virtio-iommu (VIRTIO 1.3, 5.13): remaps DMA only.
    Virtio(Empty),
}

/// A block without keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// Intel VT-d.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Vtd {
    /// Interrupt remapping (ECAP bit 3 and DMAR flag bit 0).
    pub interrupt_remapping: bool,
    /// Caching mode (CAP bit 7): software must flush after every map.
    pub caching_mode: bool,
    /// Width of DMA addresses in bits: 39 or 48.
    pub address_width_bits: u8,
    /// Scalable mode (ECAP bit 43).
    pub scalable_mode: bool,
    /// Device TLBs (ECAP bit 2).
    pub device_iotlb: bool,
    /// Whether DMA is translated at all; without it only interrupts are.
    pub dma_translation: bool,
    /// Extended interrupt mode (ECAP bit 4), for x2APIC.
    pub extended_interrupt_mode: bool,
    /// Memory that firmware reserves for devices, as server firmware does for its own use of them.
    pub reserved_memory: Vec<ReservedMemory>,
}

impl Default for Vtd {
    fn default() -> Self {
        Self {
            interrupt_remapping: true,
            caching_mode: true,
            address_width_bits: 48,
            scalable_mode: false,
            device_iotlb: false,
            dma_translation: true,
            extended_interrupt_mode: false,
            reserved_memory: Vec::new(),
        }
    }
}

/// Memory that a device must reach at its physical address (RMRR, VT-d 4.1, 8.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReservedMemory {
    /// The device: the slots of the bridges to it, from the root bus on, and its own.
    pub path: Vec<Slot>,
    /// Where it starts. The memory map of the emulated host must say that it is reserved; 0xf0000 to 0xfffff is.
    pub base: u64,
    /// Its size; both are multiples of 4 KiB.
    pub size: ByteSize,
}

impl ReservedMemory {
    fn check(&self) -> Result<(), String> {
        let (base, size) = (self.base, self.size.bytes());
        if !(1..=8).contains(&self.path.len()) {
            return Err("path: 1 to 8 slots are possible".to_owned());
        }
        let aligned = base.is_multiple_of(4096) && size.is_multiple_of(4096);
        if !aligned || size == 0 || base.checked_add(size).is_none() {
            return Err(format!("{base:#x} and {}: multiples of 4 KiB, and not nothing", self.size));
        }
        Ok(())
    }
}

/// AMD-Vi.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Amdvi {
    /// Interrupt remapping.
    pub interrupt_remapping: bool,
    /// Guest virtual APIC in x2APIC mode (feature XTSup).
    pub x2apic: bool,
    /// Device TLBs.
    pub device_iotlb: bool,
}

impl Default for Amdvi {
    fn default() -> Self {
        Self { interrupt_remapping: true, x2apic: true, device_iotlb: false }
    }
}

/// Why a description of hardware cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HardwareError {
    /// Neither a built-in name nor a file.
    #[error("no hardware `{name}`: it is neither a file nor one of {}", BUILTIN.map(|builtin| builtin.name).join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The file cannot be read.
    #[error("cannot read the hardware file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is far larger than any description.
    #[error("the hardware file {} is larger than {}", path.display(), ByteSize::from_bytes(Hardware::LARGEST_FILE_BYTES))]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not valid YAML, or not of the schema.
    #[error("{origin}: {source}")]
    Invalid {
        /// The file or the built-in name.
        origin: String,
        /// Where and why.
        source: serde_yaml::Error,
    },
    /// Valid by the schema, and no machine.
    #[error("{origin}: {reason}")]
    Impossible {
        /// The file or the built-in name.
        origin: String,
        /// Which entry, and why it cannot be.
        reason: String,
    },
}

impl Hardware {
    /// The version of the schema that this tool reads.
    pub const SCHEMA: u32 = 1;
    /// No description comes near this size.
    pub const LARGEST_FILE_BYTES: u64 = 256 << 10;

    fn default_memory() -> ByteSize {
        ByteSize::from_mebibytes(2048)
    }

    /// The built-in description of that name, or else the file at that path.
    ///
    /// # Errors
    /// See [`HardwareError`].
    pub fn load(name_or_path: &str) -> Result<Self, HardwareError> {
        if let Some(builtin) = BUILTIN.iter().find(|builtin| builtin.name == name_or_path) {
            return Self::parse(builtin.text, builtin.name);
        }
        let path = Path::new(name_or_path);
        let unreadable = |source| HardwareError::Unreadable { path: path.to_owned(), source };
        let metadata = match fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(HardwareError::Unknown { name: name_or_path.to_owned() });
            }
            other => other.map_err(unreadable)?,
        };
        if metadata.len() > Self::LARGEST_FILE_BYTES {
            return Err(HardwareError::TooLarge { path: path.to_owned() });
        }
        Self::parse(&fs::read_to_string(path).map_err(unreadable)?, name_or_path)
    }

    /// Reads a description. `origin` names it in errors.
    ///
    /// # Errors
    /// [`HardwareError::Invalid`] and [`HardwareError::Impossible`].
    pub fn parse(text: &str, origin: &str) -> Result<Self, HardwareError> {
        let hardware: Self = serde_yaml::from_str(text)
            .map_err(|source| HardwareError::Invalid { origin: origin.to_owned(), source })?;
        hardware.check().map_err(|reason| HardwareError::Impossible { origin: origin.to_owned(), reason })?;
        Ok(hardware)
    }

    fn check(&self) -> Result<(), String> {
        if self.schema != Self::SCHEMA {
            return Err(format!("schema is {}, this tool reads {}", self.schema, Self::SCHEMA));
        }
        if !(1..=16).contains(&self.cpu.count) {
            return Err(format!("cpu.count is {}; 1 to 16 are possible", self.cpu.count));
        }
        if !plain_word(&self.cpu.model) {
            return Err(format!("cpu.model `{}` is no name of a CPU model", self.cpu.model));
        }
        let mebibytes = self.memory.bytes() >> 20;
        if !(768..=64 << 10).contains(&mebibytes) || self.memory.bytes() & ((1 << 20) - 1) != 0 {
            return Err(format!("memory is {}; whole MiB from 768MiB to 64GiB are possible", self.memory));
        }
        if let Iommu::Vtd(vtd) = &self.iommu
            && !matches!(vtd.address_width_bits, 39 | 48)
        {
            return Err(format!(
                "iommu.vtd.address_width_bits is {}; 39 or 48 are possible",
                vtd.address_width_bits
            ));
        }
        if let Iommu::Vtd(vtd) = &self.iommu {
            for (index, memory) in vtd.reserved_memory.iter().enumerate() {
                memory.check().map_err(|why| format!("iommu.vtd.reserved_memory[{index}]: {why}"))?;
            }
        }
        if self.cpu.clock == Clock::Instructions && self.cpu.count != 1 {
            return Err(format!("cpu.clock: instructions is for one CPU, not {}", self.cpu.count));
        }
        if let Some(argument) = self.kernel_arguments.iter().find(|argument| !plain_argument(argument)) {
            return Err(format!("kernel_arguments: `{argument}` is not one printable word"));
        }
        device::check_root_bus(&self.pci)
    }
}

/// A word that can stand in a QEMU option without quoting.
fn plain_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+'))
}

fn plain_argument(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic())
}
