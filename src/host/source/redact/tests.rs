//! A host full of secrets is captured, and none of them is in the file.

use std::io::Read;

use super::*;
use crate::host;
use crate::host::fact::Fact;
use crate::host::source::fake::{Entry, FakeHost};
use crate::host::source::{Recorder, Source};

const NIC: &str = "/sys/bus/pci/devices/0000:01:00.0";

/// What must not be found, in the spellings in which it could stand there.
const SECRETS: [&str; 26] = [
    "52:54:00:c0:ff:ee",
    "525400c0ffee",
    "c0ffee-host",
    "4c4c4544-0042-3510-8052-b9c04f563332",
    "CN7016E1",
    "S5H9NS0NA12345",
    "0025385b71b0a1b2",
    "alice",
    "bob",
    "192.168.77.5",
    "0x4DA8C0",
    "054DA8C0",
    "20010db800770000000000000000beef",
    "2001:db8:77::beef",
    "9f86d081884c7d659a2feaa0c55ad015",
    "d2a1e4b6-6d0a-4a6c-9f0e-0c6e5d1f7a11",
    "1C2A-77F0",
    "hunter2",
    "nas.example",
    "secret-letter",
    "f0d1c2b3-aaaa-4bbb-8ccc-1234567890ab",
    "DSN-WORD-77",
    "ASSET-0815",
    "5000c500a1b2c3d4",
    "firefox",
    "holder77",
];

/// Paths that the inspector of a later day might read.
const ALSO_READ: [&str; 13] = [
    "/etc/hostname",
    "/etc/machine-id",
    "/sys/class/dmi/id/product_serial",
    "/sys/class/dmi/id/product_uuid",
    "/sys/class/dmi/id/chassis_asset_tag",
    "/sys/class/net/enx525400c0ffee/address",
    "/sys/class/net/enx525400c0ffee/again",
    "/sys/class/block/nvme0n1/wwid",
    "/sys/class/nvme/nvme0/serial",
    "/sys/firmware/dmi/tables/DMI",
    "/sys/firmware/acpi/tables/MSDM",
    "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c",
    "/proc/net/fib_trie",
];

fn config() -> Vec<u8> {
    let mut config = vec![0; 4096];
    config[..4].copy_from_slice(&[0x86, 0x80, 0xC9, 0x10]);
    (config[0x06], config[0x34], config[0x40]) = (0x10, 0x40, 0x10);
    config[0x100..0x104].copy_from_slice(&[0x03, 0x00, 0x01, 0x30]);
    config[0x104..0x10C].copy_from_slice(&[0xEE, 0xFF, 0xC0, 0xFF, 0xFF, 0x00, 0x54, 0x52]);
    config[0x200..0x206].copy_from_slice(&[0x52, 0x54, 0x00, 0xC0, 0xFF, 0xEE]);
    config[0x300..0x30B].copy_from_slice(b"DSN-WORD-77");
    config
}

