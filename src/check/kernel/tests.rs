//! The kernel of the healthy host, and how each check is brought to each answer.

use crate::check::fixture::{Entry, FakeHost, Fixture, nothing};

const CMDLINE: &str = "/proc/cmdline";
const RELEASE: &str = "/proc/sys/kernel/osrelease";
const MODPROBE: &str = "/etc/modprobe.d/local.conf";
const CONFIG: &str = "/boot/config-6.12.9-amd64";
const BUILT: &str = "CONFIG_AMD_IOMMU=y\nCONFIG_HUGETLBFS=y\nCONFIG_INTEL_IOMMU=y\nCONFIG_IRQ_REMAP=y\nCONFIG_KVM=m\n\
                     CONFIG_KVM_AMD=m\nCONFIG_KVM_INTEL=m\nCONFIG_PCI_IOV=y\nCONFIG_VFIO=m\nCONFIG_VFIO_IOMMU_TYPE1=m\n\
                     CONFIG_VFIO_PCI=m\n";

/// What this file's checks need to pass: the kernel of a distribution. What other files say of the processor stays.
pub(in crate::check) fn healthy(host: &FakeHost) {
    host.add(&[(RELEASE, Entry::Text("6.12.9-amd64")), (CONFIG, Entry::Text(BUILT))]);
    if !host.path().join("proc/cpuinfo").exists() {
        host.add(&[("/proc/cpuinfo", Entry::Text("vendor_id\t: GenuineIntel"))]);
    }
}

fn line(host: &FakeHost, arguments: &str) {
    host.add(&[(CMDLINE, Entry::Text(&format!("quiet intel_iommu=on {arguments}")))]);
}

fn deny(host: &FakeHost, path: &str) {
    host.answer(|answers| {
        answers.denied.insert(path.to_owned());
    });
}

fn deny_line(host: &FakeHost) {
    deny(host, CMDLINE);
}

fn deny_config(host: &FakeHost) {
    deny(host, CONFIG);
}

/// The kernel without `option`.
fn without(host: &FakeHost, option: &str) {
    let text = BUILT.replace(&format!("CONFIG_{option}="), "# CONFIG_OTHER_");
    host.add(&[(CONFIG, Entry::Text(&text))]);
}

/// How each check is brought to each answer.
pub(in crate::check) const FIXTURES: &[Fixture] = &[
    Fixture {
        id: "kernel-version",
        pass: nothing,
        fail: |host| host.add(&[(RELEASE, Entry::Text("5.10.0-28-amd64"))]),
        unknown: |host| host.add(&[(RELEASE, Entry::Text("custom"))]),
    },
    Fixture {
        id: "kernel-config-kvm",
        pass: nothing,
        fail: |host| without(host, "KVM_INTEL"),
        unknown: |host| {
            deny_config(host);
            deny(host, "/sys/module");
        },
    },
    Fixture {
        id: "kernel-config-vfio",
        pass: nothing,
        fail: |host| without(host, "VFIO_PCI"),
        unknown: |host| {
            deny_config(host);
            deny(host, "/lib/modules/6.12.9-amd64/modules.dep");
        },
    },
    Fixture {
        id: "kernel-config-iommu",
        pass: nothing,
        fail: |host| without(host, "INTEL_IOMMU"),
        unknown: |host| {
            std::fs::remove_file(host.path().join(CONFIG.trim_start_matches('/'))).unwrap();
            deny(host, "/sys/class/iommu");
        },
    },
    Fixture {
        id: "kernel-config-interrupt-remapping",
        pass: nothing,
        fail: |host| without(host, "IRQ_REMAP"),
        unknown: |host| {
            deny_config(host);
            deny(host, "/proc/interrupts");
        },
    },
    Fixture {
        id: "kernel-config-sriov",
        pass: nothing,
        fail: |host| without(host, "PCI_IOV"),
        unknown: |host| {
            deny_config(host);
            deny(host, "/sys/bus/pci/devices");
        },
    },
    Fixture {
        id: "kernel-config-hugetlbfs",
        pass: nothing,
        fail: |host| without(host, "HUGETLBFS"),
        unknown: deny_config,
    },
    Fixture {
        id: "kernel-arguments",
        pass: |host| line(host, "kvm.ignore_msrs=1 root=/dev/sda1"),
        fail: |host| line(host, "isolcpu=2-3"),
        unknown: deny_line,
    },
    Fixture {
        id: "kernel-repeated-arguments",
        pass: |host| line(host, "hugepagesz=2M hugepages=1 hugepagesz=1G hugepages=2"),
        fail: |host| line(host, "intel_iommu=off"),
        unknown: deny_line,
    },
    Fixture {
        id: "kernel-pci-arguments",
        pass: |host| line(host, "pci=realloc"),
        fail: |host| line(host, "pci=noaer,nomsi"),
        unknown: deny_line,
    },
    Fixture {
        id: "kernel-interrupt-controllers",
        pass: |host| line(host, "acpi=force"),
        fail: |host| line(host, "noapic"),
        unknown: deny_line,
    },
    Fixture {
        id: "kernel-held-back",
        pass: nothing,
        fail: |host| line(host, "maxcpus=1 mem=4G"),
        unknown: deny_line,
    },
    Fixture {
        id: "kernel-blacklist",
        pass: |host| host.add(&[(MODPROBE, Entry::Text("blacklist nouveau\nblacklist kvm_amd"))]),
        fail: |host| host.add(&[(MODPROBE, Entry::Text("install vfio-pci /bin/false"))]),
        unknown: |host| {
            host.add(&[(MODPROBE, Entry::Text("blacklist nouveau"))]);
            deny(host, MODPROBE);
        },
    },
];

