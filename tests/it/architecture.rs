//! The rules of the house, enforced on the sources: who may use whom, and what a room must never do.
//!
//! A room is a directory of `src/`. The table below is the architecture; `src/lib.rs` tells the same in words.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::support::root;
use source::{Source, sources};

/// Each room, what it may use beside itself, and words that must not occur in it outside of tests.
///
/// With a dot only a part may be used: `vmm.config` is `crate::vmm::config` and what lies beneath it.
const ROOMS: [Room; 11] = [
    Room {
        name: "spec",
        uses: &[],
        never: &["std::fs", "std::io", "std::net", "std::process", "std::env", "nix", "libc", PRINT],
    },
    Room { name: "sys", uses: &["spec"], never: &[MACROS] },
    Room { name: "host", uses: &["sys", "spec"], never: &[WRITE, PRINT] },
    Room {
        name: "check",
        uses: &["host", "spec"],
        never: &["std::fs", "std::process", "nix", "libc", PRINT],
    },
    Room { name: "setup", uses: &["host", "sys", "spec"], never: &[PRINT] },
    Room { name: "vmm", uses: &["sys", "spec"], never: &[MACROS] },
    Room {
        name: "profile",
        uses: &[
            "vmm.config",
            "vmm.chipset.debug_exit",
            "vmm.chipset.pvpanic",
            "vmm.chipset.vmgenid",
            "vmm.vfio.VfioConfig",
            "vmm.virtio.devices",
            "setup.goal",
            "spec",
        ],
        never: &[WRITE, PRINT, "nix::sys", "libc"],
    },
    Room { name: "rehearse", uses: &["profile", "sys", "spec"], never: &[PRINT] },
    Room { name: "bench", uses: &["host", "vmm", "profile", "sys", "spec"], never: &[WRITE, PRINT] },
    Room {
        name: "report",
        uses: &["host", "check", "setup", "bench", "rehearse", "vmm.config", "spec"],
        never: &["std::fs", "std::process", PRINT],
    },
    Room {
        name: "cli",
        uses: &[
            "report",
            "setup",
            "check",
            "host",
            "profile",
            "rehearse",
            "bench",
            "vmm",
            "sys.signal",
            "sys.terminal",
            "spec",
        ],
        never: &[MACROS],
    },
];

/// Talking to the user is the cli's.
const PRINT: &str = "println! print! eprintln! eprint! dbg! io::stdin io::stdout io::stderr";
/// The same, where the standard streams are a device of the machine. These macros panic on a closed pipe.
const MACROS: &str = "println! print! eprintln! eprint! dbg!";
/// Changing files is setup's.
const WRITE: &str = "fs::write File::create OpenOptions create_dir create_dir_all remove_file remove_dir remove_dir_all rename set_permissions symlink hard_link";

/// A directory of `src/`.
struct Room {
    name: &'static str,
    uses: &'static [&'static str],
    never: &'static [&'static str],
}

/// What `source` does that its room must not.
fn violations(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |what: String| found.push(format!("{}: {what}", source.path));
    if !source.text.starts_with("//!") {
        say("does not open with `//!`: what it is and how it meets its neighbours".to_owned());
    }
    let room = ROOMS.iter().find(|room| room.name == source.room());
    for used in source.uses() {
        let target = used.first().map(String::as_str).unwrap_or_default();
        let allowed = match (source.room(), room) {
            ("main", _) => target == "cli",
            ("lib", _) => true,
            (_, None) => false,
            (own, Some(room)) => target == own || room.uses.iter().any(|path| is_under(&used, path)),
        };
        if !allowed {
            say(format!("`{}` must not use `{}`", source.room(), used.join("::")));
        }
    }
    for word in room.iter().flat_map(|room| room.never).flat_map(|words| words.split(' ')) {
        if source.says(word) {
            say(format!("`{}` must never say `{word}`", source.room()));
        }
    }
    if source.room() != "sys" && source.says("unsafe") {
        say("`unsafe` lives in `sys` only".to_owned());
    }
    found
}

fn is_under(used: &[String], path: &str) -> bool {
    let path: Vec<&str> = path.split('.').collect();
    used.len() >= path.len() && used.iter().zip(&path).all(|(a, b)| a == b)
}

/// A path from a room back to itself, if there is one.
fn cycle(edges: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn walk(edges: &BTreeMap<String, BTreeSet<String>>, path: &mut Vec<String>) -> bool {
        let here = path.last().unwrap().clone();
        edges.get(&here).into_iter().flatten().any(|next| {
            path.push(next.clone());
            let closed = path[..path.len() - 1].contains(next) || walk(edges, path);
            if !closed {
                path.pop();
            }
            closed
        })
    }
    edges.keys().find_map(|start| {
        let mut path = vec![start.clone()];
        walk(edges, &mut path).then_some(path)
    })
}

