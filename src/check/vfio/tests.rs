//! VFIO of the healthy host, and how each check is brought to each answer.

use crate::check::fixture::{Entry, FakeHost, Fixture, SUBJECT, nothing};
use crate::host::source::DeviceNode;
use crate::host::source::answers::Answer;

const DEVICES: &str = "/sys/bus/pci/devices";
/// A disk controller that nothing uses.
const IDLE: &str = "0000:02:00.0";
const CMDLINE: &str = "/proc/cmdline";
const MODPROBE: &str = "/etc/modprobe.d/vfio.conf";
const EARLY: &str = "/etc/initramfs-tools/modules";
const NODE: &str = "/dev/vfio/2";
const DEP: &str = "/lib/modules/6.12.9-amd64/modules.dep";
const BUILT_IN: &str = "/lib/modules/6.12.9-amd64/modules.builtin";
const TYPE1: &str = "/sys/module/vfio_iommu_type1";
const PARAMETER: &str = "/sys/module/vfio_pci/parameters/nointxmask";

fn of(address: &str, name: &str) -> String {
    format!("{DEVICES}/{address}/{name}")
}

/// What this file's checks need to pass: modules on disk, functions with IDs.
pub(in crate::check) fn healthy(host: &FakeHost) {
    host.add(&[
        (
            DEP,
            Entry::Text(
                "kernel/drivers/vfio/pci/vfio-pci.ko.xz:\nkernel/drivers/vfio/vfio_iommu_type1.ko.xz:",
            ),
        ),
        (BUILT_IN, Entry::Text("kernel/fs/ext4/ext4.ko")),
        ("/proc/self/status", Entry::Text("CapEff:\t0000000000000000")),
    ]);
    for (address, vendor, device) in [(SUBJECT, "0x8086", "0x10c9"), (IDLE, "0x144d", "0xa808")] {
        host.add(&[
            (&of(address, "vendor"), Entry::Text(vendor)),
            (&of(address, "device"), Entry::Text(device)),
        ]);
    }
}

fn ids(host: &FakeHost, ids: &str) {
    host.add(&[(CMDLINE, Entry::Text(&format!("intel_iommu=on vfio-pci.ids={ids}")))]);
}

fn bind(host: &FakeHost, address: &str, driver: &str) {
    host.add(&[(&of(address, "driver"), Entry::Link(&format!("../../../bus/pci/drivers/{driver}")))]);
}

fn deny(host: &FakeHost, path: &str) {
    host.answer(|answers| {
        answers.denied.insert(path.to_owned());
    });
}

fn remove(host: &FakeHost, path: &str) {
    let place = host.path().join(path.trim_start_matches('/'));
    if place.is_dir() {
        std::fs::remove_dir_all(place).unwrap();
    } else {
        std::fs::remove_file(place).unwrap();
    }
}

fn node(host: &FakeHost, may_open: bool) {
    host.add(&[(NODE, Entry::Bytes(b""))]);
    host.answer(|answers| {
        let node = DeviceNode { mode: 0o600, uid: 0, gid: 0, may_open };
        answers.device_nodes.insert(NODE.to_owned(), Answer::Given(node));
    });
}

fn set_override(host: &FakeHost, driver: &str) {
    host.add(&[(&of(SUBJECT, "driver_override"), Entry::Text(driver))]);
}

fn deny_override(host: &FakeHost) {
    set_override(host, "igb");
    deny(host, &of(SUBJECT, "driver_override"));
}