fn host() -> FakeHost {
    let config = config();
    FakeHost::new(&[
        ("/etc/hostname", Entry::Text("c0ffee-host")),
        ("/etc/machine-id", Entry::Text("9f86d081884c7d659a2feaa0c55ad015")),
        (
            "/proc/cmdline",
            Entry::Text(
                "root=UUID=d2a1e4b6-6d0a-4a6c-9f0e-0c6e5d1f7a11 intel_iommu=on boot=PARTUUID=1C2A-77F0 rd.iscsi.password=hunter2 ip=192.168.77.5:::255.255.255.0:c0ffee-host resume=/dev/mapper/c0ffee-host--vg-swap",
            ),
        ),
        ("/proc/sys/kernel/osrelease", Entry::Text("6.12.95+deb12-amd64")),
        ("/proc/sys/kernel/random/boot_id", Entry::Text("f0d1c2b3-aaaa-4bbb-8ccc-1234567890ab")),
        (
            "/proc/net/route",
            Entry::Text(
                "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\nenx525400c0ffee\t00000000\t054DA8C0\t0003\t0\t0\t0\t00000000",
            ),
        ),
        (
            "/proc/net/ipv6_route",
            Entry::Text(
                "20010db800770000000000000000beef 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 enx525400c0ffee",
            ),
        ),
        ("/proc/net/fib_trie", Entry::Text("|-- 192.168.77.5 via 2001:db8:77::beef")),
        (
            "/proc/self/mountinfo",
            Entry::Text(
                "22 1 259:1 / /home/alice rw - ext4 /dev/nvme0n1p1 rw\n23 1 0:44 / /run/media/bob/x rw - cifs //nas.example/secret-letter rw,username=alice,addr=192.168.77.5",
            ),
        ),
        ("/proc/swaps", Entry::Text("Filename Type Size Used Priority")),
        ("/proc/77/comm", Entry::Text("holder")),
        ("/proc/77/fd/3", Entry::Link("/dev/nvme0n1")),
        ("/proc/77/fd/4", Entry::Link("/home/alice/secret-letter")),
        ("/proc/78/comm", Entry::Text("firefox")),
        ("/proc/78/fd/5", Entry::Link("/srv/holder77")),
        (
            "/run/udev/data/b259:1",
            Entry::Text(
                "S:disk/by-label/alice\nE:ID_SERIAL_SHORT=S5H9NS0NA12345\nE:ID_FS_TYPE=ext4\nE:ID_FS_LABEL=bob",
            ),
        ),
        ("/sys/class/dmi/id/product_serial", Entry::Text("CN7016E1")),
        ("/sys/class/dmi/id/product_uuid", Entry::Text("4c4c4544-0042-3510-8052-b9c04f563332")),
        ("/sys/class/dmi/id/chassis_asset_tag", Entry::Text("ASSET-0815")),
        ("/sys/class/dmi/id/sys_vendor", Entry::Text("QEMU")),
        ("/sys/class/dmi/id/bios_version", Entry::Text("1.16.3.2")),
        ("/sys/class/block/nvme0n1/dev", Entry::Text("259:0")),
        ("/sys/class/block/nvme0n1/device", Entry::Link("../../../bus/pci/devices/0000:02:00.0/nvme/nvme0")),
        ("/sys/class/block/nvme0n1/wwid", Entry::Text("eui.0025385b71b0a1b2")),
        ("/sys/class/block/nvme0n1/size", Entry::Text("2048")),
        ("/sys/class/nvme/nvme0/serial", Entry::Text("S5H9NS0NA12345")),
        ("/sys/class/nvme/nvme0/wwn-0x5000c500a1b2c3d4-part", Entry::Text("")),
        ("/sys/bus/pci/devices/0000:01:00.0/config", Entry::Bytes(&config)),
        ("/sys/bus/pci/devices/0000:01:00.0/vendor", Entry::Text("0x8086")),
        ("/sys/bus/pci/devices/0000:01:00.0/device", Entry::Text("0x10c9")),
        ("/sys/bus/pci/devices/0000:01:00.0/class", Entry::Text("0x020000")),
        ("/sys/bus/pci/devices/0000:01:00.0/serial", Entry::Text("DSN-WORD-77")),
        ("/sys/bus/pci/devices/0000:01:00.0/net/enx525400c0ffee/address", Entry::Text("52:54:00:c0:ff:ee")),
        ("/sys/bus/pci/devices/0000:01:00.0/net/enx525400c0ffee/again", Entry::Text("52:54:00:C0:FF:EE")),
        ("/sys/bus/pci/devices/0000:01:00.0/net/enx525400c0ffee/operstate", Entry::Text("up")),
        ("/sys/bus/pci/devices/0000:01:00.0/net/enx525400c0ffee/flags", Entry::Text("0x1003")),
        (
            "/sys/class/net/enx525400c0ffee",
            Entry::Link("../../bus/pci/devices/0000:01:00.0/net/enx525400c0ffee"),
        ),
        ("/sys/firmware/dmi/tables/DMI", Entry::Bytes(b"\x01\x1bCN7016E1\0ASSET-0815\0\0")),
        (
            "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c",
            Entry::Bytes(&[6, 0, 0, 0, 1]),
        ),
        ("/sys/firmware/acpi/tables/MSDM", Entry::Bytes(b"MSDM\0\0hunter2\0")),
        ("/sys/firmware/acpi/tables/DMAR", Entry::Bytes(b"DMAR\0\0\0\0")),
    ])
}

