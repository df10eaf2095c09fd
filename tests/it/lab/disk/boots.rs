//! Hosts with a disk boot by their own loader, take new arguments of the kernel by the distribution's own way, and keep
//! what was written when their power is cut.

use std::time::Duration;

use super::{Boot, Cut, DiskHost, Loader};
use crate::lab::Lab;

/// What a boot is asked first.
const SURVEY: &str = r#"
echo "cmdline $(cat /proc/cmdline)"
echo "state $(systemctl is-system-running --wait)"
echo "failed $(systemctl --failed --no-legend --plain)."
echo "loader $(cat /sys/firmware/efi/efivars/LoaderInfo-* 2>/dev/null | tail -c +5 | tr -d '\0')."
echo "root $(findmnt --noheadings --output SOURCE,FSTYPE /)"
echo "units $(ls /sys/class/iommu)"
echo "drivers $(readlink /sys/bus/pci/devices/0000:01:00.0/driver /sys/bus/pci/devices/0000:02:00.0/driver | tr '\n' ' ')"
echo "address $(ip -brief -4 address show scope global)"
lspci -n >"$LAB_OUT/lspci"
thruway probe --format json >"$LAB_OUT/probe.json"
echo "probe $?"
"#;

/// A host that came up by itself, with what its hardware says.
fn is_up(boot: &Boot) {
    boot.succeeded();
    assert!(boot.said("cmdline").contains("root=UUID="), "{}", boot.said("cmdline"));
    assert_eq!((boot.said("state").as_str(), boot.said("failed").as_str()), ("running", "."));
    assert_eq!(boot.said("root"), "/dev/vda2 ext4");
    assert_eq!(boot.said("units"), "dmar0");
    let drivers = boot.said("drivers");
    assert!(drivers.contains("/igb ") && drivers.contains("/nvme "), "{drivers}");
    assert!(boot.said("address").contains("10.0.3.15/24"), "{}", boot.said("address"));
    let functions = boot.file("lspci");
    for function in ["01:00.0 0200: 8086:10c9", "02:00.0 0108: 1b36:0010"] {
        assert!(functions.contains(function), "{functions}");
    }
    assert_eq!(boot.said("probe"), "0");
    let probe: serde_json::Value = serde_json::from_str(&boot.file("probe.json")).unwrap();
    assert_eq!(probe["data"]["iommu"]["units"][0]["name"], "dmar0");
}

/// Whether this boot's kernel was started with `argument`.
fn has_argument(boot: &Boot, argument: &str) -> bool {
    boot.said("cmdline").split_whitespace().any(|word| word == argument)
}

#[test]
fn grub_boots_takes_arguments_and_survives_a_power_cut() {
    let Some(lab) = Lab::open() else { return };
    let Some(mut host) = DiskHost::open(lab, Loader::Grub) else { return };

    let first = host.boot(&format!(
        "{SURVEY}
cp /boot/grub/grub.cfg /root/built.cfg
mkdir -p /etc/default/grub.d
echo 'GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT lab.changed=1\"' >/etc/default/grub.d/lab.cfg
update-grub
echo \"update $?\"
grep -c 'root=UUID=.* lab.changed=1' /boot/grub/grub.cfg
"
    ));
    let second = host.boot_and_cut(
        &format!(
            "{SURVEY}
rm /etc/default/grub.d/lab.cfg
update-grub
sync
echo lost >/root/not-synced
mark synced
sleep 600
"
        ),
        &Cut::at("synced").later(Duration::from_millis(100)),
    );
    let third = host.boot(&format!("{SURVEY}\necho \"content $(cat /root/not-synced)\""));

    is_up(&first);
    assert!(first.said("cmdline").starts_with("BOOT_IMAGE=/boot/vmlinuz-"), "{}", first.said("cmdline"));
    assert_eq!((first.said("loader").as_str(), first.said("update").as_str()), (".", "0"));
    assert!(first.console().contains("Welcome to GRUB!"), "{}", first.console());
    assert!(!has_argument(&first, "lab.changed=1"));
    assert_eq!(second.status, None);
    assert!(has_argument(&second, "lab.changed=1"), "{}", second.said("cmdline"));
    is_up(&third);
    assert!(!has_argument(&third, "lab.changed=1"), "what was synced before the cut is there");
    assert_eq!(third.said("content"), "", "what was not is lost");
}

#[test]
fn systemd_boot_boots_and_takes_arguments() {
    let Some(lab) = Lab::open() else { return };
    let Some(mut host) = DiskHost::open(lab, Loader::SystemdBoot) else { return };

    let first = host.boot(&format!(
        "{SURVEY}
sed -i 's/$/ lab.changed=1/' /etc/kernel/cmdline
kernel-install add \"$(uname -r)\" \"/boot/vmlinuz-$(uname -r)\"
echo \"install $?\"
cat /boot/efi/loader/entries/*.conf
"
    ));
    let second = host.boot(&format!(
        "{SURVEY}
sed -i 's/ lab.changed=1//' /etc/kernel/cmdline
update-initramfs -u
echo \"update $?\"
"
    ));
    let third = host.boot(SURVEY);

    is_up(&first);
    assert!(first.said("loader").starts_with("systemd-boot 252"), "{}", first.said("loader"));
    assert_eq!(first.said("install"), "0");
    assert!(!has_argument(&first, "lab.changed=1"));
    is_up(&second);
    assert!(has_argument(&second, "lab.changed=1"), "{}", second.said("cmdline"));
    assert_eq!(second.said("update"), "0");
    is_up(&third);
    assert!(!has_argument(&third, "lab.changed=1"), "the hook of initramfs-tools wrote the entry anew");
}
