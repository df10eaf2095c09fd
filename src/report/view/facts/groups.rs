//! IOMMU groups: type, viability, reserved regions, members.

use super::{Text, functions, word};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::iommu::{Group, ReservedRegion};
use crate::report::style::{Tone, clean};
use crate::report::table::Table;

/// Terminals narrower than this see addresses and drivers of a group's members, and no names.
const ROOM_FOR_NAMES: u16 = 110;

/// The groups as a table.
pub(super) fn show(text: &mut Text, facts: &HostFacts) {
    let groups = match &facts.iommu.groups {
        Fact::Known(groups) if groups.is_empty() => return,
        Fact::Known(groups) => groups,
        unread => {
            text.section("IOMMU groups");
            return text.line("groups", (Tone::Notice, word(unread, |_| String::new())));
        }
    };
    text.section(&format!("IOMMU groups ({})", groups.len()));
    let named = text.width.is_none_or(|width| width >= ROOM_FOR_NAMES);
    let titles = ["GROUP", "TYPE", "VIABLE", "RESERVED", "MEMBERS"];
    let mut table = Table::new(&titles, text.width).rigid(0).rigid(1).rigid(2).rigid(3);
    for group in groups {
        let viable = match &group.viable {
            Fact::Known(true) => (Tone::Good, "yes".to_owned()),
            Fact::Known(false) => (Tone::Bad, "no".to_owned()),
            _ => (Tone::Notice, "unknown".to_owned()),
        };
        let kind = if group.no_iommu { "no-IOMMU".to_owned() } else { word(&group.kind, |kind| clean(kind)) };
        table.row([
            (Tone::Plain, group.id.to_string()),
            (Tone::Plain, kind),
            viable,
            (Tone::Detail, reserved(group)),
            (Tone::Plain, word(&group.devices, |members| members_of(facts, group, members, named))),
        ]);
    }
    text.table(table);
    if groups.iter().any(|group| !group.blockers.is_empty()) {
        text.note("! has a driver that is not for VFIO, which keeps its group from being viable");
    }
}

fn reserved(group: &Group) -> String {
    word(&group.reserved_regions, |regions| {
        let region = |r: &ReservedRegion| format!("{:#x}-{:#x} {}", r.start, r.end, clean(&r.kind));
        regions.iter().map(region).collect::<Vec<_>>().join("\n")
    })
}

/// One line a member: address, what holds it, and its name where there is room. A `!` marks who keeps the group from
/// being viable.
fn members_of(facts: &HostFacts, group: &Group, members: &[String], named: bool) -> String {
    let line = |member: &String| {
        let mark = if group.blockers.iter().any(|blocker| blocker.device == *member) { "!" } else { " " };
        let function = member.parse().ok().and_then(|address| facts.device(address));
        let driver =
            function.map_or_else(|| "-".to_owned(), |function| word(&function.driver, |name| clean(name)));
        let name = function
            .filter(|_| named)
            .map(|function| format!(" {}", clean(&functions::title(function))))
            .unwrap_or_default();
        format!("{mark}{} {driver:<10}{name}", clean(member)).trim_end().to_owned()
    };
    members.iter().map(line).collect::<Vec<_>>().join("\n")
}
