//! `thruway disk create` as its user sees it: the image, what is said of it, and what is refused without a trace.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::support::{Run, program, run};

/// `thruway disk create` with `arguments` in `directory`.
fn create(directory: &Path, arguments: &[&str]) -> Run {
    let mut command = program();
    command.current_dir(directory).args(["disk", "create"]).args(arguments);
    run(&mut command, b"")
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn an_image_is_zeros_for_its_owner_and_takes_space_as_it_is_asked() {
    let directory = tempfile::tempdir().unwrap();
    let sparse = create(directory.path(), &["sparse.raw", "64MiB"]);
    assert_eq!((sparse.code, sparse.stderr.as_str()), (Some(0), ""));
    assert!(sparse.stdout.starts_with("sparse.raw: 64MiB, 0B of it allocated"), "{}", sparse.stdout);
    let metadata = fs::metadata(directory.path().join("sparse.raw")).unwrap();
    assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (64 << 20, 0o600));

    let whole = create(directory.path(), &["whole.raw", "2MiB", "--allocate", "--format", "json"]);
    assert_eq!(whole.code, Some(0), "{}", whole.stderr);
    let document: serde_json::Value = serde_json::from_str(&whole.stdout).unwrap();
    assert_eq!(
        (&document["schema"], &document["schema_version"]),
        (&"thruway.disk-create".into(), &1.into())
    );
    let path = directory.path().join("whole.raw");
    let allocated = fs::metadata(&path).unwrap().blocks() * 512;
    assert!(allocated >= 2 << 20);
    let data = &document["data"];
    assert_eq!((&data["path"], &data["size_bytes"]), (&"whole.raw".into(), &(2 << 20).into()));
    assert_eq!(data["allocated_bytes"], allocated);
    assert!(fs::read(path).unwrap().iter().all(|byte| *byte == 0));
}

#[test]
fn what_cannot_be_an_image_is_refused_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, code, said) in [
        (&["a.raw", "0B"][..], 2, "a.raw would have no bytes; a disk has at least one sector of 512"),
        (&["a.raw", "1000B"], 2, "a.raw would have 1000 bytes, which are no whole sectors of 512; 1024 are"),
        (&["a.raw", "-1"], 2, "`-1`"),
        (&["a.raw", "20 parsecs"], 2, "`parsecs` is not a unit of size"),
        (&["a.raw/", "1MiB"], 2, "a.raw/ is the name of a directory; name a file"),
        (&["none/a.raw", "1MiB"], 3, "none/a.raw: none is no directory; make it first, or name another"),
        (&["/proc/a.raw", "1MiB"], 3, "/proc/a.raw"),
        (&["a.raw", "8388608TiB"], 3, "its file system has no files of 8EiB; ask for less"),
        (&["a.raw", "4194304TiB", "--allocate"], 3, "cannot create disk image a.raw: "),
        (&["a.raw"], 2, "SIZE"),
    ] {
        let run = create(directory.path(), arguments);
        assert_eq!((run.code, run.stdout.as_str()), (Some(code), ""), "{arguments:?}: {}", run.stderr);
        assert!(run.stderr.contains(said), "{arguments:?}: {}", run.stderr);
        assert_eq!(names(directory.path()), [""; 0], "{arguments:?}");
    }
}

#[test]
fn what_is_there_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.raw");
    fs::write(&path, "mine").unwrap();
    std::os::unix::fs::symlink("/nonexistent", directory.path().join("link")).unwrap();
    for name in ["a.raw", "link", "."] {
        let run = create(directory.path(), &[name, "1MiB"]);
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{name}: {}", run.stderr);
        assert!(run.stderr.contains(&format!("{name} exists; name another file")), "{name}: {}", run.stderr);
    }
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    assert_eq!(names(directory.path()).len(), 2);
}

#[test]
fn the_page_tells_how_a_disk_is_made_that_boots() {
    let help = crate::support::thruway(["disk", "create", "--help"]).stdout;
    for word in ["mmdebstrap", "grub-mkstandalone", "unshare --map-root-user", "thruway run --firmware"] {
        assert!(help.contains(word), "{word}");
    }
}
