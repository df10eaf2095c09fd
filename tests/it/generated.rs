//! What is generated and committed is as fresh as the code. `UPDATE_GOLDEN=1 cargo test` rewrites it.

use std::collections::BTreeSet;
use std::fs;

use crate::support::{assert_golden, root, thruway};

#[test]
fn man_pages_are_fresh_and_complete() {
    let fresh = tempfile::tempdir().unwrap();
    let run = thruway(["generate".as_ref(), "man".as_ref(), fresh.path().as_os_str()]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    let pages = |directory: &std::path::Path| -> BTreeSet<String> {
        let entries =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        entries.filter(|name| name.ends_with(".1")).collect()
    };
    let names = pages(fresh.path());
    assert!(names.contains("thruway.1") && names.contains("thruway-profile-check.1"), "{names:?}");
    for name in &names {
        assert_golden(format!("man/{name}"), &fs::read_to_string(fresh.path().join(name)).unwrap());
    }
    assert_eq!(pages(&root().join("man")), names, "man/ holds pages of commands that are gone");
}

#[test]
fn completions_are_fresh() {
    for (shell, file) in [("bash", "thruway.bash"), ("zsh", "_thruway"), ("fish", "thruway.fish")] {
        let run = thruway(["generate", "completions", shell]);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        assert_golden(format!("man/completions/{file}"), &run.stdout);
    }
}

#[test]
fn the_json_schema_is_fresh() {
    let run = thruway(["generate", "schema"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_golden("profiles/schema.json", &run.stdout);
}

#[test]
fn every_exit_code_stands_in_every_man_page() {
    let fresh = tempfile::tempdir().unwrap();
    thruway(["generate".as_ref(), "man".as_ref(), fresh.path().as_os_str()]);
    let page = fs::read_to_string(fresh.path().join("thruway-profile-check.1")).unwrap();
    let (_, table) = page.split_once(".SH \"EXIT STATUS\"").unwrap();
    for code in [0, 1, 2, 3, 4, 5, 6, 10, 11, 12, 125, 130] {
        assert!(table.contains(&format!("\\fB{code}\\fR")), "{code} is missing in\n{table}");
    }
}
