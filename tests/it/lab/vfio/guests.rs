//! Guests that own a function: data moves both ways, and interrupts are counted on both sides.

use std::collections::BTreeMap;

use super::{SHELL, WATCH};
use crate::lab::{Lab, Run};
use thruway::rehearse::Options;

/// What the guest says about its network card: an address by DHCP, five pings to the gateway, its interrupts.
const NETWORK_GUEST: &str = r#"
set -e
cat >/tmp/lease <<'END'
[ "$1" != bound ] || ip addr add $ip/24 dev $interface
END
chmod +x /tmp/lease
interface=$(ls /sys/class/net | grep -v '^lo$')
echo "driver $(basename $(readlink /sys/class/net/$interface/device/driver))"
ip link set $interface up
udhcpc -i $interface -s /tmp/lease -n -q -t 20 -T 1 2>&1 | grep -i lease
ping -c 5 -W 2 $GATEWAY | grep transmitted
grep $interface /proc/interrupts | sed 's/^/guest-irq /'
"#;

/// What the guest does with its disk: writes a marker, reads it back past its cache, counts interrupts.
const DISK_GUEST: &str = r#"
set -e
for i in $(seq 100); do [ ! -b /dev/nvme0n1 ] || break; sleep 0.1; done
echo "driver $(basename $(readlink /sys/class/nvme/nvme0/device/driver))"
printf "$MARKER" | dd of=/dev/nvme0n1 bs=512 seek=8 conv=sync,fsync 2>/dev/null
dd if=/dev/zero of=/dev/nvme0n1 bs=4k seek=16 count=1024 conv=fsync 2>/dev/null
echo 3 >/proc/sys/vm/drop_caches
echo "read $(dd if=/dev/nvme0n1 bs=512 skip=8 count=1 2>/dev/null | tr -d '\0')"
grep nvme /proc/interrupts | sed 's/^/guest-irq /'
"#;

/// Interrupt counts by name in lines of /proc/interrupts that begin with `prefix`: all CPUs together, the highest of
/// several lines, since a count begins again when the interrupt is given back and taken once more.
fn counts(text: &str, prefix: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.trim().strip_prefix(prefix)) {
        let numbers = line.split_whitespace().skip(1).map_while(|word| word.parse::<u64>().ok());
        let count = counts.entry(line.split_whitespace().last().unwrap_or_default().to_owned()).or_default();
        *count = numbers.sum::<u64>().max(*count);
    }
    counts
}

/// Runs guests with `scripts` (file name, text) on `hardware`; `None` where there is no lab.
fn run(hardware: &str, guests: &[(&str, String)], script: &str) -> Option<Run> {
    let lab = Lab::open()?;
    let files = guests.iter().map(|(name, text)| ((*name).to_owned(), lab.guest_initrd(text))).collect();
    let options = Options { files, ..Options::default() };
    let run = lab.run_with(hardware, options, &format!("{SHELL}\n{WATCH}\n{script}"));
    run.succeeded();
    Some(run)
}

/// What a guest printed on its console, whose lines end as a terminal wants them.
fn console(run: &Run, name: &str) -> String {
    run.file(name).replace('\r', "")
}

/// Asserts that the host's counter of `name` reached `least`, in the file that `watch` left.
fn assert_host_count(run: &Run, file: &str, name: &str, least: u64) {
    let counts = counts(&run.file(file), "");
    assert!(counts.get(name).is_some_and(|count| *count >= least), "{name}: {least} in {counts:?}");
}

