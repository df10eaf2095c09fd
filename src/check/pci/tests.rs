//! The NIC of the healthy host, its registers and its memory, and how each check is brought to each answer.

use crate::check::fixture::{Entry, FakeHost, Fixture, SUBJECT, nothing};

const DEVICES: &str = "/sys/bus/pci/devices";
const PORT: &str = "0000:00:02.0";
/// Another function of the subject's device.
const COMPANION: &str = "0000:01:00.1";
/// A device elsewhere.
const OTHER: &str = "0000:02:00.0";
const COMMAND_LINE: &str = "/proc/cmdline";
const USB: &str = "/sys/bus/usb/devices";

const MEMORY: &str = "0x00000000fb000000 0x00000000fb01ffff 0x0000000000040200";
const NO_PLACE: &str = "0x0000000000000000 0x000000000fffffff 0x000000002014220c";
const NOTHING: &str = "0x0000000000000000 0x0000000000000000 0x0000000000000000";
const ROM: &str = "0x00000000fc000000 0x00000000fc07ffff 0x0000000000046200";

/// What this file's checks need to pass.
pub(in crate::check) fn healthy(host: &FakeHost) {
    for (name, text) in [
        ("vendor", "0x8086"),
        ("device", "0x10c9"),
        ("reset_method", "flr bus"),
        ("d3cold_allowed", "1"),
        ("power_state", "D0"),
    ] {
        write(host, SUBJECT, name, text);
    }
    resource(host, &[MEMORY]);
    registers(host, &config());
    write(host, OTHER, "numa_node", "0");
}

fn write(host: &FakeHost, function: &str, name: &str, text: &str) {
    host.add(&[(&format!("{DEVICES}/{function}/{name}"), Entry::Text(text))]);
}

fn deny(host: &FakeHost, name: &str) {
    deny_path(host, &format!("{DEVICES}/{SUBJECT}/{name}"));
}

fn deny_path(host: &FakeHost, path: &str) {
    host.answer(|answers| {
        answers.denied.insert(path.to_owned());
    });
}

fn resource(host: &FakeHost, lines: &[&str]) {
    write(host, SUBJECT, "resource", &lines.join("\n"));
}

fn registers(host: &FakeHost, config: &[u8]) {
    host.add(&[(&format!("{DEVICES}/{SUBJECT}/config"), Entry::Bytes(config))]);
}

/// Power management at 40h, MSI-X at 50h, an Express endpoint at 60h with FLR and a link of eight lanes at 8 GT/s.
fn config() -> Vec<u8> {
    let mut config = vec![0; 4096];
    let mut put = |offset: usize, bytes: &[u8]| config[offset..offset + bytes.len()].copy_from_slice(bytes);
    put(0x06, &[0x10]);
    put(0x34, &[0x40]);
    put(0x40, &[0x01, 0x50]);
    put(0x50, &[0x11, 0x60, 0x09, 0x80]);
    put(0x60, &[0x10, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x10]);
    put(0x6C, &[0x83, 0x00]);
    put(0x72, &[0x83, 0x00]);
    config
}

/// The same with one byte changed.
fn config_with(offset: usize, byte: u8) -> Vec<u8> {
    let mut config = config();
    config[offset] = byte;
    config
}

/// The same with BAR 1 resizable from 256 MiB to 8 GiB, now at 2 to the power of `size` MiB.
fn config_resizable(size: u8) -> Vec<u8> {
    let mut config = config();
    config[0x100..0x104].copy_from_slice(&[0x15, 0x00, 0x01, 0x00]);
    config[0x104..0x108].copy_from_slice(&0x3_F000_u32.to_le_bytes());
    config[0x108..0x10A].copy_from_slice(&[0x21, size]);
    config
}

/// The port above the subject, and a neighbour on its bus.
fn share_bus(host: &FakeHost) {
    let mut port = vec![0; 64];
    port[0x0E] = 1;
    port[0x19] = 1;
    port[0x1A] = 1;
    host.add(&[(&format!("{DEVICES}/{PORT}/config"), Entry::Bytes(&port))]);
    write(host, COMPANION, "class", "0x040300");
}

fn make_display(host: &FakeHost) {
    write(host, SUBJECT, "class", "0x030000");
}

fn draw(host: &FakeHost, claims: &str) {
    make_display(host);
    let text = format!("00000000-00000000 : {SUBJECT}\n{claims}");
    host.add(&[("/proc/iomem", Entry::Text(&text))]);
}

