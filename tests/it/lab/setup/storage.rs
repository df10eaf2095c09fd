//! Where root writes: a place that is full, read-only, linked elsewhere or somebody else's ends a command before it changes
//! anything.

use super::Boot;
use crate::lab::Lab;

const PLACES: &str = r#"
tried() { t "$1" thruway bind 02:00.0 --yes; same before "$1.state"; }
fresh() { umount /run/thruway 2>/dev/null; rm -rf /run/thruway; }
fresh; mkdir -m 700 /run/thruway; mount -t tmpfs -o size=4k,mode=700 none /run/thruway
tried full
fresh; mkdir -m 700 /run/thruway; mount -t tmpfs -o ro,mode=700 none /run/thruway
tried read_only
fresh; mkdir -m 700 /tmp/elsewhere; ln -s /tmp/elsewhere /run/thruway
tried linked
echo "elsewhere $(ls /tmp/elsewhere | wc -l)"
fresh; mkdir -m 777 /run/thruway; chmod 777 /run/thruway
tried open_to_all
fresh; mkdir -m 700 /run/thruway; chown 65534 /run/thruway
tried foreign
fresh; mkdir -m 700 /run/thruway; mkfifo /run/thruway/lock
tried fifo
fresh; mkdir -m 700 /run/thruway; echo precious >/tmp/victim; ln -s /tmp/victim /run/thruway/lock
tried lock_link
fresh; mkdir -m 700 /run/thruway; echo '{"schema":"thruway.journal","schema_version":99,"id":1,"boot_id":"b","tool_version":"9","argv":[],"begun_unix_s":0}' >/run/thruway/000001.jsonl
tried newer
fresh; mkdir -m 700 /run/thruway; echo '{"schema":' >/run/thruway/000001.jsonl
tried corrupt
echo "victim $(cat /tmp/victim)"
fresh

printf 'schema: 1\nname: disk\nhost: {devices: [{select: {address: "02:00.0"}}]}\n' >/tmp/disk.yaml
profile() { t "$1" thruway apply /tmp/disk.yaml --yes; same before "$1.state"; }
chmod 666 /tmp/disk.yaml
profile writable
chmod 644 /tmp/disk.yaml; chown 65534 /tmp/disk.yaml
profile not_roots
chown 0 /tmp/disk.yaml
profile good
t undone thruway undo --yes
same before undone.state
"#;

#[test]
fn a_place_that_cannot_be_trusted_or_written_ends_it_before_anything_is_changed() {
    let Some(lab) = Lab::open() else { return };

    let boot = Boot::of(lab, "vtd-igb", PLACES);

    for (name, status, words) in [
        ("full", "4", &["nothing was changed", "No space left"][..]),
        ("read_only", "4", &["/run/thruway", "Read-only file system"]),
        ("linked", "4", &["/run/thruway is not a directory", "remove it"]),
        ("open_to_all", "4", &["/run/thruway can be written by others"]),
        ("foreign", "4", &["/run/thruway belongs to another user"]),
        ("fifo", "4", &["/run/thruway/lock is not a file"]),
        ("lock_link", "4", &["/run/thruway/lock is a symbolic link"]),
        ("newer", "4", &["000001.jsonl, line 1", "thruway.journal 99"]),
        ("corrupt", "4", &["000001.jsonl, line 1"]),
        ("writable", "2", &["/tmp/disk.yaml can be written by group or others"]),
        ("not_roots", "2", &["/tmp/disk.yaml"]),
    ] {
        boot.ends(name, status, words);
        boot.is_as_before(&format!("{name}.state"));
    }
    assert_eq!((boot.said("elsewhere"), boot.said("victim")), ("0", "precious"));
    boot.ends("good", "0", &[]);
    boot.ends("undone", "0", &[]);
    boot.is_as_before("undone.state");
}
