//! Arguments of the kernel, with each loader: given, told, taken back, and what was there before left alone.

use super::*;
use crate::setup::fake::FakeKernel;
use crate::setup::goal::wrong_kernel_argument;

fn wanted(loader: Loader, arguments: &[&str]) -> KernelArguments {
    let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
    KernelArguments { name: "it".to_owned(), loader, arguments }
}

fn grub(drop_in: bool) -> Loader {
    let (generator, config) = ("grub-mkconfig".to_owned(), "/boot/grub/grub.cfg".to_owned());
    Loader::Grub { generator, config, drop_in }
}

/// Applies, and gives back the state before.
fn applied(action: &KernelArguments, kernel: &FakeKernel) -> ArgumentsState {
    let prior = action.observe(kernel).unwrap();
    assert!(!action.already(&prior), "{prior:?}");
    action.act(&prior, kernel).unwrap();
    assert_eq!(action.standing(&prior, &action.observe(kernel).unwrap()), Standing::Applied);
    prior
}

fn reverted(action: &KernelArguments, prior: &ArgumentsState, kernel: &FakeKernel) {
    action.revert(prior, kernel).unwrap();
    assert_eq!(action.standing(prior, &action.observe(kernel).unwrap()), Standing::Before);
}

#[test]
fn grub_gives_them_to_ordinary_entries_and_leaves_those_for_recovery() {
    let kernel = FakeKernel::usual().with_grub();
    let action = wanted(grub(true), &["iommu=pt", "intel_iommu=on"]);

    let prior = applied(&action, &kernel);
    let config = kernel.text("/boot/grub/grub.cfg").unwrap();
    reverted(&action, &prior, &kernel);

    assert!(config.contains("linux\t/vmlinuz root=UUID=1 ro quiet iommu=pt intel_iommu=on\n"), "{config}");
    assert!(config.contains("linux\t/vmlinuz root=UUID=1 ro single\n"), "{config}");
    let after = kernel.text("/boot/grub/grub.cfg").unwrap();
    assert!(after.contains("quiet iommu=pt\n"), "what was there before us stays: {after}");
    assert!(!kernel.at("/etc/default/grub.d/zz-thruway-it.cfg").exists());
}

#[test]
fn a_grub_without_drop_ins_gets_a_block_that_is_found_again_among_other_edits() {
    let kernel = FakeKernel::usual().with_grub();
    let before = kernel.text("/etc/default/grub").unwrap();
    let (first, second) = (wanted(grub(false), &["one=1"]), wanted(grub(false), &["one=1", "two=2"]));

    let prior_first = applied(&first, &kernel);
    let text = kernel.text("/etc/default/grub").unwrap();
    kernel.put("/etc/default/grub", &format!("{text}\nGRUB_TIMEOUT=1"));
    let prior_second = applied(&second, &kernel);
    let both = kernel.text("/boot/grub/grub.cfg").unwrap();
    reverted(&second, &prior_second, &kernel);
    let one = kernel.text("/boot/grub/grub.cfg").unwrap();
    reverted(&first, &prior_first, &kernel);

    assert!(both.contains("iommu=pt one=1 two=2\n"), "{both}");
    assert!(one.contains("iommu=pt one=1\n"), "{one}");
    assert_eq!(kernel.text("/etc/default/grub").unwrap(), format!("{before}\nGRUB_TIMEOUT=1"));
}

#[test]
fn a_configuration_that_would_lose_its_root_is_not_written() {
    let kernel = FakeKernel::usual().with_grub();
    let action = wanted(grub(true), &["one=1"]);
    let prior = action.observe(&kernel).unwrap();
    let before = kernel.text("/boot/grub/grub.cfg").unwrap();
    let settings = kernel.text("/etc/default/grub").unwrap();
    kernel.put("/etc/default/grub", &format!("{settings}\nGRUB_LOSES_ROOT=1"));

    let error = action.act(&prior, &kernel).unwrap_err();

    assert!(error.to_string().contains("2 of its entries would have no `root=`"), "{error}");
    assert_eq!(kernel.text("/boot/grub/grub.cfg").unwrap(), before);
}

const ENTRIES: &str = "/boot/efi/loader/entries";

fn entry(name: &str) -> String {
    format!("{ENTRIES}/{name}.conf")
}

#[test]
fn boot_entries_are_edited_by_words_and_new_and_gone_ones_are_understood() {
    let kernel = FakeKernel::usual();
    kernel.put(&entry("one"), "title One\nlinux /vmlinuz\noptions  root=UUID=1   quiet\ninitrd /initrd");
    kernel.put(&entry("two"), "linux /vmlinuz\noptions root=UUID=1\noptions iommu=pt");
    kernel.put(&entry("none"), "linux /vmlinuz");
    kernel.put(&entry("other"), "title Memory test\nefi /memtest.efi\noptions x");
    kernel.put("/etc/kernel/cmdline", "root=UUID=1 quiet");
    let action = wanted(Loader::Entries { directory: ENTRIES.to_owned() }, &["iommu=pt", "a.b=1"]);

    let prior = applied(&action, &kernel);
    let texts = ["one", "two", "none", "other"].map(|name| kernel.text(&entry(name)).unwrap());
    // A new kernel came, made from /etc/kernel/cmdline, and an old one went.
    let cmdline = kernel.text("/etc/kernel/cmdline").unwrap();
    kernel.put(&entry("new"), &format!("linux /vmlinuz-2\noptions {cmdline}"));
    std::fs::remove_file(kernel.at(&entry("none"))).unwrap();
    assert_eq!(action.standing(&prior, &action.observe(&kernel).unwrap()), Standing::Applied);
    reverted(&action, &prior, &kernel);

    assert_eq!(
        texts,
        [
            "title One\nlinux /vmlinuz\noptions  root=UUID=1   quiet iommu=pt a.b=1\ninitrd /initrd",
            "linux /vmlinuz\noptions root=UUID=1\noptions iommu=pt a.b=1",
            "linux /vmlinuz\noptions iommu=pt a.b=1",
            "title Memory test\nefi /memtest.efi\noptions x",
        ]
    );
    assert_eq!(cmdline, "root=UUID=1 quiet iommu=pt a.b=1");
    assert_eq!(
        kernel.text(&entry("one")).unwrap(),
        "title One\nlinux /vmlinuz\noptions  root=UUID=1   quiet\ninitrd /initrd"
    );
    assert_eq!(kernel.text(&entry("two")).unwrap(), "linux /vmlinuz\noptions root=UUID=1\noptions iommu=pt");
    assert_eq!(kernel.text(&entry("new")).unwrap(), "linux /vmlinuz-2\noptions root=UUID=1 quiet");
    assert_eq!(kernel.text("/etc/kernel/cmdline").unwrap(), "root=UUID=1 quiet");
}

