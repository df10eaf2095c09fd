//! Command lines as people write them.

use super::*;
use crate::host;
use crate::host::source::fake::{Entry, FakeHost};

/// A host of Intel's with VT-d in use.
fn intel(line: &str) -> FakeHost {
    FakeHost::new(&[
        ("/proc/cmdline", Entry::Text(line)),
        ("/proc/sys/kernel/osrelease", Entry::Text("6.1.0-18-amd64")),
        ("/proc/cpuinfo", Entry::Text("vendor_id : GenuineIntel")),
        ("/sys/firmware/acpi/tables/DMAR", Entry::Bytes(b"DMAR")),
        ("/sys/class/iommu/dmar0/intel-iommu/cap", Entry::Text("8d2078c106f0466")),
        ("/sys/kernel/iommu_groups/0/devices/0000:00:02.0", Entry::Directory),
        (
            "/boot/config-6.1.0-18-amd64",
            Entry::Text("CONFIG_INTEL_IOMMU=y\nCONFIG_IRQ_REMAP=y\nCONFIG_HUGETLBFS=y"),
        ),
    ])
}

fn of(host: &FakeHost) -> Vec<Parameter> {
    host::collect(&host.source()).kernel.parameters.known().unwrap().clone()
}

fn effects(line: &str) -> Vec<(String, Effect)> {
    of(&intel(line)).into_iter().map(|parameter| (parameter.text(), parameter.effect)).collect()
}

fn one(line: &str) -> Parameter {
    let mut all = of(&intel(line));
    assert_eq!(all.len(), 1, "{line}: {all:?}");
    all.remove(0)
}

#[test]
fn what_works_is_explained_word_by_word() {
    let parameter = one("quiet intel_iommu=on,sm_on root=/dev/sda1");
    assert_eq!((parameter.effect, parameter.reason), (Effect::Works, None));
    assert_eq!(parameter.meaning.as_deref(), Some("VT-d on; scalable mode on, for PASIDs"));
}

#[test]
fn what_is_for_another_machine_is_ignored() {
    assert_eq!(one("amd_iommu=force_enable").effect, Effect::Ignored);
    assert_eq!(one("kvm_amd.nested=1").effect, Effect::Ignored);
    assert_eq!(one("kvm-intel.nested=1").effect, Effect::Works);
    assert_eq!(one("nohz_full=2-5").reason.as_deref(), Some("the kernel is built without CONFIG_NO_HZ_FULL"));
}

#[test]
fn values_that_nobody_knows_are_named() {
    for (line, part) in [
        ("amd_iommu=on", "AMD-Vi is on by itself"),
        ("iommu=on", "switches nothing on"),
        ("intel_iommu=On", "`on` was probably meant"),
        ("intel_iommu=on,iommu=pt", "a space has to stand before it"),
        ("kvm.ignore_msrs=maybe", "takes 0 or 1"),
        ("hugepagesz=1GB", "takes a size"),
        ("isolcpus=two", "takes a list of CPUs"),
        ("pci=nomsix", "`nomsi` was probably meant"),
        ("intel_iommu", "nothing without a value"),
    ] {
        let parameter = one(line);
        assert_eq!(parameter.effect, Effect::WrongValue, "{line}");
        assert!(parameter.reason.as_deref().unwrap().contains(part), "{line}: {parameter:?}");
    }
}

#[test]
fn misspelt_names_are_told_with_what_was_meant() {
    for (line, meant) in [
        ("intel_iommmu=on", "`intel_iommu`"),
        ("Intel_iommu=on", "`intel_iommu`"),
        ("isolcpu=2-3", "`isolcpus`"),
        ("vfio.ids=10de:2204", "`vfio-pci.ids`"),
        ("pcie_acs_overide=downstream", "`pcie_acs_override`"),
        ("kvm.ignore_msr=1", "`kvm.ignore_msrs`"),
        ("iommu_pt", "`iommu=pt`"),
    ] {
        let parameter = one(line);
        assert_eq!(parameter.effect, Effect::Ignored, "{line}");
        assert!(parameter.reason.as_deref().unwrap().contains(meant), "{line}: {parameter:?}");
    }
}

