//! Passthrough of emulated functions by a real kernel: IOMMU groups, DMA mappings, interrupts, resets and refusals.
//!
//! The tests here boot an emulated host and start this same test program in it, for the tests of [`inside`].

mod guests;
mod inside;
mod masks;

use super::{Lab, Run};

/// Shell functions that the scripts share; `bind` does by hand what `thruway bind` does.
pub(super) const SHELL: &str = r#"
set -e
modprobe vfio-pci
bind() {
	for address; do
		device=/sys/bus/pci/devices/$address
		echo vfio-pci >$device/driver_override
		[ ! -e $device/driver ] || echo $address >$device/driver/unbind
		echo $address >/sys/bus/pci/drivers_probe || true
	done
}
virtual_functions() {
	echo 0 >/sys/bus/pci/devices/$1/sriov_drivers_autoprobe
	echo $2 >/sys/bus/pci/devices/$1/sriov_numvfs
}
# The kernel numbers controllers as their probes end, which is no order.
controller() {
	echo /dev/$(ls /sys/bus/pci/devices/$1/nvme)
}
# The disk of the host's only NVMe controller, which the kernel looks for after the probe has returned.
await_disk() {
	until [ -b /dev/nvme0n1 ]; do sleep 0.1; done
}
inside() {
	name=$1; shift
	env "$@" $TEST --ignored --exact lab::vfio::inside::$name --nocapture --test-threads=1 </dev/null
}
"#;

/// `start NAME ADDRESS CMDLINE [PROFILE]`: a guest with the function at ADDRESS and the initial RAM file system
/// `$LAB_IN/NAME`, as process `$machine`. Its console goes to `$LAB_OUT/NAME`. `watch` takes the same and waits for its end;
/// the host's VFIO interrupts as they grow go to `$LAB_OUT/NAME.irq`.
const WATCH: &str = r#"
start() {
	thruway run $4 --kernel $LAB_KERNEL_VMLINUX --initrd $LAB_IN/$1 --cmdline "console=ttyS0 earlyprintk=ttyS0 quiet panic=-1 $3" \
		--cpus 1 --memory 256MiB --vfio $2 >$LAB_OUT/$1 </dev/null &
	machine=$!
}
watch() {
	start "$@"
	while kill -0 $machine 2>/dev/null; do
		grep vfio- /proc/interrupts >>$LAB_OUT/$1.irq || true
		sleep 0.2
	done
	wait $machine || { status=$?; cat $LAB_OUT/$1; return $status; }
}
"#;

/// Runs `script` on `hardware` and expects that it succeeds; `None` where there is no lab.
fn succeed(hardware: &str, script: &str) -> Option<Run> {
    let program = std::env::current_exe().unwrap();
    let script = format!("TEST={}\n{SHELL}\n{script}", program.display());
    let run = Lab::open()?.run(hardware, &script);
    run.succeeded();
    Some(run)
}

#[test]
fn functions_open_interrupt_and_are_given_back() {
    let script = "
        ip link set dev $(ls /sys/bus/pci/devices/0000:01:00.0/net) up
        virtual_functions 0000:01:00.0 2
        bind 0000:01:10.0 0000:02:00.0
        inside functions_open_and_are_given_back VF=0000:01:10.0 NVME=0000:02:00.0
        if grep vfio- /proc/interrupts; then exit 1; fi
        echo 1 >/sys/bus/pci/devices/0000:01:00.0/sriov_drivers_autoprobe
        # The groups are free: the drivers of the host take their functions back.
        for address in 0000:01:10.0 0000:02:00.0; do
            echo >/sys/bus/pci/devices/$address/driver_override
            echo $address >/sys/bus/pci/drivers/vfio-pci/unbind
            echo $address >/sys/bus/pci/drivers_probe
            basename $(readlink /sys/bus/pci/devices/$address/driver)
        done
        await_disk
        dd if=/dev/nvme0n1 of=/dev/null bs=1M count=1 2>/dev/null
    ";
    let Some(run) = succeed("vtd-igb", script) else { return };
    assert!(run.stdout().contains("igbvf\nnvme\n"));
}

