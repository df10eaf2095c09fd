//! IOMMU groups as text for people: all of them with their causes, or why one function's group is as it is.

#[cfg(test)]
mod tests;
mod tree;
mod why;

use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::iommu::{Effect, Group, ReservedRegion};
use crate::report::style::{Place, Tone, clean, wrap, wrap_at};
use crate::report::view::facts::title;

pub use why::{explanation, pair};

/// Where the text behind labels stands.
const INDENT: usize = 12;

/// All groups of a host, for a terminal of `width` columns.
#[must_use]
pub fn render(facts: &HostFacts, width: Option<u16>) -> String {
    let mut text = Text { out: String::new(), width };
    match &facts.iommu.groups {
        Fact::Known(groups) if groups.is_empty() => {
            text.line(
                0,
                Tone::Plain,
                "There are no IOMMU groups: no IOMMU runs, and nothing can be passed through.",
            );
            text.line(0, Tone::Detail, "thruway doctor says why, and what to do");
        }
        Fact::Known(groups) => {
            groups.iter().for_each(|group| text.group(facts, group));
            text.out.push('\n');
            text.line(0, Tone::Detail, "! has a driver of the host, which keeps its group from VFIO");
            text.line(
                0,
                Tone::Detail,
                "--why ADDR says what would change a group, and what another slot would give",
            );
        }
        unread => text.line(0, Tone::Notice, &format!("IOMMU groups are unknown{}", reason(unread))),
    }
    text.out
}

/// Why a fact is not known, behind a colon.
fn reason<T>(fact: &Fact<T>) -> String {
    match fact {
        Fact::Denied { source } => format!(": {source}: permission denied"),
        Fact::Unreadable { source, reason } => format!(": {source}: {reason}"),
        Fact::Known(_) | Fact::NotPresent => String::new(),
    }
}

/// Text that grows line by line.
struct Text {
    out: String,
    width: Option<u16>,
}

impl Text {
    fn title(&mut self, title: &str) {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
        self.out.push_str(&Tone::Title.paint(title));
        self.out.push('\n');
    }

    fn line(&mut self, indent: usize, tone: Tone, text: &str) {
        self.out.push_str(&" ".repeat(indent));
        wrap(&mut self.out, tone, &clean(text), indent, self.width);
    }

    /// A line behind a label, hanging at [`INDENT`].
    fn labelled(&mut self, label: &str, tone: Tone, text: &str) {
        self.out.push_str(&format!("  {label:<width$}", width = INDENT - 2));
        wrap(&mut self.out, tone, &clean(text), INDENT, self.width);
    }

    fn group(&mut self, facts: &HostFacts, group: &Group) {
        let kind = if group.no_iommu {
            "no-IOMMU".to_owned()
        } else {
            group.kind.known().map_or_else(|| "type unknown".to_owned(), |kind| clean(kind))
        };
        let viable = match &group.viable {
            Fact::Known(true) => Tone::Good.paint("viable"),
            Fact::Known(false) => Tone::Bad.paint("not viable"),
            _ => Tone::Notice.paint("viability unknown"),
        };
        self.out
            .push_str(&format!("{}  {kind}, {viable}\n", Tone::Title.paint(&format!("group {}", group.id))));
        match &group.devices {
            Fact::Known(members) => members.iter().for_each(|member| self.member(facts, group, member)),
            unread => self.labelled("members", Tone::Notice, &format!("unknown{}", reason(unread))),
        }
        if let Some((tone, cause)) = cause_in_one_line(group) {
            self.labelled("why", tone, &cause);
        }
        let told = |region: &&ReservedRegion| region.kind != "msi";
        let regions = group.reserved_regions.known().into_iter().flatten().filter(told);
        for (index, region) in regions.enumerate() {
            let tone = if region.kind == "direct" { Tone::Bad } else { Tone::Detail };
            let words = format!("{:#x} to {:#x}, {}", region.start, region.end, region.kind);
            self.labelled(if index == 0 { "reserved" } else { "" }, tone, &words);
        }
        if let unread @ (Fact::Denied { .. } | Fact::Unreadable { .. }) = &group.reserved_regions {
            self.labelled("reserved", Tone::Notice, &format!("unknown{}", reason(unread)));
        }
    }

    fn member(&mut self, facts: &HostFacts, group: &Group, member: &str) {
        let blocks = group.blockers.iter().any(|blocker| blocker.device == member);
        let function = member.parse().ok().and_then(|address| facts.device(address));
        let mark = if blocks { Tone::Bad.paint("!") } else { " ".to_owned() };
        let member = clean(member);
        self.out.push_str(&format!(" {mark}{member}"));
        let Some(function) = function else { return self.out.push('\n') };
        let driver = match &function.driver {
            Fact::Known(driver) => format!(" [{}]", clean(driver)),
            Fact::Denied { .. } | Fact::Unreadable { .. } => " [driver unknown]".to_owned(),
            Fact::NotPresent => String::new(),
        };
        let tone = if function.is_bridge() { Tone::Detail } else { Tone::Plain };
        let words = clean(&title(function));
        let place = Place { column: member.chars().count() + 4, indent: INDENT + 4, width: self.width };
        self.out.push_str("  ");
        wrap_at(&mut self.out, tone, &format!("{words}{driver}"), place);
    }
}

/// The first cause, and how many more there are; nothing where a function is alone as its registers say.
fn cause_in_one_line(group: &Group) -> Option<(Tone, String)> {
    let joins = || group.causes.iter().filter(|cause| cause.effect == Effect::Joins);
    let cause = joins().next().or(group.causes.first())?;
    let more = joins().count().saturating_sub(1);
    let tail = if more > 0 { format!(" (and {more} more: --why)") } else { String::new() };
    let tone = if cause.effect == Effect::Joins { Tone::Plain } else { Tone::Notice };
    Some((tone, format!("{}{tail}", cause.summary)))
}
