//! Parameters about the IOMMU and the remapping of interrupts.
//!
//! Linux: drivers/iommu/intel/iommu.c (`intel_iommu_setup`), drivers/iommu/amd/init.c (`parse_amd_iommu_options`),
//! drivers/iommu/irq_remapping.c (`setup_irqremap`), arch/x86/kernel/pci-dma.c (`iommu_setup`).

use crate::host::kernel::parameters::known::{Known, Need, Subject, Takes, Word, row, word};

const INTEL_IOMMU: &[Word] = &[
    word("on", "VT-d on").opposite("off"),
    word("off", "VT-d off").opposite("on"),
    word("igfx_off", "no VT-d before the graphics of the processor, which then cannot be passed through"),
    word("forcedac", "addresses above 4 GiB for all devices (old spelling of iommu.forcedac=1)"),
    word("strict", "unmapped pages are flushed at once (old spelling of iommu.strict=1)"),
    word("sp_off", "no large pages in VT-d's tables"),
    word("sm_on", "scalable mode on, for PASIDs").opposite("sm_off"),
    word("sm_off", "scalable mode off").opposite("sm_on"),
    word("tboot_noforce", "VT-d is not forced on under tboot"),
    word("nobounce", "no bounce buffers for external devices"),
];

const AMD_IOMMU: &[Word] = &[
    word("off", "AMD-Vi off").opposite("force_enable"),
    word("fullflush", "unmapped pages are flushed at once (old spelling of iommu.strict=1)"),
    word("force_enable", "AMD-Vi on, even where it is known to be troublesome").opposite("off"),
    word("force_isolation", "every device gets translation, against iommu=pt"),
    word("pgtbl_v1", "page tables of AMD-Vi's own format").opposite("pgtbl_v2"),
    word("pgtbl_v2", "page tables of the processor's format").opposite("pgtbl_v1"),
    word("irtcachedis", "no cache for the table of interrupts"),
    word("nohugepages", "no large pages in AMD-Vi's tables"),
    word("v2_pgsizes_only", "only pages of 4 KiB, 2 MiB and 1 GiB in AMD-Vi's tables"),
];

const IOMMU: &[Word] = &[
    word("pt", "the host's own devices reach memory untranslated; guests' devices are not affected")
        .opposite("nopt"),
    word("nopt", "the host's own devices are translated, too").opposite("pt"),
    word("off", "every IOMMU off").opposite("force"),
    word("force", "an IOMMU is used even where none is needed").opposite("off"),
    word("noforce", "an IOMMU is used only where it is needed"),
    word("soft", "bounce buffers in the place of an IOMMU"),
    word("merge", "scattered buffers are merged (old GART)").opposite("nomerge"),
    word("nomerge", "scattered buffers are not merged (old GART)").opposite("merge"),
    word("biomerge", "scattered buffers are merged (old GART)"),
    word("panic", "the kernel stops when the IOMMU overflows").opposite("nopanic"),
    word("nopanic", "the kernel goes on when the IOMMU overflows").opposite("panic"),
    word("usedac", "addresses of 64 bits for PCI devices, even behind a VIA bridge"),
    word("forcesac", "nothing any more"),
    word("allowdac", "nothing any more"),
    word("nodac", "nothing any more"),
    word("noagp", "AGP is not used (old GART)"),
    word("fullflush", "the old GART is flushed at once"),
    word("nofullflush", "the old GART is flushed in batches"),
    word("noaperture", "the AGP aperture is left alone (old GART)"),
    word("memaper", "room for the old GART"),
    word("memaper=", "room for the old GART"),
    word("allowed", "the old GART is allowed"),
    word("leak", "the old GART looks for leaks"),
];

const INTREMAP: &[Word] = &[
    word("on", "interrupts are remapped").opposite("off"),
    word("off", "interrupts are not remapped, and VFIO refuses to hand devices out").opposite("on"),
    word("nosid", "who sent an interrupt is not verified"),
    word("no_x2apic_optout", "firmware's wish not to use x2APIC is not heeded"),
    word("nopost", "interrupts are not posted to guests"),
    word("posted_msi", "the host's own message interrupts are posted"),
];

/// About the IOMMU.
pub(super) const ROWS: &[Known] = &[
    row("intel_iommu", Subject::Iommu, Takes::Words(INTEL_IOMMU), "Intel's VT-d")
        .needs(&[Need::VtD, Need::Option("INTEL_IOMMU")]),
    row("amd_iommu", Subject::Iommu, Takes::Words(AMD_IOMMU), "AMD-Vi")
        .needs(&[Need::AmdVi, Need::Option("AMD_IOMMU")]),
    row(
        "amd_iommu_dump",
        Subject::Iommu,
        Takes::Text,
        "firmware's table of AMD-Vi goes into the kernel's log",
    )
    .needs(&[Need::AmdVi, Need::Option("AMD_IOMMU")]),
    row(
        "amd_iommu_intr",
        Subject::Iommu,
        Takes::Words(&[
            word("legacy", "interrupts are not posted to guests").opposite("vapic"),
            word("vapic", "interrupts are posted to guests, with AVIC").opposite("legacy"),
        ]),
        "how AMD-Vi delivers interrupts to guests",
    )
    .needs(&[Need::AmdVi, Need::Option("AMD_IOMMU")]),
    row("ivrs_ioapic", Subject::Iommu, Takes::Text, "corrects firmware's table: the address of an I/O APIC")
        .needs(&[Need::AmdVi])
        .each(),
    row("ivrs_hpet", Subject::Iommu, Takes::Text, "corrects firmware's table: the address of a timer")
        .needs(&[Need::AmdVi])
        .each(),
    row(
        "ivrs_acpihid",
        Subject::Iommu,
        Takes::Text,
        "corrects firmware's table: the address of an ACPI device",
    )
    .needs(&[Need::AmdVi])
    .each(),
    row("iommu", Subject::Iommu, Takes::Words(IOMMU), "all IOMMUs"),
    row(
        "iommu.passthrough",
        Subject::Iommu,
        Takes::Switch,
        "whether the host's own devices reach memory untranslated; guests' devices are not affected",
    ),
    row("iommu.strict", Subject::Iommu, Takes::Switch, "whether unmapped pages are flushed at once"),
    row("iommu.forcedac", Subject::Iommu, Takes::Switch, "whether all devices get addresses above 4 GiB"),
    row("intremap", Subject::Iommu, Takes::Words(INTREMAP), "remapping of interrupts")
        .needs(&[Need::Option("IRQ_REMAP")]),
    row(
        "nointremap",
        Subject::Iommu,
        Takes::Nothing,
        "interrupts are not remapped (old spelling of intremap=off)",
    ),
    row("nox2apic", Subject::Interrupts, Takes::Nothing, "x2APIC is not used"),
    row("x2apic_phys", Subject::Interrupts, Takes::Nothing, "x2APIC by physical numbers of processors"),
];
