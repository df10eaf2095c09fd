//! Firmware: how it starts the kernel, its settings, its tables of IOMMUs.

mod boot;
mod protection;
mod settings;
mod tables;
#[cfg(test)]
pub(super) mod tests;

use super::{Check, Purpose, Question};

const ANY_USE: &[Purpose] = &[Purpose::Vfio, Purpose::Sriov];
const TABLES: &str = "/sys/firmware/acpi/tables";

/// The checks of this file.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "firmware-uefi",
        title: "the machine boots by UEFI",
        purposes: &[Purpose::Vfio],
        why: "UEFI places large BARs above 4 GiB, offers resizable BARs and starts GPUs without the VGA of the PC's \
              BIOS. Booted as a BIOS (CSM), the firmware often keeps devices below 4 GiB and the GPU in VGA mode.",
        refs: &["UEFI 2.10, 2.1", "PCIe 6.0, 7.8.6 (Resizable BAR)"],
        run: Question::Host(boot::uefi),
    },
    Check {
        id: "firmware-lockdown",
        title: "the kernel's lockdown refused nothing",
        purposes: ANY_USE,
        why: "With Secure Boot most distributions lock the kernel down: modules without a trusted signature, writes to \
              registers and raw access to devices are refused. Drivers from outside the kernel (vGPU, reset quirks) do \
              not load then.",
        refs: &["kernel_lockdown(7)", "Linux: Documentation/admin-guide/module-signing.rst"],
        run: Question::Host(boot::lockdown),
    },
    Check {
        id: "firmware-settings",
        title: "firmware's settings allow virtualization",
        purposes: &[Purpose::Kvm, Purpose::Vfio, Purpose::Sriov],
        why: "Drivers for machines of Dell, Lenovo and HP show the settings of the firmware itself. What is off there \
              is off whatever the kernel is told; what is on there and not seen by the kernel waits for a full \
              power-off.",
        refs: &["Linux: Documentation/ABI/testing/sysfs-class-firmware-attributes"],
        run: Question::Host(settings::settings),
    },
    Check {
        id: "firmware-iommu-table",
        title: "the table of IOMMUs is well formed",
        purposes: ANY_USE,
        why: "The kernel learns of IOMMUs from the ACPI table DMAR (Intel) or IVRS (AMD). Where it is malformed, the \
              kernel leaves the rest of it out, with the devices that stand there.",
        refs: &["Intel VT-d 4.1, 8", "AMD 48882 rev. 3.07, 5.2"],
        run: Question::Host(tables::well_formed),
    },
    Check {
        id: "firmware-iommu-units",
        title: "the table of IOMMUs makes sense",
        purposes: ANY_USE,
        why: "A unit at address 0, two units at one address or two that both take all devices that are left cannot be. \
              The kernel ignores such units or the whole table.",
        refs: &["Intel VT-d 4.1, 8.3", "Linux: drivers/iommu/intel/dmar.c, dmar_validate_one_drhd"],
        run: Question::Host(tables::units),
    },
    Check {
        id: "firmware-faults",
        title: "the kernel found no fault in the tables of IOMMUs",
        purposes: ANY_USE,
        why: "The kernel compares what firmware says of IOMMUs with the machine, and logs what is wrong: reserved \
              memory that no map covers, units that do not answer, interrupt controllers that are missing.",
        refs: &["Linux: drivers/iommu/intel/dmar.c", "Linux: drivers/iommu/amd/init.c"],
        run: Question::Host(tables::faults),
    },
    Check {
        id: "firmware-reserved-memory",
        title: "firmware reserves no memory for devices",
        purposes: &[Purpose::Vfio],
        why: "Memory that a device must reach at its own address (RMRR, IVMD) keeps it from being passed through, once \
              an IOMMU runs. USB controllers and displays of Intel machines are excepted.",
        refs: &["Intel VT-d 4.1, 8.4", "AMD 48882 rev. 3.07, 5.2.2", "Linux: device_rmrr_is_relaxable"],
        run: Question::Host(protection::reserved_memory),
    },
    Check {
        id: "firmware-dma-protection",
        title: "memory is protected from DMA as firmware asks",
        purposes: &[Purpose::Vfio],
        why: "Firmware with Kernel DMA Protection asks the system to keep devices at outer ports (Thunderbolt) from \
              memory. Where no IOMMU runs, whoever plugs one in reads all of it.",
        refs: &[
            "Intel VT-d 4.1, 8.1, DMA_CTRL_PLATFORM_OPT_IN",
            "Linux: Documentation/admin-guide/thunderbolt.rst",
        ],
        run: Question::Host(protection::dma_protection),
    },
];
