//! `kill -9` at every line that apply and undo write down: the next undo puts everything back.
//!
//! strace(1) ends the program at its n-th fdatasync(2), the call that makes a line of the journal durable: the line may
//! be there or not, and what it announces is not done.

use super::Boot;
use crate::lab::Lab;

const KILLED: &str = r#"
cat >/tmp/profile.yaml <<'END'
schema: 1
name: all
host:
  sriov:
    - {pf: {address: "0000:01:00.0"}, count: 1, vfs: [{index: 0, driver: vfio-pci}]}
  devices:
    - select: {address: "0000:02:00.0"}
  hugepages: [{size: 2MiB, count: 4}]
END
cp "$(command -v thruway)" /tmp/thruway
state_of_pages() { cat /proc/sys/vm/nr_hugepages; }
# killed N COMMAND..: runs it, and kills it at its N-th line. Status 137, or its own if it wrote fewer.
killed() { at=$1; shift; strace -qq -o /dev/null -e trace=fdatasync -e inject=fdatasync:signal=KILL:when="$at" "$@" >/tmp/killed.out 2>&1; }
restored() {
    t "$1" /tmp/thruway undo --all --yes
    same before "$1.state"
    echo "$1.pages $(state_of_pages)"
}
apply=0 status=137
while [ $status = 137 ]; do
    apply=$((apply + 1))
    killed $apply /tmp/thruway apply /tmp/profile.yaml --yes; status=$?
    restored "apply$apply"
done
echo "apply ended $status"
undo=0 status=137
while [ $status = 137 ]; do
    undo=$((undo + 1))
    /tmp/thruway apply /tmp/profile.yaml --yes >/dev/null 2>&1 || echo "not applied before undo $undo"
    killed $undo /tmp/thruway undo --yes; status=$?
    restored "undo$undo"
done
echo "undo ended $status"
echo "boundaries $apply $undo"
"#;

#[test]
fn killed_at_any_line_of_the_journal_undo_puts_everything_back() {
    let Some(lab) = Lab::open() else { return };

    let boot = Boot::of(lab, "vtd-igb", KILLED);

    let boundaries: Vec<usize> =
        boot.said("boundaries").split(' ').map(|number| number.parse().unwrap()).collect();
    // A header, then two lines for each step; and two for each that is taken back.
    assert!(boundaries.iter().all(|count| *count > 10), "{boundaries:?}");
    for (what, count) in ["apply", "undo"].iter().zip(&boundaries) {
        assert_eq!(boot.said(&format!("{what} ended")), "0");
        for at in 1..=*count {
            boot.ends(&format!("{what}{at}"), "0", &[]);
            boot.is_as_before(&format!("{what}{at}.state"));
            assert_eq!(boot.said(&format!("{what}{at}.pages")), "0");
        }
    }
    assert!(!boot.stdout.contains("not applied before"), "{}", boot.stdout);
    println!("killed at {boundaries:?} lines of apply and undo");
}
