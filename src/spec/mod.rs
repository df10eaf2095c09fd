//! What the standards say: numbers, layouts and pure functions over bytes.
//!
//! This room does no I/O, contains no `unsafe` and knows nothing about the rest of the project. A register, a
//! capability layout or an identifier stands here once, with the document and section it comes from.

pub mod acpi;
pub mod acs;
pub mod amdvi;
pub mod cpu_feature;
pub mod cpu_list;
pub mod cpuid;
pub mod dmar;
pub mod ethernet;
pub mod firmware_volume;
pub mod ivrs;
pub mod msr;
pub mod option_rom;
pub mod pci;
pub mod pcie;
pub mod port;
pub mod scsi;
pub mod sdt;
pub(crate) mod spelling;
pub mod sriov;
pub mod systemd;
pub mod units;
pub mod usb;
pub mod virtio;
pub mod vtd;
