//! Devices with layers above them: a volume of LVM and swap on a disk, a bond over two cards. Refused while the host uses
//! them; free, taken and given back, all is as before and works again.

use super::Boot;
use crate::lab::Lab;

/// LVM without udev, which does not run here.
const DISK: &str = r#"
modprobe -a dm-mod
lvm() { command lvm "$@" --config 'activation{udev_sync=0 udev_rules=0 verify_udev_operations=0} devices{use_devicesfile=0} global{use_lvmpolld=0 event_activation=0}' 2>>"$LAB_OUT/lvm.err"; }
there() { for i in 1 2 3 4 5 6 7 8 9; do [ -b /dev/nvme0n1 ] && return; sleep 1; done; }
lvm pvcreate -qq --yes /dev/nvme0n1
lvm vgcreate -qq lab /dev/nvme0n1
lvm lvcreate -qq --yes --wipesignatures n --zero n --name volume --size 8M lab
lvm vgchange -qq -ay lab
head -c 1048576 /dev/urandom >/tmp/data
dd if=/tmp/data of=/dev/mapper/lab-volume bs=1M 2>/dev/null && sync
t used thruway bind 02:00.0 --yes
same before used_left
lvm vgchange -qq -an lab
t free thruway bind 02:00.0 --yes
t back thruway undo --yes
there
lvm vgchange -qq -ay lab
cmp -n 1048576 /tmp/data /dev/mapper/lab-volume && echo "volume reads"
lvm vgchange -qq -an lab
same before volume_left

there
mkswap /dev/nvme0n1 >/dev/null
swapon /dev/nvme0n1
t swapped thruway bind 02:00.0 --yes
swapoff /dev/nvme0n1
t unswapped thruway bind 02:00.0 --yes
t swap_back thruway undo --yes
there
swapon /dev/nvme0n1 && echo "swap $(wc -l </proc/swaps)"
swapoff /dev/nvme0n1
same before swap_left
"#;

#[test]
fn a_disk_below_a_volume_or_with_swap_is_kept_and_given_back_with_both() {
    let Some(lab) = Lab::open() else { return };

    let boot = Boot::of(lab, "vtd-igb", DISK);

    boot.ends("used", "6", &["[disk-in-use]", "is built on nvme0n1"]);
    boot.is_as_before("used_left");
    boot.ends("free", "0", &[]);
    boot.ends("back", "0", &[]);
    assert_eq!(boot.said("volume"), "reads", "{}", boot.run.file("lvm.err"));
    boot.is_as_before("volume_left");
    boot.ends("swapped", "6", &["[disk-in-use]", "active swap"]);
    boot.ends("unswapped", "0", &[]);
    boot.ends("swap_back", "0", &[]);
    assert_eq!(boot.said("swap"), "2");
    boot.is_as_before("swap_left");
}

/// The bond has the way out, which its ports have had before.
const BOND: &str = r#"
modprobe bonding
for of in all default; do echo 0 >/proc/sys/net/ipv6/conf/$of/accept_ra; done
A=$(ls $PF/net) B=$(ls /sys/bus/pci/devices/0000:03:00.0/net)
ip link add bond0 type bond mode active-backup && ip link set bond0 up
for port in "$A" "$B"; do ip addr flush dev "$port"; ip link set "$port" down; ip link set "$port" master bond0; done
ip addr add 192.0.2.7/24 dev bond0
ip route replace default via 192.0.2.1 dev bond0
bond() { cat /sys/class/net/bond0/bonding/slaves /sys/class/net/*/flags; ip -o addr show dev bond0 | grep -v ' fe80'; ip route; }
until [ "$(cat /sys/class/net/bond0/operstate)" = up ]; do sleep 0.2; done
state >"$LAB_OUT/bonded"
bond >"$LAB_OUT/bond.before"
t both thruway bind 01:00.0 03:00.0 --yes
t one thruway bind 01:00.0 --yes
same bonded refused
t allowed thruway bind 01:00.0 --allow 01:00.0 --yes
echo "ports $(cat /sys/class/net/bond0/bonding/slaves)"
t back thruway undo --yes
bond | sort >"$LAB_OUT/bond.after"
sort -o "$LAB_OUT/bond.before" "$LAB_OUT/bond.before"
"#;

#[test]
fn of_a_bond_over_two_cards_one_may_go_and_comes_back_as_its_port() {
    let Some(lab) = Lab::open() else { return };

    let boot = Boot::of(lab, "vtd-igb", BOND);

    boot.ends("both", "6", &["[only-default-route]", "below bond0", "0000:01:00.0", "0000:03:00.0"]);
    boot.ends("one", "6", &["[default-route]", "below bond0", "--allow 0000:01:00.0"]);
    boot.is_as_before("refused");
    boot.ends("allowed", "0", &[]);
    assert!(!boot.said("ports").contains(' '), "one port stays: {}", boot.said("ports"));
    boot.ends("back", "0", &[]);
    // The ports in the order of their names: the one that came back is the newest.
    let words = |name: &str| {
        let text = boot.run.file(name);
        let mut words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        words.sort();
        words
    };
    assert_eq!(words("bond.after"), words("bond.before"));
}
