//! Network devices: the link that virtual functions share, and what keeps them apart.

use super::{attribute, physical};
use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::source::VfLink;
use crate::host::usage::Interface;

/// Interfaces of physical functions that have virtual ones.
fn interfaces<'a>(facts: &'a HostFacts, subject: &str) -> Result<Vec<&'a Interface>, Outcome> {
    let mut found = Vec::new();
    for (function, sriov) in physical(facts, subject)? {
        if sriov.vfs.is_empty() {
            continue;
        }
        match &function.usage.interfaces {
            Fact::Known(interfaces) => found.extend(interfaces),
            unread => return Err(Outcome::unread(unread, subject)),
        }
    }
    if found.is_empty() {
        return Err(Outcome::not_applicable("no virtual function of a network device exists"));
    }
    Ok(found)
}

/// `sriov-physical-link`
pub(super) fn physical_link(facts: &HostFacts) -> Outcome {
    let interfaces = match interfaces(facts, "whether the interfaces of physical functions are up") {
        Ok(interfaces) => interfaces,
        Err(outcome) => return outcome,
    };
    let flags = |interface: &Interface| format!("/sys/class/net/{}/flags", interface.name);
    let down: Vec<_> = interfaces.iter().filter(|interface| interface.up == Fact::Known(false)).collect();
    if let Some(first) = down.first() {
        let names: Vec<_> = down.iter().map(|interface| interface.name.as_str()).collect();
        let warn = Outcome::warn(format!("virtual functions below {} have no carrier", names.join(", ")))
            .cause("the physical function's interface is down, and its link is theirs")
            .remedy(Remedy::command(
                format!("ip link set {} up", first.name),
                "brings the link up; the interface needs no address for that",
            ));
        return down.iter().fold(warn, |outcome, interface| outcome.evidence(flags(interface), "not IFF_UP"));
    }
    if let Some(interface) = interfaces.iter().find(|interface| interface.up.is_unread()) {
        return Outcome::unread(&interface.up, "whether the interface of a physical function is up");
    }
    let pass = Outcome::pass("physical functions with virtual ones are up");
    interfaces.iter().fold(pass, |outcome, interface| outcome.evidence(flags(interface), "IFF_UP"))
}

/// `sriov-protection`
pub(super) fn protection(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "how virtual functions are protected";
    let physical = match physical(facts, SUBJECT) {
        Ok(physical) => physical,
        Err(outcome) => return outcome,
    };
    let mut open: Vec<(String, u16, &'static str)> = Vec::new();
    let mut seen = 0;
    for (function, sriov) in physical {
        let interface = function.usage.interfaces.known().and_then(|interfaces| interfaces.first());
        for vf in &sriov.vfs {
            match &vf.link {
                Fact::Known(link) => {
                    seen += 1;
                    let name = interface.map_or_else(|| attribute(function, "net"), |it| it.name.clone());
                    open.extend(weakness(link).map(|weakness| (name, vf.index, weakness)));
                }
                Fact::NotPresent => {}
                unread => return Outcome::unread(unread, SUBJECT),
            }
        }
    }
    let Some((interface, index, _)) = open.first() else {
        return match seen {
            0 => Outcome::not_applicable("no virtual function of a network device exists"),
            _ => Outcome::pass("no virtual function may pose as another").evidence(
                "rtnetlink",
                format!("{seen} virtual functions with spoof check and without trust"),
            ),
        };
    };
    let command = format!("ip link set {interface} vf {index} trust off spoofchk on");
    let warn = Outcome::warn(format!("{} virtual functions may pose as others", open.len()))
        .cause("somebody trusted them or switched their spoof check off, or the driver starts so")
        .remedy(Remedy::command(command, "for each of them; a guest that bridges or bonds needs trust"));
    open.iter().fold(warn, |outcome, (interface, index, weakness)| {
        outcome.evidence(format!("rtnetlink: {interface} vf {index}"), weakness)
    })
}

fn weakness(link: &VfLink) -> Option<&'static str> {
    match (link.trusted, link.spoof_check) {
        (Some(true), _) => Some("trust on"),
        (_, Some(false)) => Some("spoof check off"),
        _ => None,
    }
}
