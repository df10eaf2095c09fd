//! The virtio devices under a Linux guest: what the guest wrote is on the host, what it read was there, and both ends of
//! the network saw each other's bytes. Once with MSI-X and once with INTx, which is another path through the transport; and
//! with interrupt controllers in user space, where a device cannot tell the difference and a guest sees other ones.

use thruway::rehearse::Options;

use super::{Lab, Run};

/// In the guest. `$MODE` is on its kernel's command line.
const GUEST: &str = r#"
fail() { echo "guest failed: $*"; exit 1; }
echo "read $(sha256sum </dev/vda)"
echo "serial $(cat /sys/block/vda/serial)"
echo "size $(cat /sys/block/vda/size) $(cat /sys/block/vdb/size)"
echo "readonly $(cat /sys/block/vda/ro) $(cat /sys/block/vdb/ro)"
dd if=/dev/vda of=/dev/vda bs=64k count=16 seek=32 conv=fsync 2>/dev/null || fail write
blkdiscard -o 65536 -l 65536 /dev/vda || fail discard
dd if=/dev/zero of=/dev/vdb bs=512 count=1 conv=fsync 2>/dev/null && fail "vdb took a write"
echo "entropy $(head -c 4096 /dev/hwrng | wc -c)"
echo "console says $MODE" >/dev/hvc0
ip addr add 10.9.0.2/24 dev eth0 && ip link set eth0 up || fail "no eth0"
echo "mac $(cat /sys/class/net/eth0/address)"
ping -c 5 -i 0.2 -W 5 10.9.0.1 | grep 'packets transmitted'
wget -q -O /tmp/blob http://10.9.0.1/blob || fail download
echo "down $(sha256sum </tmp/blob)"
nc 10.9.0.1 9000 </tmp/blob || fail upload
echo "interrupts"
grep -e virtio -e timer /proc/interrupts
# A netcat may end when its input does; this one is to end when the host lets go.
mkfifo /tmp/open
exec 8<>/tmp/open
nc 10.9.0.1 9001 <&8
"#;

/// In the emulated host, behind a line that sets `$MODE`, `$PARAMETER` and `$CHIPS`.
const HOST: &str = r#"
modprobe tun
ip tuntap add dev tap0 mode tap && ip addr add 10.9.0.1/24 dev tap0 && ip link set tap0 up || exit 90
mkdir /tmp/www && head -c 1000000 /dev/urandom >/tmp/www/blob
busybox httpd -p 10.9.0.1:80 -h /tmp/www
head -c 4194304 /dev/urandom >/tmp/disk.img
cp /tmp/disk.img /tmp/before.img
yes 'a sector that stays' | head -c 65636 >/tmp/readonly.img
cp /tmp/readonly.img /tmp/readonly.before
cat >/tmp/vm.yaml <<END
schema: 1
name: virtio
machine:
  memory: 256MiB
  boot: {kernel: $LAB_KERNEL_VMLINUX, initrd: $LAB_IN/guest.initrd}
  devices:
  - virtio-block: {path: /tmp/disk.img, format: raw, serial: thruway-disk-1}
  - virtio-block: {path: /tmp/readonly.img, format: raw, readonly: true}
  - virtio-net: {tap: tap0, mac: "52:54:00:00:00:77"}
  - virtio-console: {file: /tmp/console.log}
  - virtio-rng: {}
END
# Images that cannot be disks
head -c 511 /dev/zero >/tmp/short.img
mkdir /tmp/sealed && mount -t tmpfs sealed /tmp/sealed
head -c 4096 /dev/zero >/tmp/sealed/disk.img && mount -o remount,ro /tmp/sealed
for image in short.img sealed/disk.img; do
    thruway run --kernel "$LAB_KERNEL_VMLINUX" --disk "/tmp/$image" </dev/null >/dev/null 2>>"$LAB_OUT/refused"
    echo "refused ${image%%[./]*} $?"
done
# A netcat ends when its input does: these inputs stay open, the second one until the guest is let go.
mkfifo /tmp/open /tmp/gate
exec 8<>/tmp/open 9<>/tmp/gate
busybox nc -l -p 9000 <&8 >/tmp/uploaded &
upload=$!
busybox nc -l -p 9001 <&9 >/dev/null &
gate=$!
export CHIPS CMDLINE="console=ttyS0 earlyprintk=ttyS0 quiet panic=-1 $PARAMETER MODE=$MODE"
{
    sh -c 'echo $$ >/tmp/machine; exec thruway run /tmp/vm.yaml --interrupts $CHIPS --cmdline "$CMDLINE"' \
        </dev/null >"$LAB_OUT/guest" 2>"$LAB_OUT/errors"
    echo "status $?" >/tmp/status
} &
machine=$!
until grep -q '^interrupts' "$LAB_OUT/guest" || [ -e /tmp/status ]; do sleep 0.2; done
# The guest waits at the gate: its disk is in use.
thruway run /tmp/vm.yaml --memory 64MiB </dev/null >/dev/null 2>"$LAB_OUT/second"
echo "second $?"
kill $gate
wait $machine
cat /tmp/status
kill $upload 2>/dev/null
echo "machine $(cat /tmp/machine)"
echo "read $(sha256sum </tmp/before.img)"
echo "down $(sha256sum </tmp/www/blob)"
cmp /tmp/uploaded /tmp/www/blob && echo "uploaded whole"
# The first MiB copied to 2 MiB, then 64 KiB of zeros from 64 KiB on; the rest as before.
cp /tmp/before.img /tmp/expected.img
dd if=/tmp/before.img of=/tmp/expected.img bs=64k count=16 seek=32 conv=notrunc 2>/dev/null
dd if=/dev/zero of=/tmp/expected.img bs=4k count=16 seek=16 conv=notrunc 2>/dev/null
cmp /tmp/expected.img /tmp/disk.img && echo "image as the guest wrote it"
cmp /tmp/readonly.before /tmp/readonly.img && echo "readonly image untouched"
cat /tmp/console.log
"#;