#[test]
fn entries_of_other_systems_and_memory_tests_are_not_ours() {
    let kernel = FakeKernel::usual();
    kernel.put("/proc/cmdline", "root=UUID=1 quiet");
    kernel.put(&entry("own"), "linux /vmlinuz\noptions root=UUID=1");
    kernel.put(&entry("other"), "linux /other/vmlinuz\noptions root=UUID=2");
    let action = wanted(Loader::Entries { directory: ENTRIES.to_owned() }, &["one=1"]);

    let prior = applied(&action, &kernel);

    assert_eq!(kernel.text(&entry("own")).unwrap(), "linux /vmlinuz\noptions root=UUID=1 one=1");
    assert_eq!(kernel.text(&entry("other")).unwrap(), "linux /other/vmlinuz\noptions root=UUID=2");
    reverted(&action, &prior, &kernel);

    let config = "### BEGIN /etc/grub.d/10_linux ###\n\tlinux\t/vmlinuz root=UUID=1 ro one=1\n\
                  \tlinux\t/vmlinuz root=UUID=1 ro single\n### END /etc/grub.d/10_linux ###\n\
                  ### BEGIN /etc/grub.d/20_memtest86+ ###\n\tlinux /boot/memtest86+x64.efi\n\
                  ### BEGIN /etc/grub.d/30_os-prober ###\n\tlinux /vmlinuz root=/dev/sdb1\n";
    assert_eq!(grub::common_arguments(config), ["root=UUID=1", "ro", "one=1"]);
}

#[test]
fn programs_that_keep_arguments_are_asked_and_told() {
    for loader in [Loader::Grubby {}, Loader::RpmOstree {}] {
        let kernel = FakeKernel::usual();
        kernel.keep_arguments("root=UUID=1 iommu=pt");
        let action = wanted(loader, &["iommu=pt", "one=1"]);

        let prior = applied(&action, &kernel);
        let kept = kernel.text("/boot/kept-arguments").unwrap();
        reverted(&action, &prior, &kernel);

        assert_eq!(kept, "root=UUID=1 iommu=pt one=1");
        assert_eq!(kernel.text("/boot/kept-arguments").unwrap(), "root=UUID=1 iommu=pt");
    }
    let kernel = FakeKernel::usual();
    kernel.put("/etc/kernelstub/configuration", r#"{"user":{"kernel_options":["quiet"]}}"#);
    let action = wanted(Loader::Kernelstub {}, &["one=1", "two=2"]);
    let prior = applied(&action, &kernel);
    assert!(kernel.text("/etc/kernelstub/configuration").unwrap().contains(r#"["quiet","one=1","two=2"]"#));
    reverted(&action, &prior, &kernel);
    assert!(kernel.text("/etc/kernelstub/configuration").unwrap().contains(r#"["quiet"]"#));
}

#[test]
fn a_command_line_in_a_file_is_edited_and_its_program_run() {
    let rebuild = vec!["mkinitcpio".to_owned(), "-P".to_owned()];
    for (loader, program) in [
        (Loader::ProxmoxBootTool {}, "proxmox-boot-tool refresh"),
        (Loader::UnifiedImage { rebuild }, "mkinitcpio -P"),
    ] {
        let kernel = FakeKernel::usual();
        let action = wanted(loader, &["one=1"]);
        let absent = action.observe(&kernel).unwrap_err().to_string();
        kernel.put("/etc/kernel/cmdline", "root=ZFS=rpool/ROOT boot=zfs");

        let prior = applied(&action, &kernel);
        let text = kernel.text("/etc/kernel/cmdline").unwrap();
        reverted(&action, &prior, &kernel);

        assert!(absent.contains("/etc/kernel/cmdline"), "{absent}");
        assert_eq!(text, "root=ZFS=rpool/ROOT boot=zfs one=1");
        assert_eq!(kernel.text("/etc/kernel/cmdline").unwrap(), "root=ZFS=rpool/ROOT boot=zfs");
        assert_eq!(kernel.log().iter().filter(|line| *line == program).count(), 2);
    }
}

#[test]
fn arguments_that_could_be_more_than_an_argument_are_refused() {
    for good in
        ["intel_iommu=on", "iommu=pt", "vfio-pci.ids=10de:1234,8086:1533", "isolcpus=2-3", "nosmt", "a=50%"]
    {
        assert_eq!(wrong_kernel_argument(good), None, "{good}");
    }
    for bad in [
        "",
        "=x",
        "a b",
        "a\"b",
        "a;b",
        "$(x)",
        "a\nb",
        "root=/dev/sda",
        "init=/bin/sh",
        "thruway.skip=1",
        "ü",
    ] {
        assert!(wrong_kernel_argument(bad).is_some(), "{bad}");
    }
}