mod wording {
    use super::*;
    use crate::check::{Outcome, Status, by_id};
    use crate::host;

    fn answer(id: &str, change: impl FnOnce(&FakeHost)) -> Outcome {
        let host = crate::check::fixture::healthy();
        change(&host);
        let facts = host::collect(&host.source());
        match by_id(id).unwrap().run {
            crate::check::Question::Host(ask) => ask(&facts),
            crate::check::Question::Function(_) => panic!("{id} asks about a function"),
        }
    }

    #[test]
    fn what_is_missing_only_in_part_warns_and_what_breaks_fails() {
        assert_eq!(answer("kernel-pci-arguments", |host| line(host, "pci=noats")).status, Status::Warn);
        assert_eq!(answer("kernel-pci-arguments", |host| line(host, "pci=off")).status, Status::Fail);
        let blacklist = |text: &'static str| {
            answer("kernel-blacklist", move |host| host.add(&[(MODPROBE, Entry::Text(text))])).status
        };
        assert_eq!(blacklist("blacklist vfio_pci"), Status::Warn);
        assert_eq!(blacklist("install vfio_pci /bin/true"), Status::Fail);
    }

    #[test]
    fn an_argument_of_the_iommu_that_is_taken_back_is_told_once() {
        let repeated = answer("kernel-repeated-arguments", |host| line(host, "iommu=pt iommu=nopt"));
        assert_eq!(repeated.summary, "taken back by a later argument: iommu=pt (by iommu=nopt)");
        let without = answer("iommu-arguments", |host| line(host, "iommu=pt iommu=nopt"));
        assert_eq!(without.status, Status::Pass);
    }

    #[test]
    fn what_is_seen_to_work_was_built() {
        for id in ["kernel-config-vfio", "kernel-config-iommu", "kernel-config-interrupt-remapping"] {
            assert_eq!(answer(id, deny_config).status, Status::Pass, "{id}");
        }
    }

    #[test]
    fn debians_cloud_kernel_has_a_full_sister() {
        let outcome = answer("kernel-config-iommu", |host| {
            host.add(&[
                (RELEASE, Entry::Text("6.12.9-cloud-amd64")),
                ("/etc/os-release", Entry::Text("ID=debian")),
                ("/boot/config-6.12.9-cloud-amd64", Entry::Text("CONFIG_KVM=y")),
            ]);
        });
        assert_eq!(outcome.remedy[0].text, "sudo apt install linux-image-amd64");
        assert!(outcome.evidence[0].value.ends_with("not mentioned"));
    }
}