/// How each check is brought to each answer.
pub(in crate::check) const FIXTURES: &[Fixture] = &[
    Fixture {
        id: "vfio-pci-driver",
        pass: nothing,
        fail: |host| host.add(&[(DEP, Entry::Text("kernel/fs/ext4/ext4.ko:"))]),
        unknown: |host| remove(host, DEP),
    },
    Fixture {
        id: "vfio-backend",
        pass: nothing,
        fail: |host| {
            remove(host, TYPE1);
            host.add(&[(DEP, Entry::Text("kernel/fs/ext4/ext4.ko:"))]);
        },
        unknown: |host| {
            remove(host, TYPE1);
            remove(host, DEP);
        },
    },
    Fixture {
        id: "vfio-parameters",
        pass: |host| host.add(&[(PARAMETER, Entry::Text("N"))]),
        fail: |host| host.add(&[(PARAMETER, Entry::Text("Y"))]),
        unknown: |host| {
            host.add(&[(PARAMETER, Entry::Text("N"))]);
            deny(host, PARAMETER);
        },
    },
    Fixture {
        id: "vfio-module-options",
        pass: |host| host.add(&[(MODPROBE, Entry::Text("options vfio-pci ids=8086:10c9"))]),
        fail: |host| {
            host.add(&[
                (MODPROBE, Entry::Text("options vfio-pci ids=8086:10c9")),
                (BUILT_IN, Entry::Text("kernel/drivers/vfio/pci/vfio-pci.ko")),
            ]);
        },
        unknown: |host| {
            host.add(&[(MODPROBE, Entry::Text("options vfio-pci ids=8086:10c9"))]);
            deny(host, MODPROBE);
        },
    },
    Fixture {
        id: "vfio-early-modules",
        pass: |host| host.add(&[(EARLY, Entry::Text("vfio_pci"))]),
        fail: |host| host.add(&[(EARLY, Entry::Text("vfio_pci\nvfio_virqfd"))]),
        unknown: |host| {
            host.add(&[(EARLY, Entry::Text("vfio_pci"))]);
            deny(host, EARLY);
        },
    },
    Fixture {
        id: "vfio-ids-known",
        pass: |host| ids(host, "8086:10c9"),
        fail: |host| ids(host, "8086:10c9,10de:2204,GeForce"),
        unknown: |host| deny(host, CMDLINE),
    },
    Fixture {
        id: "vfio-ids-unique",
        pass: |host| ids(host, "8086:10c9"),
        fail: |host| {
            ids(host, "8086:10c9");
            host.add(&[
                (&of(IDLE, "vendor"), Entry::Text("0x8086")),
                (&of(IDLE, "device"), Entry::Text("0x10c9")),
            ]);
        },
        unknown: |host| deny(host, CMDLINE),
    },
    Fixture {
        id: "vfio-ids-in-use",
        pass: |host| ids(host, "144d:a808"),
        fail: |host| ids(host, "8086:10c9"),
        unknown: |host| {
            ids(host, "144d:a808");
            deny(host, "/sys/class/block");
        },
    },
    Fixture {
        id: "vfio-ids-bound",
        pass: |host| {
            ids(host, "144d:a808");
            bind(host, IDLE, "vfio-pci");
        },
        fail: |host| ids(host, "8086:10c9"),
        unknown: |host| {
            ids(host, "144d:a808");
            bind(host, IDLE, "vfio-pci");
            deny(host, &of(IDLE, "driver"));
        },
    },
    Fixture {
        id: "vfio-node-access",
        pass: |host| node(host, true),
        fail: |host| node(host, false),
        unknown: |host| host.add(&[(NODE, Entry::Bytes(b""))]),
    },
    Fixture {
        id: "vfio-overrides",
        pass: nothing,
        fail: |host| set_override(host, "vfio-pci"),
        unknown: deny_override,
    },
    Fixture {
        id: "vfio-function-override",
        pass: |host| set_override(host, "vfio-pci"),
        fail: |host| set_override(host, "igb"),
        unknown: deny_override,
    },
];

mod wording {
    use super::*;
    use crate::check::{Outcome, Question, Status, by_id};
    use crate::host;

    fn answer(id: &str, change: impl FnOnce(&FakeHost)) -> Outcome {
        let host = crate::check::fixture::healthy();
        change(&host);
        let facts = host::collect(&host.source());
        match by_id(id).unwrap().run {
            Question::Host(ask) => ask(&facts),
            Question::Function(_) => panic!("{id} asks about a function"),
        }
    }

    #[test]
    fn a_driver_that_came_first_is_told_to_wait() {
        let outcome = answer("vfio-ids-bound", |host| ids(host, "8086:10c9"));
        assert!(outcome.remedy.iter().any(|remedy| remedy.text.contains("softdep igb pre: vfio-pci")));
        let outcome = answer("vfio-ids-bound", |host| {
            ids(host, "8086:10c9");
            host.add(&[(MODPROBE, Entry::Text("softdep igb pre: vfio-pci"))]);
        });
        assert!(!outcome.remedy.iter().any(|remedy| remedy.text.contains("softdep")));
    }

    #[test]
    fn what_was_not_built_is_not_there_though_no_table_says_so() {
        let outcome = answer("vfio-pci-driver", |host| {
            remove(host, DEP);
            host.add(&[("/boot/config-6.12.9-amd64", Entry::Text("CONFIG_KVM=y"))]);
        });
        assert_eq!(outcome.status, Status::Fail);
        assert_eq!(outcome.evidence[0].value, "CONFIG_VFIO_PCI: not mentioned");
    }

    #[test]
    fn options_for_a_built_in_driver_become_kernel_arguments() {
        let outcome = answer("vfio-module-options", |host| {
            host.add(&[
                (MODPROBE, Entry::Text("options vfio-pci ids=8086:10c9 disable_vga=1")),
                (BUILT_IN, Entry::Text("kernel/drivers/vfio/pci/vfio-pci.ko")),
            ]);
        });
        assert!(outcome.remedy[0].text.contains("vfio-pci.ids=8086:10c9 vfio-pci.disable_vga=1"));
    }

    #[test]
    fn an_override_for_an_address_without_a_function_is_told() {
        let outcome = answer("vfio-overrides", |host| {
            host.add(&[("/etc/driverctl.d/pci-0000:05:00.0", Entry::Text("vfio-pci"))]);
        });
        assert_eq!(outcome.status, Status::Warn);
        assert_eq!(outcome.remedy[0].text, "sudo driverctl unset-override 0000:05:00.0");
    }

    #[test]
    fn a_file_of_dracut_without_its_suffix_is_not_read() {
        let outcome = answer("vfio-early-modules", |host| {
            host.add(&[("/etc/dracut.conf.d/vfio", Entry::Text("force_drivers+=\" vfio_pci \""))]);
        });
        assert_eq!(outcome.remedy[0].text, "sudo mv /etc/dracut.conf.d/vfio /etc/dracut.conf.d/vfio.conf");
    }
}
