//! A boot that is tried: arranged, gone after one boot, taken back; and refused where the loader would not forget it.

use super::*;
use crate::setup::fake::FakeKernel;

const CUSTOM: &str = "/boot/grub/custom.cfg";
const ENTRY: &str = "/boot/efi/loader/entries/thruway-trial-it.conf";

fn by_grub() -> (FakeKernel, TrialBoot) {
    let loader = Loader::Grub {
        generator: "grub-mkconfig".to_owned(),
        config: "/boot/grub/grub.cfg".to_owned(),
        drop_in: true,
    };
    (FakeKernel::usual().with_grub(), trial(loader))
}

fn by_entries() -> (FakeKernel, TrialBoot) {
    let kernel = FakeKernel::usual();
    kernel.put(
        "/boot/efi/loader/entries/Debian-6.1+2-1.conf",
        "title Debian\nversion 6.1\nsort-key debian\nlinux /vmlinuz\noptions root=UUID=1 quiet\n",
    );
    kernel.put("/boot/efi/loader/entries/memtest.conf", "title Memory test\nefi /memtest.efi\n");
    kernel.tell_by_loader("LoaderEntrySelected", Some("debian-6.1.conf"));
    (kernel, trial(Loader::Entries { directory: "/boot/efi/loader/entries".to_owned() }))
}

fn trial(loader: Loader) -> TrialBoot {
    let arguments = vec!["intel_iommu=on".to_owned(), "iommu=pt".to_owned()];
    TrialBoot { name: "it".to_owned(), loader, arguments }
}

/// Arranged, booted, taken back; how the entry looked.
fn tried(kernel: &FakeKernel, action: &TrialBoot, file: &str) -> String {
    let prior = action.observe(kernel).unwrap();
    action.act(&prior, kernel).unwrap();
    let arranged = action.observe(kernel).unwrap();
    assert_eq!(action.standing(&prior, &arranged), Standing::Applied);
    assert!(action.already(&arranged));
    let text = kernel.text(file).unwrap();

    kernel.boot_once();
    let booted = action.observe(kernel).unwrap();
    assert_eq!(action.standing(&prior, &booted), Standing::Applied, "it is still there to be undone");
    assert!(!action.already(&booted), "and can be tried again");

    action.revert(&prior, kernel).unwrap();
    assert_eq!(action.observe(kernel).unwrap(), prior);
    assert!(!kernel.at(file).exists());
    text
}

#[test]
fn grub_starts_a_copy_of_the_entry_that_runs_once() {
    let (kernel, action) = by_grub();

    let text = tried(&kernel, &action, CUSTOM);

    let lines: Vec<_> = text.lines().map(str::trim).collect();
    assert_eq!(
        lines[1..4],
        [
            "menuentry 'Tried once by thruway (it)' --id thruway-trial-it {",
            "linux\t/vmlinuz root=UUID=1 ro quiet iommu=pt intel_iommu=on iommu=pt",
            "}"
        ]
    );
}

#[test]
fn what_others_have_in_custom_cfg_stays() {
    let (kernel, action) = by_grub();
    kernel.put(CUSTOM, "menuentry 'Mine' {\n}");
    let prior = action.observe(&kernel).unwrap();

    action.act(&prior, &kernel).unwrap();
    let during = kernel.text(CUSTOM).unwrap();
    action.revert(&prior, &kernel).unwrap();

    assert!(during.starts_with("menuentry 'Mine' {\n}\n# Begin"), "{during}");
    assert_eq!(kernel.text(CUSTOM).unwrap(), "menuentry 'Mine' {\n}");
}

#[test]
fn a_grub_that_cannot_forget_is_not_told() {
    let (kernel, action) = by_grub();
    kernel.put("/boot/file-system", "btrfs");
    let prior = action.observe(&kernel).unwrap();

    let error = action.act(&prior, &kernel).unwrap_err();

    assert!(error.to_string().contains("found btrfs"), "{error}");
    assert_eq!(action.observe(&kernel).unwrap(), prior);
}

#[test]
fn a_kernel_that_no_entry_of_grub_starts_is_told() {
    let (kernel, action) = by_grub();
    kernel.put("/proc/cmdline", "BOOT_IMAGE=/vmlinuz-other root=UUID=1");
    let prior = action.observe(&kernel).unwrap();

    let error = action.act(&prior, &kernel).unwrap_err();

    assert!(error.to_string().contains("reboot first"), "{error}");
}

#[test]
fn systemd_boot_starts_a_copy_of_the_entry_that_runs_once() {
    let (kernel, action) = by_entries();

    let text = tried(&kernel, &action, ENTRY);

    assert_eq!(
        text,
        "title Tried once by thruway (it)\nlinux /vmlinuz\noptions root=UUID=1 quiet intel_iommu=on iommu=pt"
    );
}

#[test]
fn an_entry_that_would_start_always_is_taken_back() {
    let (kernel, action) = by_entries();
    // Without a key to sort by, the last name is first.
    kernel.put(
        "/boot/efi/loader/entries/Debian-6.1+2-1.conf",
        "title Debian\nlinux /vmlinuz\noptions root=UUID=1\n",
    );
    kernel.tell_by_loader("LoaderEntryOneShot", Some("memtest.conf"));
    let prior = action.observe(&kernel).unwrap();

    let error = action.act(&prior, &kernel).unwrap_err();
    action.revert(&prior, &kernel).unwrap();

    assert!(error.to_string().contains("set `default` in loader.conf"), "{error}");
    assert_eq!(action.observe(&kernel).unwrap(), prior);
    assert_eq!(prior.chosen.as_deref(), Some("memtest.conf"), "what somebody else chose stays chosen");
}

#[test]
fn a_loader_that_starts_nothing_once_is_none_for_it() {
    assert!(!TrialBoot::is_possible(&Loader::Grubby {}));
    assert!(!TrialBoot::is_possible(&Loader::UnifiedImage { rebuild: Vec::new() }));
}