fn make_usb(host: &FakeHost) {
    write(host, SUBJECT, "class", "0x0c0330");
}

fn no_log(host: &FakeHost) {
    host.answer(|answers| answers.kernel_log = None);
}

/// How each check is brought to each answer.
pub(in crate::check) const FIXTURES: &[Fixture] = &[
    Fixture {
        id: "pci-errors",
        pass: nothing,
        fail: |host| {
            host.answer_log(&["pcieport 0000:00:02.0: PCIe Bus Error: severity=Uncorrectable (Non-Fatal)"]);
        },
        unknown: no_log,
    },
    Fixture {
        id: "pci-numa-nodes",
        pass: |host| {
            write(host, SUBJECT, "numa_node", "0");
            write(host, OTHER, "numa_node", "1");
        },
        fail: |host| write(host, SUBJECT, "numa_node", "-1"),
        unknown: |host| {
            write(host, SUBJECT, "numa_node", "0");
            deny(host, "numa_node");
        },
    },
    Fixture {
        id: "pci-chipset",
        pass: nothing,
        fail: |host| write(host, SUBJECT, "class", "0x060100"),
        unknown: |host| deny(host, "class"),
    },
    Fixture {
        id: "pci-answers",
        pass: nothing,
        fail: |host| registers(host, &[0xFF; 4096]),
        unknown: |host| deny(host, "config"),
    },
    Fixture {
        id: "pci-controller",
        pass: make_usb,
        fail: |host| {
            make_usb(host);
            let target = format!("../../../devices/pci0000:00/{PORT}/{SUBJECT}/usb1/1-1");
            host.add(&[(&format!("{USB}/1-1"), Entry::Link(&target))]);
        },
        unknown: |host| {
            make_usb(host);
            host.add(&[(USB, Entry::Directory)]);
            deny_path(host, USB);
        },
    },
    Fixture {
        id: "pci-identical",
        pass: nothing,
        fail: |host| {
            write(host, OTHER, "vendor", "0x8086");
            write(host, OTHER, "device", "0x10c9");
            host.add(&[(COMMAND_LINE, Entry::Text("intel_iommu=on vfio-pci.ids=8086:1533,8086:10c9"))]);
        },
        unknown: |host| deny(host, "device"),
    },
    Fixture {
        id: "pci-reset",
        pass: nothing,
        fail: |host| write(host, SUBJECT, "reset_method", ""),
        unknown: |host| deny(host, "reset_method"),
    },
    Fixture {
        id: "pci-reset-siblings",
        pass: nothing,
        fail: |host| {
            share_bus(host);
            write(host, SUBJECT, "reset_method", "bus");
        },
        unknown: |host| deny(host, "reset_method"),
    },
    Fixture {
        id: "pci-reset-known-bad",
        pass: nothing,
        fail: |host| {
            write(host, SUBJECT, "vendor", "0x1002");
            write(host, SUBJECT, "device", "0x731f");
            write(host, SUBJECT, "reset_method", "bus");
        },
        unknown: |host| deny(host, "device"),
    },
    Fixture {
        id: "pci-reset-failed",
        pass: nothing,
        fail: |host| {
            host.answer_log(&["vfio-pci 0000:01:00.0: not ready 65535ms after FLR; giving up"]);
        },
        unknown: no_log,
    },
    Fixture {
        id: "pci-d3cold",
        pass: nothing,
        fail: |host| write(host, SUBJECT, "power_state", "D3cold"),
        unknown: |host| deny(host, "d3cold_allowed"),
    },
    Fixture {
        id: "pci-framebuffer",
        pass: |host| draw(host, "00000000-00000000 : PCI Bus 0000:02"),
        fail: |host| draw(host, "  00000000-00000000 : BOOTFB\n    00000000-00000000 : simpledrm"),
        unknown: make_display,
    },
    Fixture {
        id: "pci-last-display",
        pass: |host| {
            make_display(host);
            write(host, OTHER, "class", "0x030000");
        },
        fail: make_display,
        unknown: |host| {
            make_display(host);
            deny_path(host, COMMAND_LINE);
        },
    },
    Fixture {
        id: "pci-option-rom",
        pass: |host| {
            make_display(host);
            resource(host, &[MEMORY, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, ROM]);
        },
        fail: make_display,
        unknown: |host| {
            make_display(host);
            deny(host, "resource");
        },
    },
    Fixture {
        id: "pci-companions",
        pass: make_display,
        fail: |host| {
            make_display(host);
            write(host, COMPANION, "class", "0x040300");
        },
        unknown: |host| {
            make_display(host);
            deny(host, "iommu_group");
        },
    },
    Fixture {
        id: "pci-bars",
        pass: nothing,
        fail: |host| resource(host, &[MEMORY, NO_PLACE]),
        unknown: |host| deny(host, "resource"),
    },
    Fixture {
        id: "pci-link",
        pass: nothing,
        fail: |host| registers(host, &config_with(0x72, 0x43)),
        unknown: |host| registers(host, &config()[..64]),
    },
    Fixture {
        id: "pci-resizable-bar",
        pass: |host| registers(host, &config_resizable(13)),
        fail: |host| registers(host, &config_resizable(8)),
        unknown: |host| registers(host, &config()[..256]),
    },
    Fixture {
        id: "pci-message-interrupts",
        pass: nothing,
        fail: |host| registers(host, &config_with(0x41, 0x60)),
        unknown: |host| registers(host, &config()[..64]),
    },
];

