//! Where a guest finds its devices, and the expansion ROMs that they bring.

use thruway::rehearse::Options;

use super::Lab;

/// In the guest. A function that no driver holds decodes nothing until it is enabled.
const GUEST: &str = r#"
cd /sys/bus/pci/devices
for function in *; do echo "function $function $(cat $function/vendor):$(cat $function/device)"; done
for function in 0000:02:00.1 0000:05:00.0; do
    echo 1 >$function/enable 2>/dev/null
    echo 1 >$function/rom && cat $function/rom >/tmp/rom
    echo "rom $function $(wc -c </tmp/rom) $(sha256sum </tmp/rom)"
    echo 0 >$function/rom
done
[ -e 0000:01:00.0/rom ] || echo "rom 0000:01:00.0 none"
echo "large $(sed -n 3p 0000:05:00.0/resource)"
"#;

/// In the emulated host: two functions with a large BAR each, one of them with an expansion ROM.
const HOST: &str = r#"
set -- $(grep -l 0x0005 /sys/bus/pci/devices/*/device | while read -r file; do
    [ $(cat ${file%device}vendor) != 0x1b36 ] || basename ${file%/device}
done)
thruway bind $1 $2 --yes >/dev/null || exit 90
cat >/tmp/places.yaml <<END
schema: 1
name: places
machine:
  memory: 256MiB
  boot:
    kernel: $LAB_KERNEL_VMLINUX
    initrd: $LAB_IN/guest.initrd
    cmdline: console=ttyS0 earlyprintk=ttyS0 quiet panic=-1
  devices:
  - virtio-rng: {}
  - virtio-rng: {guest_address: "02:00.1", rom: /usr/lib/ipxe/qemu/efi-virtio.rom}
  - vfio-pci: {select: {address: "$1"}, guest_address: "05:00.0"}
  - virtio-rng: {guest_address: "02:00.0"}
END
thruway run /tmp/places.yaml </dev/null >"$LAB_OUT/guest" 2>"$LAB_OUT/errors"
echo "status $?"
for rom in efi-virtio pxe-e1000; do
    size=$(grep -o "rom .* [0-9]* " "$LAB_OUT/guest" | cut -d' ' -f3 | sort -n | { [ $rom = pxe-e1000 ] && head -n 1 || tail -n 1; })
    echo "$rom $size $(head -c $size /usr/lib/ipxe/qemu/$rom.rom | sha256sum)"
done
sed "s/$1/$2/" /tmp/places.yaml >/tmp/huge.yaml
thruway run /tmp/huge.yaml </dev/null >/dev/null 2>"$LAB_OUT/huge"
echo "huge $?"
"#;

#[test]
fn devices_are_where_the_profile_says_with_their_roms_and_large_bars() {
    let Some(lab) = Lab::open() else { return };
    let devices = [
        "pcie-root-port,id=large,chassis=80,slot=80,bus=pcie.0,addr=08.0",
        "pci-testdev,bus=large,membar=32G,romfile=/usr/lib/ipxe/qemu/pxe-e1000.rom",
        "pcie-root-port,id=huge,chassis=81,slot=81,bus=pcie.0,addr=09.0",
        "pci-testdev,bus=huge,membar=256G",
    ];
    let qemu_arguments = devices.iter().flat_map(|device| ["-device", device]).map(str::to_owned).collect();
    let files = vec![("guest.initrd".to_owned(), lab.guest_initrd(GUEST))];
    let run = lab.run_with("vtd-igb", Options { qemu_arguments, files, ..Options::default() }, HOST);
    run.succeeded();
    let (host, guest) = (run.stdout(), run.file("guest"));
    assert!(host.contains("status 0\n"), "{host}\n{guest}\n{}", run.file("errors"));

    for (address, id) in [
        ("01:00.0", "0x1af4:0x1044"),
        ("02:00.0", "0x1af4:0x1044"),
        ("02:00.1", "0x1af4:0x1044"),
        ("05:00.0", "0x1b36:0x0005"),
    ] {
        assert!(guest.contains(&format!("function 0000:{address} {id}")), "{address}\n{guest}");
    }
    // The root ports are all there, so that bus numbers are those of the ports.
    assert_eq!(guest.matches("0x1b36:0x000c").count(), 5, "{guest}");
    assert!(guest.contains("rom 0000:01:00.0 none"), "{guest}");
    for (file, address) in [("efi-virtio", "02:00.1"), ("pxe-e1000", "05:00.0")] {
        let line = host.lines().find_map(|line| line.strip_prefix(&format!("{file} "))).unwrap();
        assert!(guest.contains(&format!("rom 0000:{address} {line}")), "{line}\n{guest}");
    }
    assert!(guest.contains("large 0x0000000800000000 0x0000000fffffffff"), "{guest}");
    let errors = run.file("errors");
    assert!(errors.contains("efi-virtio.rom is for 1af4:1041, and virtio-rng is 1af4:1044"), "{errors}");

    assert!(host.contains("huge 2\n"), "{host}");
    let huge = run.file("huge");
    assert!(huge.contains("machine.devices[2].vfio-pci: no room for BAR 2 (256GiB) of vfio("), "{huge}");
    assert!(huge.contains("huge.yaml:12:"), "{huge}");
}
