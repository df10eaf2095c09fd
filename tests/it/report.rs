//! `thruway report --html`: the page of each host, what a hostile one cannot do to it, and how a browser shows it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::hosts::Host;
use crate::support::{Run, assert_golden, program, run, skip};

/// The page of `host`, on stdout.
fn page(host: &Host, options: &[&str]) -> String {
    let run = host.ask(100, &[&["report", "--html", "-"], options].concat());
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{}", host.name);
    run.stdout
}

#[test]
fn the_page_of_a_host_to_the_letter() {
    for name in ["intel-off", "shared-group"] {
        let page = page(&Host::new(name), &[]).replace(env!("CARGO_PKG_VERSION"), "VERSION");
        assert_golden(format!("tests/golden/report/{name}.html"), &page);
    }
}

#[test]
fn one_host_gives_one_page() {
    let host = Host::new("vtd-igb");
    assert_eq!(page(&host, &[]), page(&host, &[]));
}

#[test]
fn nothing_is_loaded_from_elsewhere() {
    for name in ["vtd-igb", "intel-off", "container", "malformed"] {
        let page = page(&Host::new(name), &[]);
        assert!(
            page.contains("http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';"),
            "{name}"
        );
        for loading in
            ["<script", "src=", "@import", "url(", "<iframe", "<object", "href=\"http", "<a href=\"/"]
        {
            assert!(!page.contains(loading), "{name} has {loading}");
        }
    }
}

/// What forums must not see is replaced unless the user says otherwise, as `capture` does it.
#[test]
fn identifiers_are_placeholders_unless_they_are_asked_for() {
    let host = Host::new("intel-off");
    let identifier = "3f1b2c4d-5e6f-4a1b-8c2d-9e0f1a2b3c4d";
    fs::write(host.directory.path().join("proc/cmdline"), format!("root=UUID={identifier} ro\n")).unwrap();
    let (redacted, whole) = (page(&host, &[]), page(&host, &["--no-redact"]));
    assert!(!redacted.contains(identifier) && redacted.contains("root=UUID="), "{redacted}");
    assert!(redacted.contains("are placeholders here"), "{redacted}");
    assert!(whole.contains(identifier) && whole.contains("Nothing was replaced"), "{whole}");
}

#[test]
fn an_existing_file_is_left_alone_and_a_new_one_is_whole() {
    let host = Host::new("no-iommu");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("host.html");
    let write = || -> Run {
        let command = &mut program();
        run(command.args(["report", "--html"]).arg(&file).arg("--root").arg(host.directory.path()), b"")
    };
    let first = write();
    assert_eq!((first.code, first.stdout.as_str()), (Some(0), ""), "{}", first.stderr);
    let written = fs::read_to_string(&file).unwrap();
    assert_eq!(written, page(&host, &[]));
    let second = write();
    assert_eq!(second.code, Some(2));
    assert!(second.stderr.contains("exists; name another file"), "{}", second.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), written);
}

#[test]
fn what_cannot_be_written_says_why() {
    let refused = Host::new("no-iommu").ask(100, &["report", "--html", "/nonexistent/host.html"]);
    assert_eq!(refused.code, Some(3));
    assert!(refused.stderr.contains("cannot write /nonexistent/host.html"), "{}", refused.stderr);
}

/// Headless Chromium with a fresh profile and nobody to talk to.
fn chromium(profile: &Path, options: &[&str], page: &Path) -> String {
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--disable-dev-shm-usage", "--hide-scrollbars"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(options)
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a script of ours reads off the page once a browser has laid it out in a frame of `width` pixels. The page is not
/// touched: the frame shares the script's origin, as it stands in its `srcdoc`, and its policy forbids scripts of its
/// own only.
fn rendered(host: &Host, width: u16, question: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let frame = page(host, &[]).replace('&', "&amp;").replace('"', "&quot;");
    let wrapper = format!(
        "<!DOCTYPE html><meta charset=\"utf-8\"><body style=\"margin:0\">\
         <iframe id=\"page\" style=\"border:0;width:{width}px;height:800px\" srcdoc=\"{frame}\"></iframe>\
         <pre id=\"answer\"></pre>\
         <script>addEventListener('load',()=>{{const page=document.getElementById('page').contentDocument;\
         const answer={question};document.body.textContent='';\
         const pre=document.createElement('pre');pre.id='answer';pre.textContent=answer;document.body.append(pre)}})</script>"
    );
    let file = directory.path().join("wrapper.html");
    fs::write(&file, wrapper).unwrap();
    let dom = chromium(&directory.path().join("profile"), &["--dump-dom"], &file);
    let (_, answer) = dom.split_once("<pre id=\"answer\">").unwrap_or_else(|| panic!("no answer in {dom}"));
    answer.split_once("</pre>").unwrap().0.to_owned()
}

fn has_chromium() -> bool {
    let has = Command::new("chromium").arg("--version").output().is_ok_and(|output| output.status.success());
    if !has {
        skip("no chromium here");
    }
    has
}

#[test]
fn a_browser_shows_the_verdicts() {
    if !has_chromium() {
        return;
    }
    let verdicts = "['kvm','iommu'].map(name=>{\
        const card=page.getElementById('verdict-'+name);\
        const answer=card.querySelector('.answer strong');\
        const seen=answer.getClientRects().length>0&&getComputedStyle(answer).visibility==='visible';\
        return name+': '+answer.innerText+(seen?'':' (hidden)')}).join('; ')";
    for (host, expected) in [
        ("intel-off", "kvm: not usable; iommu: not usable"),
        ("vtd-igb", "kvm: usable; iommu: usable"),
        ("container", "kvm: unknown; iommu: usable"),
    ] {
        assert_eq!(rendered(&Host::new(host), 1200, verdicts), expected, "{host}");
    }
}

#[test]
fn no_part_of_the_page_is_wider_than_a_phone() {
    if !has_chromium() {
        return;
    }
    // With everything unfolded, as the widest things may be folded away.
    let overflow = "(page.querySelectorAll('details').forEach(one=>one.open=true),\
        [page.documentElement.scrollWidth,page.documentElement.clientWidth].join(' of '))";
    for name in ["vtd-igb", "intel-off", "malformed"] {
        assert_eq!(rendered(&Host::new(name), 360, overflow), "360 of 360", "{name}");
    }
}

#[test]
fn a_browser_asks_for_nothing() {
    if !has_chromium() {
        return;
    }
    let asked = "page.defaultView.performance.getEntriesByType('resource').length+' asked for, '+\
        page.scripts.length+' scripts'";
    assert_eq!(rendered(&Host::new("vtd-igb"), 1200, asked), "0 asked for, 0 scripts");
}

/// Every text that a host can choose tries to become markup.
#[test]
fn a_hostile_host_stays_text() {
    let host = Host::new("intel-off");
    let root = host.directory.path();
    let hostile = "\"'><script>document.title='owned'</script><img src=x onerror=alert(1)>";
    for file in [
        "proc/cmdline",
        "proc/sys/kernel/osrelease",
        "sys/class/dmi/id/sys_vendor",
        "sys/class/dmi/id/product_name",
    ] {
        fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
        fs::write(root.join(file), format!("{hostile}\n")).unwrap();
    }
    fs::create_dir_all(root.join("usr/share/misc")).unwrap();
    fs::write(root.join("usr/share/misc/pci.ids"), format!("144d  {hostile}\n\ta808  {hostile}\n")).unwrap();
    let page = page(&host, &["--no-redact"]);
    assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
    assert!(page.matches("&lt;script&gt;").count() >= 4, "{page}");
}
