//! Files of the system's configuration: replaced as a whole, and only where nobody else has a hand in it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

fn tree() -> (tempfile::TempDir, SystemTree) {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let tree = SystemTree::new(root.path());
    (root, tree)
}

fn text(text: &str, mode: u32) -> SystemFile {
    let (uid, gid) = (Uid::effective().as_raw(), Gid::effective().as_raw());
    SystemFile::Text { text: text.to_owned(), mode, uid, gid }
}

#[test]
fn a_file_is_made_replaced_and_removed_with_its_directories() {
    let (root, tree) = tree();
    let path = "/etc/a/b/file";

    let missing = tree.missing_directories(path).unwrap();
    tree.replace(path, &text("one", 0o755)).unwrap();
    let inode = fs::metadata(root.path().join("etc/a/b/file")).unwrap().ino();
    tree.replace(path, &text("two", 0o640)).unwrap();
    let now = tree.read(path).unwrap();

    assert_eq!(missing, ["/etc/a", "/etc/a/b"]);
    assert_eq!(now, Some(text("two", 0o640)));
    assert_ne!(
        fs::metadata(root.path().join("etc/a/b/file")).unwrap().ino(),
        inode,
        "replaced, not written to"
    );
    assert_eq!(fs::metadata(root.path().join("etc/a")).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::read_dir(root.path().join("etc/a/b")).unwrap().count(), 1, "nothing is left beside it");

    tree.remove_directory("/etc/a/b").unwrap();
    assert!(tree.read(path).unwrap().is_some(), "a directory in use stays");
    tree.remove(path).unwrap();
    tree.remove(path).unwrap();
    tree.remove_directory("/etc/a/b").unwrap();
    tree.remove_directory("/etc/a/b").unwrap();
    tree.remove_directory("/etc/a").unwrap();
    assert_eq!(tree.read(path).unwrap(), None);
    assert_eq!(fs::read_dir(root.path().join("etc")).unwrap().count(), 0);
}

#[test]
fn a_link_is_a_thing_of_its_own() {
    let (root, tree) = tree();
    let link = SystemFile::Link { target: "../unit".to_owned() };

    tree.replace("/etc/link", &link).unwrap();

    assert_eq!(tree.read("/etc/link").unwrap(), Some(link));
    fs::write(root.path().join("unit"), "kept").unwrap();
    tree.replace("/etc/link", &text("new", 0o644)).unwrap();
    assert_eq!(fs::read_to_string(root.path().join("unit")).unwrap(), "kept", "never written through");
    assert_eq!(tree.read("/etc/link").unwrap(), Some(text("new", 0o644)));
}

#[test]
fn what_others_have_a_hand_in_is_refused_and_stays() {
    let (root, tree) = tree();
    let at = |path: &str| root.path().join(path);
    fs::write(at("victim"), "old").unwrap();
    fs::hard_link(at("victim"), at("etc/hard")).unwrap();
    nix::unistd::mkfifo(&at("etc/fifo"), Mode::S_IRWXU).unwrap();
    fs::create_dir(at("etc/directory")).unwrap();
    fs::create_dir(at("real")).unwrap();
    symlink(at("real"), at("etc/linked")).unwrap();
    fs::create_dir(at("etc/open")).unwrap();
    fs::set_permissions(at("etc/open"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(at("etc/bytes"), b"\xff\xfe").unwrap();

    for path in
        ["/etc/hard", "/etc/fifo", "/etc/directory", "/etc/linked/file", "/etc/open/file", "/etc/../victim"]
    {
        let error = tree.replace(path, &text("new", 0o644)).unwrap_err();
        assert!(matches!(error, SystemFileError::Unsafe { .. }), "{path}: {error}");
        if path != "/etc/open/none" {
            let error = tree.read(path).unwrap_err();
            assert!(matches!(error, SystemFileError::Unsafe { .. }), "{path}: {error}");
        }
    }

    assert_eq!(fs::read_to_string(at("victim")).unwrap(), "old");
    assert_eq!(fs::read_dir(at("real")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(at("etc/open")).unwrap().count(), 0);
    assert!(tree.read("/etc/bytes").unwrap_err().to_string().contains("is not text"));
}

#[test]
fn a_program_that_others_can_change_is_not_trusted() {
    let (root, _tree) = tree();
    let program = root.path().join("etc/program");
    fs::write(&program, "").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    symlink(&program, root.path().join("link")).unwrap();

    let through_link = check_trusted(&root.path().join("link")).unwrap();
    fs::set_permissions(root.path().join("etc"), fs::Permissions::from_mode(0o775)).unwrap();
    let shared = check_trusted(&program).unwrap_err();

    assert_eq!(through_link, fs::canonicalize(&program).unwrap());
    assert!(shared.to_string().contains("can be written by others"), "{shared}");
}