#[test]
fn a_virtual_function_and_a_nic_without_msix_carry_a_network() {
    let gateway = |address: &str| format!("GATEWAY={address}\n{NETWORK_GUEST}");
    let guests = [("vf", gateway("10.0.2.2")), ("e1000e", gateway("10.0.3.2"))];
    let script = "
        ip link set dev $(ls /sys/bus/pci/devices/0000:01:00.0/net) up
        virtual_functions 0000:01:00.0 2
        bind 0000:01:10.0 0000:03:00.0
        watch vf 0000:01:10.0 '' 
        # IntMode=1: one MSI vector instead of MSI-X. The driver tries it for a moment and goes on with INTx if none came,
        # which in an emulated machine is a matter of its speed.
        watch e1000e 0000:03:00.0 'e1000e.IntMode=1'
        if grep vfio- /proc/interrupts; then exit 1; fi
    ";
    let Some(run) = run("vtd-igb", &guests, script) else { return };
    for (guest, driver) in [("vf", "igbvf"), ("e1000e", "e1000e")] {
        let text = console(&run, guest);
        assert!(text.contains(&format!("driver {driver}\n")), "{text}");
        assert!(text.contains("lease of 10.0."), "{text}");
        assert!(text.contains("5 packets transmitted, 5 packets received, 0% packet loss"), "{text}");
        assert!(text.contains("thruway-guest: status 0 "), "{text}");
        let inside: u64 = counts(&text, "guest-irq ").values().sum();
        assert!(inside >= 10, "{guest}: {inside} interrupts in the guest\n{text}");
    }
    let vf = console(&run, "vf");
    let vectors = counts(&vf, "guest-irq ");
    assert!(vectors["eth0-rx-0"] >= 5 && vectors["eth0-tx-0"] >= 5, "{vectors:?}");
    assert_host_count(&run, "vf.irq", "vfio-msix[1](0000:01:10.0)", 5);
    let nic = counts(&run.file("e1000e.irq"), "");
    let by = |kind: &str| nic.get(&format!("vfio-{kind}(0000:03:00.0)")).copied().unwrap_or_default();
    assert!(nic.contains_key("vfio-msi[0](0000:03:00.0)"), "MSI was tried: {nic:?}");
    assert!(by("msi[0]") + by("intx") >= 10, "{nic:?}");
}

#[test]
fn an_nvme_controller_stores_by_msix_and_by_intx() {
    let guest = |marker: &str| format!("MARKER={marker}\n{DISK_GUEST}");
    let guests = [("msix", guest("WROTE-BY-MSIX")), ("intx", guest("WROTE-BY-INTX-"))];
    let script = "
        bind 0000:02:00.0
        watch msix 0000:02:00.0 ''
        sync
        dd if=$LAB_OUT/msix of=/dev/null 2>/dev/null
        watch intx 0000:02:00.0 'pci=nomsi'
        if grep vfio- /proc/interrupts; then exit 1; fi
        echo >/sys/bus/pci/devices/0000:02:00.0/driver_override
        echo 0000:02:00.0 >/sys/bus/pci/drivers/vfio-pci/unbind
        echo 0000:02:00.0 >/sys/bus/pci/drivers_probe
        await_disk
        dd if=/dev/nvme0n1 bs=512 skip=8 count=1 2>/dev/null | tr -d '\\0'
    ";
    let Some(run) = run("vtd-igb", &guests, script) else { return };
    for (guest, marker) in [("msix", "WROTE-BY-MSIX"), ("intx", "WROTE-BY-INTX-")] {
        let text = console(&run, guest);
        assert!(text.contains("driver nvme\n"), "{text}");
        assert!(text.contains(&format!("read {marker}\n")), "{text}");
        assert!(text.contains("thruway-guest: status 0 "), "{text}");
        let inside: u64 = counts(&text, "guest-irq ").values().sum();
        assert!(inside >= 10, "{guest}: {inside} interrupts in the guest\n{text}");
    }
    assert!(console(&run, "intx").lines().any(|line| line.contains("guest-irq") && line.contains("IO-APIC")));
    assert_host_count(&run, "msix.irq", "vfio-msix[1](0000:02:00.0)", 5);
    assert_host_count(&run, "intx.irq", "vfio-intx(0000:02:00.0)", 10);
    let image = run.image("SCRATCH-ns1.img");
    assert!(
        image[8 * 512..].starts_with(b"WROTE-BY-INTX-"),
        "the image file holds what the last guest wrote"
    );
    assert!(run.stdout().ends_with("WROTE-BY-INTX-"), "and the host's own driver reads it");
}