#[test]
fn refusals_name_the_cause() {
    let script = "
        bind 0000:02:00.0
        refused() { inside refusal \"$@\" | grep '^refused: '; }
        refused ADDRESS=0000:09:00.0
        refused ADDRESS=0000:03:00.0
        chmod 666 /dev/kvm
        user() { setpriv --reuid 65534 --regid 65534 --clear-groups $TEST --ignored --exact \
            lab::vfio::inside::refusal --nocapture </dev/null | grep '^refused: '; }
        group=$(basename $(readlink /sys/bus/pci/devices/0000:02:00.0/iommu_group))
        export ADDRESS=0000:02:00.0
        ulimit -l 64
        user
        chmod 666 /dev/vfio/$group
        user
        sleep 600 9<>/dev/vfio/$group &
        until [ -e /proc/$!/fd/9 ]; do :; done
        echo holder $!
        refused ADDRESS=0000:02:00.0
        kill $!
    ";
    let Some(run) = succeed("vtd-igb", script) else { return };
    let text = run.stdout();
    let refusals: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("refused: ")).collect();
    let [absent, unbound, permission, memory, busy] = refusals[..] else { panic!("{refusals:#?}") };
    assert_eq!(absent, "there is no PCI function 0000:09:00.0 on this host");
    assert!(unbound.starts_with("0000:03:00.0 is bound to e1000e, not bound to vfio-pci"), "{unbound}");
    assert!(permission.starts_with("no permission on /dev/vfio/"), "{permission}");
    assert!(
        memory.contains("locks all 64MiB of guest RAM, but this process may lock only 64KiB"),
        "{memory}"
    );
    let holder = text.lines().find_map(|line| line.strip_prefix("holder ")).unwrap();
    assert!(busy.ends_with(&format!("is in use by process {holder}")), "{busy}");
}

#[test]
fn without_an_iommu_there_is_no_group() {
    let script =
        "inside refusal ADDRESS=$(basename $(dirname $(ls -d /sys/bus/pci/devices/*/driver | head -1)))";
    let Some(run) = succeed("no-iommu", script) else { return };
    assert!(run.stdout().contains("has no IOMMU group, so its DMA cannot be confined"));
}

#[test]
fn a_group_that_the_host_still_uses_is_named_with_its_drivers() {
    let script = "
        # The first endpoint whose group has another one with a driver of the host.
        for device in /sys/bus/pci/devices/*; do
            for other in $device/iommu_group/devices/*; do
                [ $(basename $other) != $(basename $device) ] || continue
                [ -e $device/driver ] && [ -e $other/driver ] || continue
                case $(basename $(readlink $device/driver)),$(basename $(readlink $other/driver)) in
                *pcieport*|*virtio-pci*|*ahci*|*lpc_ich*|*i801*) continue ;;
                esac
                bind $(basename $device)
                echo expected $(basename $other) $(basename $(readlink $other/driver))
                inside refusal ADDRESS=$(basename $device)
                exit 0
            done
        done
        exit 3
    ";
    let Some(run) = succeed("shared-group", script) else { return };
    let text = run.stdout();
    let expected = text.lines().find_map(|line| line.strip_prefix("expected ")).unwrap();
    let (address, driver) = expected.split_once(' ').unwrap();
    assert!(text.contains("is not viable: the host still uses"), "{text}");
    assert!(text.contains(&format!("{address} (driver {driver})")), "{text}");
}

#[test]
fn unremapped_interrupts_are_refused_and_the_parameter_is_named_but_never_set() {
    let description = r#"
schema: 1
description: VT-d without interrupt remapping
iommu:
  vtd: {interrupt_remapping: false, caching_mode: true, address_width_bits: 48}
kernel_arguments: [intel_iommu=on]
pci:
  - root_port:
      at: "02.0"
      devices:
        - nvme:
            serial: SCRATCH
            namespaces: [{size: 16MiB}]
"#;
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(file.path(), description).unwrap();
    let script = "
        bind 0000:01:00.0
        inside refusal ADDRESS=0000:01:00.0
        cat /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts
    ";
    let Some(run) = succeed(file.path().to_str().unwrap(), script) else { return };
    let text = run.stdout();
    assert!(text.contains("refuses 0000:01:00.0 because interrupts are not remapped"), "{text}");
    assert!(text.trim_end().ends_with('N'), "{text}");
}
