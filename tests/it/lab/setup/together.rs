//! Eight at once: each does what it says, or says that it waited in vain and did nothing.
//!
//! Five rounds; with `THRUWAY_TEST_SOAK=1` (`tests/run --soak`) a hundred, on ten hosts one after the other.

use super::Boot;
use crate::lab::Lab;

/// Seven processes bind a virtual function each, the eighth sets huge pages apart; then all is taken back, by two at once.
const ROUND: &str = r#"
PF=/sys/bus/pci/devices/0000:01:00.0
ip link set "$(ls $PF/net)" up
echo 7 >$PF/sriov_numvfs
printf 'schema: 1\nname: pages\nhost: {hugepages: [{size: 2MiB, count: 4}]}\n' >/tmp/pages.yaml
cp "$(command -v thruway)" /tmp/thruway
driver() { basename "$(readlink "$1/driver" || echo none)"; }
bad=0 waited=0
for round in $(seq "$ROUNDS"); do
    for i in 0 1 2 3 4 5 6; do
        ( /tmp/thruway bind "01:00.0/vf$i" --yes >/tmp/out.$i 2>&1; echo $? >/tmp/status.$i ) &
    done
    ( /tmp/thruway apply /tmp/pages.yaml --yes >/tmp/out.7 2>&1; echo $? >/tmp/status.7 ) &
    wait
    for i in 0 1 2 3 4 5 6 7; do
        [ $i = 7 ] && is=$(cat /proc/sys/vm/nr_hugepages) || is=$(driver "$PF/virtfn$i")
        case "$(cat /tmp/status.$i) $is" in
        "0 vfio-pci" | "0 4") ;;
        "4 igbvf" | "4 0") grep -q 'did not end within' /tmp/out.$i && waited=$((waited + 1)) || bad=1 ;;
        *) bad=1 ;;
        esac
        [ $bad = 0 ] || { echo "round $round, $i: status $(cat /tmp/status.$i), $is"; cat /tmp/out.$i; break 2; }
    done
    /tmp/thruway undo --all --yes >/tmp/out.0 2>&1 & first=$!
    /tmp/thruway undo --all --yes >/tmp/out.1 2>&1; second=$?
    wait $first; first=$?
    left=$(ls -d /sys/bus/pci/drivers/vfio-pci/0000:* 2>/dev/null | wc -l)
    echo "round $round: undo $first $second, left $left $(cat /proc/sys/vm/nr_hugepages), natural $(ls -d /sys/bus/pci/drivers/igbvf/0000:* | wc -l)"
    [ "$left $(cat /proc/sys/vm/nr_hugepages)" = "0 0" ] || { bad=1; cat /tmp/out.0 /tmp/out.1; break; }
done
echo "bad $bad"
echo "waited $waited"
echo "journal $(ls /run/thruway | wc -l) $(du -k /run/thruway | cut -f1)"
"#;

#[test]
fn eight_at_once_lose_nothing() {
    let Some(lab) = Lab::open() else { return };
    let (hosts, rounds) = if std::env::var_os("THRUWAY_TEST_SOAK").is_some() { (10, 10) } else { (1, 5) };

    for _ in 0..hosts {
        let boot = Boot::with(lab, "vtd-igb", &[], &format!("ROUNDS={rounds}\n{ROUND}"));

        let output = boot.run.stdout();
        println!("{output}");
        assert!(output.contains("bad 0\n"), "{output}");
        assert_eq!(output.matches("left 0 0, natural 7").count(), rounds, "{output}");
    }
}