fn captured() -> (Bundle, Bundle, Redaction) {
    let host = host();
    let source = host.source();
    let recorder = Recorder::new(&source);
    drop(host::collect(&recorder));
    for path in ALSO_READ {
        assert!(recorder.read(path).known().is_some(), "{path}");
    }
    for path in [&format!("{NIC}/serial"), "/sys/firmware/acpi/tables/DMAR"] {
        drop(recorder.read(path));
    }
    for path in ["/sys/class/nvme/nvme0", "/sys/firmware/acpi/tables"] {
        drop(recorder.list(path));
    }
    let whole = recorder.into_bundle();
    let (redacted, redaction) = whole.redacted();
    (whole, redacted, redaction)
}

fn unpacked(bundle: &Bundle) -> String {
    let (mut file, mut bytes) = (Vec::new(), Vec::new());
    bundle.write(&mut file).unwrap();
    flate2::read::GzDecoder::new(file.as_slice()).read_to_end(&mut bytes).unwrap();
    // As text, and the bytes as pairs of digits.
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    String::from_utf8_lossy(&bytes).into_owned() + &hex
}

#[test]
fn no_secret_is_in_the_file() {
    let (whole, redacted, _) = captured();
    let (with, without) = (unpacked(&whole).to_lowercase(), unpacked(&redacted).to_lowercase());
    for secret in SECRETS.map(str::to_lowercase) {
        assert!(!without.contains(&secret), "{secret} is still there");
    }
    let there = SECRETS.iter().filter(|secret| with.contains(&secret.to_lowercase())).count();
    assert!(there >= 22, "only {there} of them were there before");
}

#[test]
fn what_belongs_together_still_does() {
    let (_, redacted, redaction) = captured();
    let text = |path: &str| redacted.text(path).known().unwrap_or_else(|| panic!("{path}")).clone();
    let nic = "/sys/class/net/enx020000000001";
    assert_eq!(text(&format!("{nic}/address")), "02:00:00:00:00:01");
    assert_eq!(text(&format!("{nic}/again")), "02:00:00:00:00:01");
    let config = redacted.read(&format!("{NIC}/config"));
    let config = config.known().unwrap();
    assert_eq!(config.len(), 0x400); // as far as its lists lead
    assert_eq!(config[0x200..0x206], [2, 0, 0, 0, 0, 1]);
    assert_eq!(config[..4], [0x86, 0x80, 0xC9, 0x10]);
    assert!(text("/proc/net/route").contains("enx020000000001\t00000000\t"));
    assert!(text("/proc/cmdline").contains("intel_iommu=on"));
    assert_eq!(text("/sys/class/dmi/id/bios_version"), "1.16.3.2");
    assert_eq!(redaction.replaced[&Kind::HostName], 1);
    assert_eq!(redaction.processes_left_out, 1);
    assert_eq!(redaction.left_out, ["/sys/firmware/acpi/tables/MSDM", "/sys/firmware/dmi/tables/DMI"]);
    assert!(redacted.read("/sys/firmware/dmi/tables/DMI").is_unread());
    assert!(redacted.read("/sys/firmware/acpi/tables/DMAR").known().is_some());
    let secure_boot = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    assert_eq!(redacted.read(secure_boot), Fact::Known(vec![6, 0, 0, 0, 1]));
}

#[test]
fn the_inspector_concludes_the_same_but_for_names() {
    let (whole, redacted, _) = captured();
    let (live, replay) = (host::collect(&whole), host::collect(&redacted));
    assert_eq!(live.kernel.release, replay.kernel.release);
    let usage = |facts: &host::HostFacts| {
        let nic = facts.device("0000:01:00.0".parse().unwrap()).unwrap();
        let interface = nic.usage.interfaces.known().unwrap()[0].clone();
        (interface.up, interface.default_route, nic.usage.vfio_users.clone(), nic.vendor.clone())
    };
    assert_eq!(usage(&live), usage(&replay));
    assert_eq!(usage(&replay).1, Fact::Known(true));
}
