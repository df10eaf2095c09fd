//! A tree keeps its reader inside, whatever stands in it.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use super::answers::FILE;
use super::fake::{Entry, FakeHost};
use super::*;

#[test]
fn links_lead_to_places_in_the_tree_and_never_out_of_it() {
    let host = FakeHost::new(&[
        ("/etc/hostname", Entry::Text("inside")),
        ("/a/absolute", Entry::Link("/etc/hostname")),
        ("/a/climbing", Entry::Link("../../../../../../../../etc/hostname")),
        ("/a/outside", Entry::Link("/proc/self/status")),
        ("/a/directory", Entry::Link("/etc")),
    ]);
    let source = host.source();
    for path in ["/a/absolute", "/a/climbing", "/a/directory/hostname", "/a/../../../etc/hostname"] {
        assert_eq!(source.text(path), Fact::Known("inside".to_owned()), "{path}");
    }
    assert_eq!(source.read("/a/outside"), Fact::NotPresent);
    assert_eq!(source.link("/a/absolute"), Fact::Known("/etc/hostname".to_owned()));
    assert_eq!(source.link_name("/a/absolute"), Fact::Known("hostname".to_owned()));
}

#[test]
fn answers_are_the_same_before_and_after_the_directory_was_listed() {
    let host = FakeHost::new(&[
        ("/d/file", Entry::Text("text")),
        ("/d/link", Entry::Link("file")),
        ("/d/sub/file", Entry::Text("below")),
    ]);
    let ask = |source: &TreeSource| {
        let read = ["/d/file", "/d/link", "/d/sub/file", "/d/sub", "/d/none", "/d/none/none", "/d"]
            .map(|p| source.text(p));
        let links = ["/d/file", "/d/link", "/d/sub", "/d/none"].map(|p| source.link(p));
        (read, links)
    };
    let source = host.source();
    let before = ask(&source);
    assert_eq!(source.list("/d"), Fact::Known(["file", "link", "sub"].map(str::to_owned).to_vec()));
    assert_eq!(ask(&source), before);
    assert_eq!(before.0[1], Fact::Known("text".to_owned()));
    assert!(before.1[0].is_unread() && before.0[3].is_unread());
}

#[test]
fn loops_fifos_and_oversized_files_are_facts() {
    let host = FakeHost::new(&[
        ("/loop/a", Entry::Link("b")),
        ("/loop/b", Entry::Link("a")),
        ("/huge", Entry::Bytes(&vec![b'x'; 1 << 20 | 1])),
        ("/full", Entry::Bytes(&vec![b'x'; 1 << 20])),
        ("/latin1", Entry::Bytes(b"caf\xE9")),
    ]);
    nix::unistd::mkfifo(&host.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let source = host.source();
    for path in ["/loop/a", "/fifo", "/huge", "/loop"] {
        assert!(source.read(path).is_unread(), "{path}");
    }
    assert!(source.list("/loop/a").is_unread());
    assert_eq!(source.read("/full").known().unwrap().len(), 1 << 20);
    assert!(matches!(source.text("/latin1"), Fact::Unreadable { reason, .. } if reason == "not UTF-8"));
}

#[test]
fn names_and_targets_that_are_not_utf8_do_no_harm() {
    let host = FakeHost::new(&[("/d/plain", Entry::Text("x"))]);
    let odd = std::ffi::OsStr::from_bytes(b"\xFFodd");
    std::fs::write(host.path().join("d").join(odd), "x").unwrap();
    symlink(odd, host.path().join("d/link")).unwrap();
    let source = host.source();
    assert_eq!(source.list("/d"), Fact::Known(vec!["link".to_owned(), "plain".to_owned()]));
    assert!(source.link("/d/link").is_unread());
}

#[test]
fn live_and_tree_agree_about_one_directory() {
    let host = FakeHost::new(&[
        ("/file", Entry::Text("text")),
        ("/link", Entry::Link("file")),
        ("/empty", Entry::Bytes(b"")),
        ("/directory/x", Entry::Text("")),
    ]);
    let tree = host.source();
    let live = |name: &str| format!("{}{name}", host.path().display());
    for name in ["/file", "/link", "/empty", "/none", "/file/none"] {
        assert_eq!(LiveSource.read(&live(name)), tree.read(name), "{name}");
    }
    assert_eq!(LiveSource.list(&live("")), tree.list("/"));
    assert_eq!(LiveSource.link(&live("/link")), tree.link("/link"));
    assert!(LiveSource.link(&live("/file")).is_unread() && tree.link("/file").is_unread());
    assert_eq!(LiveSource.link(&live("/none")), Fact::NotPresent);
}

#[test]
fn a_root_that_is_none_and_answers_that_are_none_are_errors() {
    let host = FakeHost::new(&[("/file", Entry::Text("x"))]);
    assert!(matches!(TreeSource::open(&host.path().join("none")), Err(TreeError::Root { .. })));
    assert!(matches!(TreeSource::open(&host.path().join("file")), Err(TreeError::Root { .. })));
    for answers in [
        "{",
        "[]",
        r#"{"schema": "other", "schema_version": 1}"#,
        r#"{"schema": "thruway.answers", "schema_version": 9}"#,
    ] {
        host.add(&[(FILE, Entry::Text(answers))]);
        assert!(matches!(TreeSource::open(host.path()), Err(TreeError::Answers { .. })), "{answers}");
    }
}