#[test]
fn an_nvme_controller_stores_with_interrupt_controllers_in_user_space() {
    let guest = |marker: &str| format!("MARKER={marker}\n{DISK_GUEST}");
    let guests =
        [("msix", guest("SPLIT-MSIX")), ("intx", guest("SPLIT-INTX")), ("pic", guest("USERSPACE-INTX"))];
    let script = "
        bind 0000:02:00.0
        watch msix 0000:02:00.0 '' '--interrupts split'
        watch intx 0000:02:00.0 'pci=nomsi' '--interrupts split'
        watch pic 0000:02:00.0 'noapic nolapic' '--interrupts userspace'
        if grep vfio- /proc/interrupts; then exit 1; fi
    ";
    let Some(run) = run("vtd-igb", &guests, script) else { return };
    for (guest, marker, kind) in [
        ("msix", "SPLIT-MSIX", "PCI-MSIX"),
        ("intx", "SPLIT-INTX", "IO-APIC"),
        ("pic", "USERSPACE-INTX", "XT-PIC"),
    ] {
        let text = console(&run, guest);
        assert!(text.contains(&format!("read {marker}\n")), "{text}");
        assert!(text.contains("thruway-guest: status 0 "), "{text}");
        let inside: u64 = counts(&text, "guest-irq ").values().sum();
        assert!(inside >= 10, "{guest}: {inside} interrupts in the guest\n{text}");
        let lines = || text.lines().filter(|line| line.contains("guest-irq"));
        assert!(lines().count() > 0 && lines().all(|line| line.contains(kind)), "{text}");
    }
    assert_host_count(&run, "msix.irq", "vfio-msix[1](0000:02:00.0)", 5);
    for file in ["intx.irq", "pic.irq"] {
        assert_host_count(&run, file, "vfio-intx(0000:02:00.0)", 10);
    }
    assert!(run.image("SCRATCH-ns1.img")[8 * 512..].starts_with(b"USERSPACE-INTX"));
}

#[test]
fn a_virtual_function_and_a_nic_without_msix_carry_a_network_beside_an_io_apic_in_user_space() {
    let gateway = |address: &str| format!("GATEWAY={address}\n{NETWORK_GUEST}");
    let guests = [("vf", gateway("10.0.2.2")), ("e1000e", gateway("10.0.3.2"))];
    let script = "
        ip link set dev $(ls /sys/bus/pci/devices/0000:01:00.0/net) up
        virtual_functions 0000:01:00.0 2
        bind 0000:01:10.0 0000:03:00.0
        watch vf 0000:01:10.0 '' '--interrupts split'
        watch e1000e 0000:03:00.0 'e1000e.IntMode=1' '--interrupts split'
        # Nothing but messages, and nobody to take them.
        thruway run --kernel $LAB_KERNEL_VMLINUX --interrupts userspace --vfio 0000:01:10.0 2>&1 || echo refused: $?
    ";
    let Some(run) = run("vtd-igb", &guests, script) else { return };
    for guest in ["vf", "e1000e"] {
        let text = console(&run, guest);
        assert!(text.contains("5 packets transmitted, 5 packets received, 0% packet loss"), "{text}");
    }
    let refusal = run.stdout();
    assert!(refusal.contains("0000:01:10.0 interrupts by messages alone"), "{refusal}");
    assert!(refusal.contains("refused: 3"), "{refusal}");
    let vectors = counts(&console(&run, "vf"), "guest-irq ");
    assert!(vectors["eth0-rx-0"] >= 5 && vectors["eth0-tx-0"] >= 5, "{vectors:?}");
    assert_host_count(&run, "vf.irq", "vfio-msix[1](0000:01:10.0)", 5);
}

