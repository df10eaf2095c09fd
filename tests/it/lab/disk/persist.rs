//! What `--persist` writes makes it so at the next boots, before the network and before the drivers; and is gone after undo.

use std::collections::BTreeSet;

use super::{Boot, DiskHost, Loader};
use crate::lab::Lab;

const PROFILE: &str = "
schema: 1
name: kept
host:
  devices:
    - select: {address: '02:00.0'}
    - select: {vf: {pf: {address: '01:00.0'}, index: 0}}
  sriov:
    - pf: {id: '8086:10c9'}
      count: 2
      vfs: [{index: 1, mac: '02:00:00:00:00:42', vlan: 7}]
  hugepages: [{size: 2MiB, count: 8}]
  kernel_arguments: [lab.persisted=1]
";

/// Says what is so, in the same words at each boot, and what is in the configuration.
pub(super) const SURVEY: &str = r#"
driver() { basename "$(readlink "/sys/bus/pci/devices/$1/driver" || echo none)"; }
echo "argument $(grep -o lab.persisted=1 /proc/cmdline || echo none)"
echo "controller $(driver 0000:02:00.0)"
echo "vf0 $(driver 0000:01:10.0)"
echo "vf1 $(driver 0000:01:10.2)"
echo "count $(cat /sys/bus/pci/devices/0000:01:00.0/sriov_numvfs)"
echo "mac $(ip link show "$(ls /sys/bus/pci/devices/0000:01:00.0/net)" | grep -o 'vf 1 .* vlan [0-9]*' | tr -s ' ' || echo none)"
echo "pages $(cat /proc/sys/vm/nr_hugepages)"
echo "disks $(ls /dev/nvme?n? 2>/dev/null | tr '\n' ' ')."
echo "claimed $(dmesg | grep -c 'nvme nvme.: pci function')"
echo "hook $(lsinitramfs "/boot/initrd.img-$(uname -r)" | grep -c thruway)"
echo "failed $(systemctl --failed --no-legend --plain)."
cd / && { find etc -printf '%p %y %m %U %G %l\n'; find etc -type f -exec sha256sum {} +; } | sort >"$LAB_OUT/etc"
{ grep -h 'root=UUID' /boot/grub/grub.cfg; cat /boot/efi/loader/entries/*.conf /etc/kernel/cmdline; } 2>/dev/null | sort >"$LAB_OUT/arguments"
true
"#;

/// What [`SURVEY`] says of `names`.
pub(super) fn said<const N: usize>(boot: &Boot, names: [&str; N]) -> [String; N] {
    names.map(|name| boot.said(name))
}

pub(super) const STATE: [&str; 8] =
    ["argument", "controller", "vf0", "vf1", "count", "pages", "hook", "failed"];
pub(super) const UNTOUCHED: [&str; 8] = ["none", "nvme", "none", "none", "0", "0", "0", "."];

pub(super) fn lines(text: &str) -> BTreeSet<&str> {
    text.lines().collect()
}

/// Everything below /etc, and the arguments of every boot entry, as `before`.
fn left_nothing(before: &Boot, after: &Boot) {
    for name in ["etc", "arguments"] {
        let (before, after) = (before.file(name), after.file(name));
        let difference: Vec<_> = lines(&before).symmetric_difference(&lines(&after)).copied().collect();
        assert!(difference.is_empty(), "{name}: {difference:#?}");
    }
    assert_eq!(said(after, STATE), UNTOUCHED, "{}", after.stdout());
    assert_ne!(after.said("claimed"), "0", "the host's driver has the controller again");
}

fn apply() -> String {
    format!(
        "cat >/root/kept.yaml <<'END'\n{PROFILE}\nEND\n\
         thruway apply /root/kept.yaml --persist --yes >\"$LAB_OUT/apply\" 2>&1; echo \"applied $?\"\n\
         thruway apply /root/kept.yaml --persist --yes >\"$LAB_OUT/again\" 2>&1; echo \"again $?\"\n"
    )
}

/// What a boot says into which everything was persisted.
fn is_kept(boot: &Boot) {
    let [argument, controller, vf0, vf1, count, pages, hook, failed] = said(boot, STATE);
    let unit = boot.said("unit");
    assert_eq!(
        [argument, controller, vf0, vf1, count, pages, failed].map(|text| text),
        ["lab.persisted=1", "vfio-pci", "vfio-pci", "igbvf", "2", "8", "."],
        "{unit}\n{}\n{}",
        boot.stdout(),
        boot.file("journal")
    );
    assert_ne!(hook, "0");
    assert_eq!(boot.said("claimed"), "0", "the host's driver never had the controller");
    assert!(boot.said("mac").contains("02:00:00:00:00:42"), "{}", boot.said("mac"));
    assert!(boot.said("mac").contains("vlan 7"), "{}", boot.said("mac"));
    assert_eq!(boot.said("verified"), "0", "{}", boot.file("verify"));
    assert_eq!(boot.said("order"), "before", "the unit ended before the network was configured");
}

/// For a boot that should be as [`is_kept`] says.
const CHECK: &str = r#"
unit=thruway-boot-kept.service
echo "unit $(systemctl show -p Result -p ActiveState "$unit" | tr '\n' ' ')"
journalctl --no-pager -u "$unit" >"$LAB_OUT/journal" 2>&1
at() { systemctl show -p "$2" --value "$1"; }
ours=$(at "$unit" ActiveEnterTimestampMonotonic)
network=$(at systemd-networkd.service ExecMainStartTimestampMonotonic)
if [ "$ours" -gt 0 ] && [ "$ours" -le "$network" ]; then echo "order before"; else echo "order $ours $network"; fi
thruway status --format json >"$LAB_OUT/status.json"
thruway verify >"$LAB_OUT/verify" 2>&1; echo "verified $?"
"#;

#[test]
fn with_grub_what_is_persisted_is_so_at_each_boot_but_a_skipped_one_and_undone_at_any() {
    let Some(lab) = Lab::open() else { return };
    let Some(mut host) = DiskHost::open(lab, Loader::Grub) else { return };

    let first = host.boot(&format!("{SURVEY}\n{}", apply()));
    let second = host.boot(&format!(
        "{SURVEY}\n{CHECK}\n\
         echo 'GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT thruway.skip=1\"' >/etc/default/grub.d/zzz.cfg\n\
         update-grub 2>/dev/null\n"
    ));
    let skipped = host.boot(&format!(
        "{SURVEY}\nrm /etc/default/grub.d/zzz.cfg\n\
         thruway verify >/dev/null 2>&1; echo \"verified $?\"\n\
         thruway undo --yes >\"$LAB_OUT/undo\" 2>&1; echo \"undone $?\"\n"
    ));
    let last = host.boot(SURVEY);

    first.succeeded();
    assert_eq!(first.said("applied"), "0", "{}", first.file("apply"));
    assert_eq!(first.said("again"), "0", "{}", first.file("again"));
    assert!(first.file("again").contains("Nothing to do"), "{}", first.file("again"));
    is_kept(second.succeeded());
    let [_, controller, vf0, vf1, count, pages, _, failed] = said(skipped.succeeded(), STATE);
    assert_eq!([controller, vf0, vf1, count, pages, failed], ["nvme", "none", "none", "0", "0", "."]);
    assert_eq!(skipped.said("verified"), "1", "what was skipped is missed");
    assert_eq!(skipped.said("undone"), "0", "{}", skipped.file("undo"));
    left_nothing(&first, last.succeeded());
}

#[test]
fn with_systemd_boot_an_undo_at_a_later_boot_gives_everything_back_at_once() {
    let Some(lab) = Lab::open() else { return };
    let Some(mut host) = DiskHost::open(lab, Loader::SystemdBoot) else { return };

    let first = host.boot(&format!("{SURVEY}\n{}", apply()));
    let second = host.boot(&format!(
        "{SURVEY}\n{CHECK}\n\
         thruway undo --yes >\"$LAB_OUT/undo\" 2>&1; echo \"undone $?\"\n\
         echo \"then $(driver 0000:02:00.0) $(cat /sys/bus/pci/devices/0000:01:00.0/sriov_numvfs) $(cat /proc/sys/vm/nr_hugepages)\"\n\
         echo \"left $(thruway status --format json | tr -d '\\n ' | grep -o '\"transactions\":\\[\\]')\"\n\
         dd if=/dev/nvme0n1 of=/dev/null bs=1M count=1 2>/dev/null; echo \"disk $?\"\n"
    ));
    let last = host.boot(SURVEY);

    assert_eq!(first.said("applied"), "0", "{}", first.file("apply"));
    is_kept(second.succeeded());
    assert_eq!(second.said("undone"), "0", "{}", second.file("undo"));
    assert_eq!(second.said("then"), "nvme 0 0", "{}", second.file("undo"));
    assert_eq!((second.said("left").as_str(), second.said("disk").as_str()), ("\"transactions\":[]", "0"));
    left_nothing(&first, last.succeeded());
}

#[test]
fn what_nobody_confirmed_before_the_host_went_down_is_taken_back_by_the_next_boot() {
    let Some(lab) = Lab::open() else { return };
    let Some(mut host) = DiskHost::open(lab, Loader::SystemdBoot) else { return };
    let command = "thruway vf create 01:00.0 --count 2 --persist --confirm-within 30min --yes";

    let first = host.boot(&format!(
        "{SURVEY}\n{command} >\"$LAB_OUT/create\" 2>&1; echo \"created $?\"\n\
         systemctl is-enabled thruway-boot-vf-0000-01-00.0.service\n"
    ));
    let second = host.boot(&format!(
        "systemctl show -p Result -p ActiveState --value thruway-boot-vf-0000-01-00.0.service | tr '\\n' ' '\n\
         journalctl --no-pager -b -u thruway-boot-vf-0000-01-00.0.service\n{SURVEY}"
    ));

    first.succeeded();
    assert_eq!(first.said("created"), "0", "{}", first.file("create"));
    assert!(first.stdout().contains("enabled"), "{}", first.stdout());
    assert!(second.succeeded().stdout().contains("was not confirmed"), "{}", second.stdout());
    left_nothing(&first, &second);
}