#[test]
fn ordinary_command_lines_are_not_taken_for_misspelt_ones() {
    for line in [
        "BOOT_IMAGE=/boot/vmlinuz-6.1 root=UUID=1 ro quiet splash vt.handoff=7 crashkernel=512M",
        "rhgb rd.lvm.lv=fedora/root rd.luks.uuid=luks-1 resume=/dev/sda2 selinux=0 enforcing=0 audit=1",
        "console=tty0 console=ttyS0,115200n8 earlyprintk=serial net.ifnames=0 biosdevname=0 panic=10",
        "systemd.unified_cgroup_hierarchy=1 cgroup_enable=memory swapaccount=1 nvme_core.default_ps_max_latency_us=0",
        "nvidia-drm.modeset=1 amdgpu.ppfeaturemask=0xffffffff i915.enable_guc=3 usbcore.autosuspend=-1",
        "pti=on nosmap nosmep nopti nopcid nopku nosgx tsc=reliable nohz=on irqpoll nmi_watchdog=0 nowatchdog",
        "kvm-guest=1 spectre_v2=off l1tf=off mds=off tsx=on nospectre_v1 init_on_alloc=0 preempt=full setcpuid=x",
        "video=HDMI-A-1:1920x1080@60 fbcon=map:1 drm.edid_firmware=x loglevel=3 rootflags=subvol=@ zswap.enabled=1",
        "hugetlb_cma=4G acpi_osi=Linux acpi_enforce_resources=lax memtest=1 reboot=efi rcutree.kthread_prio=1",
    ] {
        assert_eq!(of(&intel(line)), [], "{line}");
    }
}

#[test]
fn the_last_of_several_wins_unless_each_counts() {
    use Effect::{Ignored, Works};
    let told = |line| effects(line).into_iter().map(|(_, effect)| effect).collect::<Vec<_>>();
    assert_eq!(told("intel_iommu=off intel_iommu=on"), [Ignored, Works]);
    assert_eq!(told("intel_iommu=on intel_iommu=sm_on"), [Works, Works]);
    assert_eq!(told("kvm.ignore_msrs=1 kvm.ignore_msrs=0"), [Ignored, Works]);
    assert_eq!(told("kvm.ignore_msrs=1 kvm.ignore_msrs=1"), [Works, Works]);
    assert_eq!(told("hugepagesz=1G hugepages=4 hugepagesz=2M hugepages=512"), [Works; 4]);
    assert_eq!(told("iommu=pt iommu=nopt"), [Ignored, Works]);
}

#[test]
fn quotes_brackets_and_the_end_of_the_kernels_part_are_understood() {
    let line = "\"dyndbg=file x +p\" pci=\"realloc=on\" ivrs_ioapic[32]=00:14.0 -- intel_iommu=off";
    let told = effects(line);
    assert_eq!(told[0], ("pci=realloc=on".to_owned(), Effect::Works));
    assert_eq!(told[1].0, "ivrs_ioapic[32]=00:14.0");
    assert_eq!(told.len(), 2);
    for odd in ["", "=", "==", "\"", "\" \"", "=x", "iommu=,,", "é=1 \"", &"x ".repeat(5000)] {
        effects(odd);
    }
}

#[test]
fn what_is_newer_than_the_kernel_is_ignored() {
    let parameter = one("pci=config_acs=1111011@0000:00:01.0");
    assert_eq!(parameter.reason.as_deref(), Some("`config_acs` needs Linux 6.11"));
}

#[test]
fn the_acs_override_works_where_the_log_says_so() {
    let host = intel("pcie_acs_override=downstream,multifunction");
    assert_eq!(of(&host)[0].effect, Effect::UnknownHere);
    host.answer_log(&["DMAR: Host address width 39"]);
    assert_eq!(of(&host)[0].effect, Effect::Ignored);
    host.answer_log(&[
        "Warning: PCIe ACS overrides enabled; This may allow non-IOMMU protected peer-to-peer DMA",
    ]);
    assert_eq!(of(&host)[0].effect, Effect::Works);
}

#[test]
fn firmwares_picture_can_be_switched_off_only_without_simpledrm() {
    let host = intel("video=efifb:off");
    assert_eq!(of(&host)[0].effect, Effect::Works);
    host.add(&[(
        "/boot/config-6.1.0-18-amd64",
        Entry::Text("CONFIG_SYSFB_SIMPLEFB=y\nCONFIG_DRM_SIMPLEDRM=y"),
    )]);
    assert_eq!(of(&host)[0].effect, Effect::Ignored);
}

#[test]
fn an_unread_command_line_has_no_arguments_that_are_known() {
    let host = intel("");
    let facts = host::collect(&host.source_without(&["cmdline"]));
    assert!(facts.kernel.parameters.is_unread());
}

#[test]
fn every_row_can_be_found_by_its_name_and_opposites_are_words() {
    for known in rows::all() {
        assert!(
            super::known(known.name, None).is_some_and(|found| found.name == known.name),
            "{}",
            known.name
        );
        if let Takes::Words(words) = known.takes {
            for word in words.iter().filter(|word| !word.opposite.is_empty()) {
                assert!(words.iter().any(|other| other.word == word.opposite), "{}", word.word);
            }
        }
    }
}
