//! An exported machine under the program that it is for: QEMU, in an emulated host, with the function that thruway bound.

use thruway::rehearse::Options;

use super::Lab;

const GUEST: &str = r#"
echo "driver $(basename $(readlink /sys/class/net/eth0/device/driver))"
echo "serial $(cat /sys/block/vda/serial) readonly $(cat /sys/block/vda/ro)"
echo "on the console" >/dev/hvc0
"#;

const HOST: &str = r#"
head -c 65536 /dev/zero >/tmp/disk.img
cat >/tmp/vm.yaml <<END
schema: 1
name: exported
host:
  sriov:
  - {pf: {id: "8086:10c9"}, count: 1, vfs: [{index: 0, driver: vfio-pci}]}
machine:
  memory: 256MiB
  boot: {kernel: $LAB_KERNEL_VMLINUX, initrd: $LAB_IN/guest.initrd, cmdline: console=ttyS0 quiet panic=-1}
  devices:
  - vfio-pci: {select: {vf: {pf: {id: "8086:10c9"}, index: 0}}}
  - virtio-block: {path: /tmp/disk.img, format: raw, readonly: true, serial: exported-disk}
  - virtio-console: {file: /tmp/console.log}
  - virtio-rng: {}
  - pvpanic: {}
END
thruway export qemu /tmp/vm.yaml 2>"$LAB_OUT/early" >/dev/null; echo "early $?"
thruway apply /tmp/vm.yaml --yes >/dev/null 2>&1 && thruway export qemu /tmp/vm.yaml >/tmp/run.sh || exit 90
sh /tmp/run.sh </dev/null >"$LAB_OUT/guest" 2>"$LAB_OUT/errors"; echo "qemu $?"
cat /tmp/console.log
thruway undo --yes >/dev/null 2>&1; echo "undo $?"
"#;

#[test]
fn qemu_runs_what_was_exported_with_the_bound_function() {
    let Some(lab) = Lab::open() else { return };
    let files = vec![("guest.initrd".to_owned(), lab.guest_initrd(GUEST))];

    let run = lab.run_with("vtd-igb", Options { files, ..Options::default() }, HOST);

    run.succeeded();
    let (host, guest) = (run.stdout(), run.file("guest"));
    assert!(run.file("early").contains("does not exist yet"), "{}", run.file("early"));
    for line in ["early 2", "qemu 0", "on the console", "undo 0"] {
        assert!(
            host.lines().any(|said| said.trim() == line),
            "{line}: {host}\n{guest}\n{}",
            run.file("errors")
        );
    }
    for line in ["driver igbvf", "serial exported-disk readonly 1"] {
        assert!(guest.contains(line), "{guest}");
    }
}