mod answers {
    use super::*;
    use crate::check::{Finding, Status, run_for};
    use crate::host;

    fn asked(host: &FakeHost, function: &str) -> Vec<Finding> {
        let facts = host::collect(&host.source());
        run_for(&facts, facts.device(function.parse().unwrap()).unwrap())
    }

    fn answer(host: &FakeHost, id: &str) -> Finding {
        asked(host, SUBJECT).into_iter().find(|finding| finding.id == id).unwrap()
    }

    fn healthy_and(change: fn(&FakeHost)) -> FakeHost {
        let host = crate::check::fixture::healthy();
        change(&host);
        host
    }

    #[test]
    fn a_bridge_is_refused_once_and_not_by_every_check() {
        let host = healthy_and(share_bus);
        let mut findings = asked(&host, PORT);
        findings.retain(|finding| finding.id.starts_with("pci-") && finding.outcome.status == Status::Fail);
        let ids: Vec<_> = findings.iter().map(|finding| finding.id).collect();
        assert_eq!(ids, ["pci-chipset"]);
    }

    #[test]
    fn a_reset_of_the_bus_within_the_group_is_told_from_one_that_hits_strangers() {
        let host = healthy_and(|host| {
            share_bus(host);
            write(host, SUBJECT, "reset_method", "bus");
        });
        assert!(answer(&host, "pci-reset-siblings").outcome.summary.contains("need not go along"));
        let group = "../../../kernel/iommu_groups/2";
        host.add(&[(&format!("{DEVICES}/{COMPANION}/iommu_group"), Entry::Link(group))]);
        assert!(answer(&host, "pci-reset-siblings").outcome.summary.contains("its group"));
    }

    #[test]
    fn a_slower_link_of_a_display_may_be_idle() {
        let host = healthy_and(|host| registers(host, &config_with(0x72, 0x81)));
        assert_eq!(answer(&host, "pci-link").outcome.status, Status::Warn);
        make_display(&host);
        let idle = answer(&host, "pci-link").outcome;
        assert_eq!(idle.status, Status::Pass);
        assert!(idle.summary.contains("under load"), "{idle:?}");
    }

    #[test]
    fn a_serial_console_does_for_the_last_display() {
        let host = healthy_and(|host| {
            make_display(host);
            host.add(&[(COMMAND_LINE, Entry::Text("console=tty0 console=ttyS0,115200"))]);
        });
        assert_eq!(answer(&host, "pci-last-display").outcome.status, Status::Pass);
    }

    #[test]
    fn the_argument_for_efifb_is_not_offered_against_simpledrm() {
        let remedies = |claim: &str| {
            let host = healthy_and(nothing);
            draw(&host, &format!("  00000000-00000000 : BOOTFB\n    00000000-00000000 : {claim}"));
            answer(&host, "pci-framebuffer").outcome.remedy.into_iter().map(|it| it.text).collect::<String>()
        };
        assert!(remedies("efifb").contains("video=efifb:off"));
        let simpledrm = remedies("simpledrm");
        assert!(
            simpledrm.contains("initcall_blacklist=sysfb_init") && simpledrm.contains("does nothing here")
        );
    }
}
