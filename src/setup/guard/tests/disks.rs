//! Disks that nobody uses now.

use super::*;

const EFI_PARTITION: &str = "E:ID_PART_ENTRY_TYPE=c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

/// The rules about a host with a drive whose partition udev noted so, in that order of severity.
fn rules_about(kernel: &FakeKernel) -> Vec<(Rule, Severity)> {
    rules(kernel, &[NVME.address]).into_iter().map(|(rule, severity, _)| (rule, severity)).collect()
}

fn noted(note: &str) -> FakeKernel {
    let kernel = with_disk();
    kernel.put("/run/udev/data/b259:1", note);
    kernel
}

#[test]
fn what_fstab_names_needs_consent_and_what_the_host_starts_from_is_refused() {
    const WITH_DATA: (Rule, Severity) = (Rule::DiskWithData, Severity::NeedsConsent);
    const IN_FSTAB: (Rule, Severity) = (Rule::DiskInFstab, Severity::NeedsConsent);
    const BOOT: (Rule, Severity) = (Rule::BootDisk, Severity::Refuse);
    for (fstab, expected) in [
        ("UUID=other /srv ext4 defaults 0 2", &[WITH_DATA][..]),
        ("UUID=1 /srv ext4 defaults 0 2", &[WITH_DATA, IN_FSTAB]),
        ("/dev/nvme0n1p1 none swap sw 0 0", &[WITH_DATA, IN_FSTAB]),
        ("UUID=1 /boot ext4 noauto 0 2", &[BOOT, WITH_DATA, IN_FSTAB]),
        ("UUID=1 /var ext4 noauto 0 2", &[BOOT, WITH_DATA, IN_FSTAB]),
    ] {
        let kernel = noted("E:ID_FS_UUID=1");
        kernel.put("/etc/fstab", fstab);
        assert_eq!(rules_about(&kernel), expected, "{fstab}");
    }
}

#[test]
fn the_only_efi_system_partition_of_a_host_that_started_by_it_is_refused() {
    let by_uefi = noted(EFI_PARTITION);
    by_uefi.put("/sys/firmware/efi/fw_platform_size", "64");
    let by_bios = noted(EFI_PARTITION);
    by_bios.put("/sys/firmware/memmap/0/type", "System RAM");
    let another = noted(EFI_PARTITION);
    another.put("/sys/firmware/efi/fw_platform_size", "64");
    let second = Function { address: "0000:05:00.0", group: 9, ..NVME };
    another.add(&second);
    let place = "/bus/pci/devices/0000:05:00.0/nvme/nvme1/nvme1n1";
    another.put(&format!("/sys{place}/dev"), "259:8");
    another.link("/sys/class/block/nvme1n1", &format!("../..{place}"));
    another.put("/run/udev/data/b259:8", EFI_PARTITION);

    assert_eq!(
        rules_about(&by_uefi),
        [(Rule::BootDisk, Severity::Refuse), (Rule::DiskWithData, Severity::NeedsConsent)]
    );
    assert_eq!(rules_about(&by_bios), [(Rule::DiskWithData, Severity::NeedsConsent)]);
    assert_eq!(rules_about(&another), [(Rule::DiskWithData, Severity::NeedsConsent)]);
    // Of two that both go none is left.
    let both = rules(&another, &[NVME.address, second.address]);
    assert_eq!(both.iter().filter(|(rule, ..)| *rule == Rule::BootDisk).count(), 2, "{both:?}");
}

#[test]
fn what_the_host_hibernates_to_is_refused() {
    let kernel = with_disk();
    kernel.put("/sys/power/resume", "0:0");
    assert_eq!(rules(&kernel, &[NVME.address]), consentable(Rule::DiskWithData, NVME.address));
    kernel.put("/sys/power/resume", "259:1");
    assert_eq!(rules(&kernel, &[NVME.address]), refused(Rule::DiskInUse, NVME.address));
}

#[test]
fn a_controller_is_judged_by_a_disk_of_its_children() {
    let kernel = with(of_class(0x01_0601));
    let place = "/bus/pci/devices/0000:02:00.0/ata1/host0/target0:0:0/0:0:0:0/block/sda";
    kernel.put(&format!("/sys{place}/dev"), "8:0");
    kernel.link("/sys/class/block/sda", &format!("../..{place}"));
    assert_eq!(rules(&kernel, &[NVME.address]), []);
    kernel.put("/proc/self/mountinfo", "30 1 8:0 / / rw - ext4 /dev/sda rw");
    assert_eq!(rules(&kernel, &[NVME.address]), refused(Rule::DiskInUse, NVME.address));
}