#[test]
fn a_virtual_function_of_an_nvme_controller_stores() {
    let guests = [("vf", format!("MARKER=WROTE-BY-VF\n{DISK_GUEST}"))];
    let script = "
        pf=/sys/bus/pci/devices/0000:01:00.0
        nvme=$(controller 0000:01:00.0)
        # Queue and interrupt resources go from the primary controller to the virtual function (NVMe 2.0, 8.26).
        nvme virt-mgmt $nvme -c 0 -r 1 -n 0 -a 1
        nvme virt-mgmt $nvme -c 0 -r 0 -n 0 -a 1
        echo 1 >$pf/reset
        virtual_functions 0000:01:00.0 2
        nvme virt-mgmt $nvme -c 1 -r 1 -n 1 -a 8
        nvme virt-mgmt $nvme -c 1 -r 0 -n 2 -a 8
        echo 1 >/sys/bus/pci/devices/0000:01:00.1/reset
        nvme virt-mgmt $nvme -c 1 -r 0 -n 0 -a 9
        bind 0000:01:00.1
        watch vf 0000:01:00.1 ''
        if grep vfio- /proc/interrupts; then exit 1; fi
    ";
    let Some(run) = run("vtd-nvme", &guests, script) else { return };
    let text = console(&run, "vf");
    assert!(text.contains("read WROTE-BY-VF\n"), "{text}");
    assert!(text.contains("thruway-guest: status 0 "), "{text}");
    let inside: u64 = counts(&text, "guest-irq ").values().sum();
    assert!(inside >= 5, "{inside} interrupts in the guest\n{text}");
    assert_host_count(&run, "vf.irq", "vfio-msix[0](0000:01:00.1)", 5);
    assert!(run.image("SHARED-ns1.img")[8 * 512..].starts_with(b"WROTE-BY-VF"));
}

/// A guest that reboots at its first start and reads at its second what it wrote at its first.
const REBOOTING_GUEST: &str = r#"
for i in $(seq 100); do [ ! -b /dev/nvme0n1 ] || break; sleep 0.1; done
if [ "$(dd if=/dev/nvme0n1 bs=512 skip=32 count=1 2>/dev/null | tr -d '\0')" = FIRST-START ]; then
	echo "second start reads the first one's marker"
	grep nvme /proc/interrupts | sed 's/^/guest-irq /'
	exit 0
fi
printf FIRST-START | dd of=/dev/nvme0n1 bs=512 seek=32 conv=sync,fsync 2>/dev/null
reboot -f
"#;

/// A guest that waits with a working disk until somebody ends it.
const WAITING_GUEST: &str = r#"
for i in $(seq 100); do [ ! -b /dev/nvme0n1 ] || break; sleep 0.1; done
dd if=/dev/nvme0n1 of=/dev/null bs=512 count=1 2>/dev/null && echo waiting
while :; do dd if=/dev/nvme0n1 of=/dev/null bs=1M count=8 iflag=direct 2>/dev/null; done
"#;

#[test]
fn a_function_is_given_back_however_the_process_ends() {
    let guests = [("waiting", WAITING_GUEST.to_owned())];
    let script = r#"
        function=0000:02:00.0
        bind $function
        for signal in TERM KILL; do
            start waiting $function ''
            until grep -q ^waiting $LAB_OUT/waiting; do kill -0 $machine; sleep 0.2; done
            grep -q vfio-msix /proc/interrupts
            kill -$signal $machine
            wait $machine || echo "SIG$signal: $?"
            if grep vfio- /proc/interrupts; then exit 1; fi
        done
        echo >/sys/bus/pci/devices/$function/driver_override
        echo $function >/sys/bus/pci/drivers/vfio-pci/unbind
        echo $function >/sys/bus/pci/drivers_probe
        await_disk
        dd if=/dev/nvme0n1 of=/dev/null bs=512 count=1 2>/dev/null
    "#;
    let Some(run) = run("vtd-igb", &guests, script) else { return };
    assert_eq!(run.stdout(), "SIGTERM: 130\nSIGKILL: 137\n");
}

#[test]
fn a_function_works_again_after_the_guests_reset() {
    let guests = [("reboot", REBOOTING_GUEST.to_owned())];
    let script = r#"
        bind 0000:02:00.0
        printf 'schema: 1\nname: reboot\nmachine:\n  boot: {kernel: /none}\n  on_reboot: reset\n' >/tmp/reboot.yaml
        watch reboot 0000:02:00.0 '' /tmp/reboot.yaml
        if grep vfio- /proc/interrupts; then exit 1; fi
    "#;
    let Some(run) = run("vtd-igb", &guests, script) else { return };
    let text = console(&run, "reboot");
    assert_eq!(text.matches("thruway-guest: script").count(), 2, "{text}");
    assert!(text.contains("second start reads the first one's marker"), "{text}");
    assert!(counts(&text, "guest-irq ").values().sum::<u64>() > 0, "{text}");
    assert!(run.image("SCRATCH-ns1.img")[32 * 512..].starts_with(b"FIRST-START"));
}