fn line<'a>(text: &'a str, start: &str) -> &'a str {
    text.lines()
        .map(str::trim)
        .find_map(|line| line.strip_prefix(start))
        .unwrap_or_else(|| panic!("no line begins with `{start}` in\n{text}"))
        .trim()
}

/// Runs the guest with interrupt controllers `chips` and `parameter` on its command line, and checks everything but
/// interrupts; what the guest printed.
fn check(lab: &Lab, chips: &str, mode: &str, parameter: &str) -> String {
    let files = vec![("guest.initrd".to_owned(), lab.guest_initrd(GUEST))];
    let script = format!("MODE={mode} PARAMETER='{parameter}' CHIPS={chips}\n{HOST}");
    let run: Run = lab.run_with("no-iommu", Options { files, ..Options::default() }, &script);
    run.succeeded();
    let (host, guest) = (run.stdout(), run.file("guest"));
    assert_eq!(line(&host, "status"), "0", "{host}\n{guest}\n{}", run.file("errors"));
    assert_eq!(line(&guest, "read"), line(&host, "read"));
    assert_eq!(line(&guest, "serial"), "thruway-disk-1");
    assert_eq!(line(&guest, "size"), "8192 128", "a last sector that is not whole is not there");
    assert_eq!(line(&guest, "readonly"), "0 1");
    assert_eq!(line(&guest, "entropy"), "4096");
    assert_eq!(line(&guest, "mac"), "52:54:00:00:00:77");
    assert!(guest.contains("5 packets transmitted, 5 packets received"), "{guest}");
    assert_eq!(line(&guest, "down"), line(&host, "down"));
    for fact in ["uploaded whole", "image as the guest wrote it", "readonly image untouched"] {
        line(&host, fact);
    }
    assert!(host.contains(&format!("console says {mode}")), "{host}");
    assert_eq!((line(&host, "refused short"), line(&host, "refused sealed")), ("3", "3"));
    let refused = run.file("refused");
    assert!(refused.contains("/tmp/short.img has 511 bytes; a disk has at least one sector"), "{refused}");
    assert!(refused.contains("/tmp/sealed/disk.img cannot be written; add `readonly`"), "{refused}");
    // The second machine names the file and who has it
    assert_eq!(line(&host, "second"), "3", "{host}\n{}\n{}", run.file("second"), run.outcome.console);
    let holder = format!("disk image /tmp/disk.img is in use by process {}", line(&host, "machine"));
    assert!(run.file("second").contains(&holder), "{}", run.file("second"));
    guest
}

/// Lines of the guest's /proc/interrupts that are virtio's and of this kind.
fn interrupts(guest: &str, kind: &str) -> usize {
    guest.lines().filter(|line| line.contains(kind) && line.contains("virtio")).count()
}

#[test]
fn disks_network_console_and_entropy_work_with_msix() {
    let Some(lab) = Lab::open() else { return };

    let guest = check(lab, "kernel", "msix", "");

    assert!(interrupts(&guest, "MSI") >= 8, "{guest}");
    assert_eq!(interrupts(&guest, "IO-APIC"), 0, "{guest}");
}

#[test]
fn disks_network_console_and_entropy_work_with_intx() {
    let Some(lab) = Lab::open() else { return };

    let guest = check(lab, "kernel", "intx", "pci=nomsi");

    assert_eq!(interrupts(&guest, "MSI"), 0, "{guest}");
    assert!(interrupts(&guest, "IO-APIC") >= 3, "{guest}");
}

#[test]
fn disks_network_console_and_entropy_work_with_msix_beside_an_io_apic_in_user_space() {
    let Some(lab) = Lab::open() else { return };

    let guest = check(lab, "split", "msix", "");

    assert!(interrupts(&guest, "MSI") >= 8, "{guest}");
    assert_eq!(interrupts(&guest, "IO-APIC"), 0, "{guest}");
}

#[test]
fn disks_network_console_and_entropy_work_with_an_io_apic_in_user_space() {
    let Some(lab) = Lab::open() else { return };

    let guest = check(lab, "split", "intx", "pci=nomsi");

    assert_eq!(interrupts(&guest, "MSI"), 0, "{guest}");
    assert!(interrupts(&guest, "IO-APIC") >= 3, "{guest}");
}

#[test]
fn disks_network_console_and_entropy_work_without_any_apic() {
    let Some(lab) = Lab::open() else { return };

    let guest = check(lab, "userspace", "pic", "noapic nolapic");

    assert_eq!(interrupts(&guest, "MSI"), 0, "{guest}");
    assert!(interrupts(&guest, "XT-PIC") >= 3, "{guest}");
    let ticks = guest.lines().find(|line| line.trim_end().ends_with("timer")).unwrap();
    assert!(ticks.contains("XT-PIC"), "{ticks}");
    let count: u64 = ticks.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(count > 100, "{ticks}");
}
