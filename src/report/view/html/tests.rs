//! The page as markup: balanced, escaped, whole; and the order of what to do first.

use super::*;
use crate::check::{Asked, Finding, Outcome, Remedy, diagnose};
use crate::host::collect;
use crate::host::source::fake::{Entry, FakeHost};
use crate::report::document;

const HOSTILE: &str = "\"'><script>x</script><img src=x>]]>&amp;\u{1b}[2J\u{202e}";

/// The page of a host with these files.
fn page(entries: &[(&str, Entry<'_>)]) -> String {
    let facts = collect(&FakeHost::new(entries).source());
    let (_, unread) = document::split(&facts).unwrap();
    let diagnosis = diagnose(&facts, Asked::Host);
    render(Page { facts: &facts, diagnosis: &diagnosis, unread: &unread, redacted: true })
}

/// Follows the tags of `page` as XML has them (XML 1.0, 2.1); the place of the first fault.
fn balance(page: &str) -> Result<(), String> {
    let mut open: Vec<&str> = Vec::new();
    let body = page.strip_prefix("<!DOCTYPE html>\n").ok_or("no doctype")?;
    let mut rest = body;
    while let Some((text, tail)) = rest.split_once('<') {
        for entity in text.split('&').skip(1) {
            let known = ["amp;", "lt;", "gt;", "quot;", "#39;"].iter().any(|name| entity.starts_with(name));
            if !known {
                return Err(format!("`&{entity}`"));
            }
        }
        let (tag, tail) = tail.split_once('>').ok_or("a tag without an end")?;
        rest = tail;
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Err(format!(
                    "</{name}> closes something else, before `{}`",
                    &tail[..tail.len().min(60)]
                ));
            }
            continue;
        }
        if tag.matches('"').count() % 2 != 0 {
            return Err(format!("<{tag}> has an odd quote"));
        }
        if !tag.ends_with('/') {
            open.push(tag.split(' ').next().unwrap());
        }
    }
    if open.is_empty() { Ok(()) } else { Err(format!("{open:?} stay open")) }
}

#[test]
fn a_page_is_balanced_whatever_the_host_says() {
    let directory = "/sys/bus/pci/devices/0000:00:02.0";
    let page = page(&[
        ("/proc/cmdline", Entry::Text(HOSTILE)),
        ("/proc/sys/kernel/osrelease", Entry::Text(HOSTILE)),
        ("/sys/class/dmi/id/sys_vendor", Entry::Text(HOSTILE)),
        ("/sys/class/dmi/id/bios_version", Entry::Text(HOSTILE)),
        ("/usr/share/misc/pci.ids", Entry::Text(&format!("8086  {HOSTILE}\n\t1234  {HOSTILE}\n"))),
        (&format!("{directory}/class"), Entry::Text("0x030000")),
        (&format!("{directory}/vendor"), Entry::Text("0x8086")),
        (&format!("{directory}/device"), Entry::Text("0x1234")),
    ]);
    assert_eq!(balance(&page), Ok(()));
    assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
    assert!(!page.contains('\u{1b}') && !page.contains('\u{202e}'));
    assert!(page.matches("&lt;script&gt;").count() > 5);
}

#[test]
fn an_empty_host_gives_a_whole_page() {
    let page = page(&[]);
    assert_eq!(balance(&page), Ok(()));
    assert!(page.contains("<h1>A Linux host</h1>"));
    assert!(page.contains("It is unknown, not absent."));
}

#[test]
fn a_checker_that_finds_nothing_wrong_is_not_blind() {
    for wrong in ["<p><b></p></b>", "<p>", "<p title=\"a>b\"></p>", "</p>", "<p>&nbsp;</p>"] {
        assert!(balance(&format!("<!DOCTYPE html>\n{wrong}")).is_err(), "{wrong}");
    }
}

#[test]
fn every_anchor_leads_somewhere_and_no_id_is_there_twice() {
    let page = page(&[("/proc/cmdline", Entry::Text("intel_iommu=off"))]);
    let values = |attribute: &str| -> Vec<String> {
        let before = format!(" {attribute}=\"");
        let parts = page.split(&before).skip(1);
        parts.map(|rest| rest.split_once('"').unwrap().0.to_owned()).collect()
    };
    let mut ids = values("id");
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
    for anchor in values("href").iter().filter_map(|href| href.strip_prefix('#')) {
        assert!(ids.iter().any(|id| id == anchor), "#{anchor} leads nowhere");
    }
}

#[test]
fn failures_come_first_then_the_firmware_then_what_takes_the_same_reboot() {
    let facts = collect(&FakeHost::new(&[]).source());
    let argument = |argument| Remedy::kernel_argument(&facts, argument);
    let firmware = Remedy::firmware(&facts, crate::host::firmware::Setting::Iommu);
    let finding = |id, outcome| Finding { id, title: id, subject: None, outcome };
    let mut diagnosis = diagnose(&facts, Asked::Host);
    diagnosis.findings = vec![
        finding("a", Outcome::warn("a").remedy(argument("better=1"))),
        finding("b", Outcome::fail("b").remedy(Remedy::command("modprobe x", "loads it"))),
        finding("c", Outcome::fail("c").remedy(argument("needed=1"))),
        finding("d", Outcome::fail("d").remedy(firmware).remedy(argument("never=1"))),
        finding("e", Outcome::warn("e").remedy(argument("needed=1"))),
    ];
    let mut out = Markup::default();
    steps::show(&mut out, &diagnosis);
    let steps = out.into_string();

    let links: Vec<_> = steps.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(links, ["d", "c", "e", "b", "a"]);
    assert_eq!(steps.matches("<li>").count(), 4, "one step mends c and e: {steps}");
    assert!(steps.contains("<code>modprobe x</code></pre>"), "a command can be copied: {steps}");
    assert!(!steps.contains("never=1"));
}
