//! A network card that is given back is what it was: up, a port of its bridge, with its addresses.

use super::Boot;
use crate::lab::Lab;

const GIVEN_BACK: &str = r#"
modprobe -a bridge bonding
# The emulator announces a router, and a default route over the card is not what this is about.
for of in all default "$(ls $PF/net)"; do echo 0 >/proc/sys/net/ipv6/conf/$of/accept_ra; done
NIC=$(ls $PF/net)
attached() {
    ip -o addr show dev "$NIC" | grep -v ' fe80' | sed "s/^[0-9]*: //; s/ tentative//" | tr -s ' ' | sort
    basename "$(readlink /sys/class/net/$NIC/master || echo none)"
    cat /sys/class/net/$NIC/flags
}
taken_and_given() {
    attached >"$LAB_OUT/$1.before"
    t "$1.bind" thruway bind 01:00.0 --yes
    echo "$1.gone $(ls $PF/net 2>/dev/null | wc -l)"
    t "$1.undo" thruway undo --yes
    attached >"$LAB_OUT/$1.after"
}
ip link add br0 type bridge && ip link set br0 up
ip link set "$NIC" up
ip addr add 192.0.2.7/24 brd 192.0.2.255 dev "$NIC"
ip addr add 198.51.100.1/32 dev "$NIC"
ip -6 addr add 2001:db8::7/64 dev "$NIC"
ip link set "$NIC" master br0
taken_and_given bridge
ip link set "$NIC" nomaster
ip link add bond0 type bond && ip link set bond0 up
ip link set "$NIC" down
ip link set "$NIC" master bond0
taken_and_given bond
"#;

#[test]
fn a_card_that_is_given_back_has_its_addresses_and_its_bridge_again() {
    let Some(lab) = Lab::open() else { return };

    let boot = Boot::of(lab, "vtd-igb", GIVEN_BACK);

    for (name, controller) in [("bridge", "br0"), ("bond", "bond0")] {
        boot.ends(&format!("{name}.bind"), "0", &[]);
        assert_eq!(boot.said(&format!("{name}.gone")), "0");
        boot.ends(&format!("{name}.undo"), "0", &[]);
        let (before, after) =
            (boot.run.file(&format!("{name}.before")), boot.run.file(&format!("{name}.after")));
        assert!(before.contains(controller), "{before}");
        assert_eq!(after, before, "{name}");
    }
    let before = boot.run.file("bridge.before");
    for address in ["192.0.2.7/24 brd 192.0.2.255", "198.51.100.1/32", "2001:db8::7/64"] {
        assert!(before.contains(address), "{before}");
    }
}