#[test]
fn every_source_keeps_the_rules_of_its_room() {
    let sources = sources();
    assert!(sources.len() > 30, "only {} sources were found", sources.len());
    let found: Vec<String> = sources.iter().flat_map(violations).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn rooms_use_each_other_without_a_cycle() {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources().iter().filter(|source| !["main", "lib"].contains(&source.room())) {
        for used in
            source.uses().into_iter().filter(|used| used.first().is_some_and(|room| room != source.room()))
        {
            edges.entry(source.room().to_owned()).or_default().insert(used[0].clone());
        }
    }
    assert!(edges.len() >= 5, "the rooms' uses were not found: {edges:?}");
    assert_eq!(cycle(&edges), None);
    let table = ROOMS.iter().map(|room| {
        let uses = room.uses.iter().map(|path| path.split('.').next().unwrap().to_owned());
        (room.name.to_owned(), uses.collect())
    });
    assert_eq!(cycle(&table.collect()), None);
}

#[test]
fn the_map_in_lib_rs_names_exactly_the_rooms() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let declared: BTreeSet<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let table: BTreeSet<&str> = ROOMS.iter().map(|room| room.name).collect();
    let directories = fs::read_dir(root().join("src")).unwrap().map(|entry| entry.unwrap());
    let directories: BTreeSet<String> = directories
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert_eq!(declared, table);
    assert_eq!(directories.iter().map(String::as_str).collect::<BTreeSet<_>>(), table);
    let words: String = lib.lines().filter(|line| line.starts_with("//!")).collect();
    let silent: Vec<&str> =
        table.into_iter().filter(|room| !words.contains(&format!("[`{room}`]"))).collect();
    assert_eq!(silent, [""; 0], "lib.rs says nothing about these rooms");
}

mod the_rules_can_fail {
    use super::*;

    fn broken(path: &str, text: &str) -> Vec<String> {
        violations(&Source::new(path, &format!("//! Head.\n{text}")))
    }

    #[test]
    fn a_forbidden_room_is_found_in_every_way_to_write_it() {
        for text in [
            "use crate::host::pci;",
            "use crate::{spec::pci, host::{self, pci}};",
            "use crate::{\n    spec,\n    setup::goal as g,\n};",
            "pub(crate) use crate::cli::Exit;",
            "fn f() { crate::host::collect(); }",
            "fn f(x: &crate::profile::Profile) {}",
            "use super::super::report::table;",
            "mod inner { use super::super::super::host; }",
        ] {
            assert_ne!(broken("src/vmm/kvm.rs", text), [""; 0], "{text}");
        }
    }

    #[test]
    fn what_is_allowed_passes() {
        for text in [
            "use crate::spec::pci;",
            "use crate::sys::kvm::{self, Kvm};",
            "use crate::vmm::bus;",
            "use super::bus; mod tests { use super::*; use super::super::bus; }",
            "// use crate::host;\n/* crate::host */ /// crate::host\nfn f() -> &'static str { \"crate::host unsafe\" }",
            "fn f() -> (&'static str, char) { (r#\"crate::host \" crate::cli\"#, '\"') }",
        ] {
            assert_eq!(broken("src/vmm/kvm.rs", text), [""; 0], "{text}");
        }
    }

    #[test]
    fn only_a_part_of_a_room_can_be_allowed() {
        assert_eq!(broken("src/profile/x.rs", "use crate::vmm::config::MachineConfig;"), [""; 0]);
        assert_eq!(broken("src/profile/x.rs", "use crate::vmm::{config, kvm};").len(), 1);
        assert_eq!(broken("src/profile/x.rs", "use crate::vmm;").len(), 1);
    }

    #[test]
    fn unsafe_code_outside_sys_is_found() {
        assert_eq!(broken("src/vmm/kvm.rs", "fn f() { unsafe { g() } }").len(), 1);
        assert_eq!(broken("src/sys/kvm.rs", "fn f() { unsafe { g() } }"), [""; 0]);
    }

    #[test]
    fn forbidden_words_are_found_outside_of_tests_only() {
        assert_eq!(broken("src/host/x.rs", "fn f() { std::fs::write(a, b); }").len(), 1);
        assert_eq!(broken("src/spec/x.rs", "use std::fs;").len(), 1);
        assert_eq!(broken("src/spec/x.rs", "use std::{fmt, fs};").len(), 1);
        assert_eq!(broken("src/vmm/x.rs", "fn f() { println!(\"x\"); }").len(), 1);
        assert_eq!(
            broken("src/vmm/x.rs", "#[cfg(test)]\nmod tests { fn f() { println!(\"x\"); } }"),
            [""; 0]
        );
    }

    #[test]
    fn a_file_without_a_head_and_an_unknown_room_are_found() {
        assert_eq!(violations(&Source::new("src/vmm/x.rs", "use std::fmt;\n")).len(), 1);
        assert_eq!(broken("src/util/x.rs", "use crate::spec::pci;").len(), 1);
        assert_eq!(broken("src/main.rs", "fn main() { thruway::vmm::run() }").len(), 1);
    }

    #[test]
    fn a_cycle_is_found() {
        let edges = |pairs: &[(&str, &str)]| {
            let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for (from, to) in pairs {
                edges.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            }
            edges
        };
        assert_eq!(cycle(&edges(&[("a", "b"), ("b", "c"), ("a", "c")])), None);
        assert!(cycle(&edges(&[("a", "b"), ("b", "c"), ("c", "b")])).is_some());
    }
}
