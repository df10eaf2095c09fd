//! The facts, section by section, folded.

use super::class;
use super::findings::prose;
use crate::host::HostFacts;
use crate::report::markup::Markup;
use crate::report::style::Tone;
use crate::report::table::Table;
use crate::report::view::facts::{Block, sections};

/// All sections.
pub(super) fn show(out: &mut Markup, facts: &HostFacts) {
    out.raw("<section id=\"facts\">\n<h2>Facts</h2>\n");
    for section in sections(facts, &[], None) {
        out.raw("<details><summary><h3>");
        out.text(&section.title);
        out.raw("</h3></summary>\n");
        // Lines that follow each other are one list.
        for run in section.blocks.chunk_by(|a, b| is_line(a) && is_line(b)) {
            if run.first().is_some_and(is_line) {
                out.raw("<dl>\n");
                run.iter().for_each(|line| block(out, line));
                out.raw("</dl>\n");
            } else {
                run.iter().for_each(|other| block(out, other));
            }
        }
        out.raw("</details>\n");
    }
    out.raw("</section>\n");
}

const fn is_line(block: &Block) -> bool {
    matches!(block, Block::Line { .. })
}

fn block(out: &mut Markup, block: &Block) {
    match block {
        Block::Line { name, tone, text } => pair(out, name, (*tone, text)),
        Block::Function { address, lines } => {
            out.raw("<div class=\"function\"><h4><code>");
            out.text(&address.to_string());
            out.raw("</code></h4>");
            for (tone, text) in lines {
                out.element("p", &[("class", class(*tone))], text);
            }
            out.raw("</div>\n");
        }
        Block::Paragraph { tone, text } => {
            out.element("p", &[("class", class(*tone))], text);
            out.end_line();
        }
        Block::Table(table) => self::table(out, table),
        Block::Note(text) => {
            out.element("p", &[("class", "detail")], text);
            out.end_line();
        }
    }
}

/// A name and what belongs to it, within a list of these.
pub(super) fn pair(out: &mut Markup, name: &str, (tone, text): (Tone, &str)) {
    out.element("dt", &[], name);
    out.open("dd", &[("class", class(tone))]);
    prose(out, text);
    out.close("dd");
    out.end_line();
}

fn table(out: &mut Markup, table: &Table) {
    out.raw("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Table\">\n<table><thead><tr>");
    for title in table.titles() {
        out.element("th", &[("scope", "col")], title);
    }
    out.raw("</tr></thead>\n<tbody>\n");
    for row in table.rows() {
        out.raw("<tr>");
        for (tone, text) in row {
            out.open("td", &[("class", class(*tone))]);
            for (index, line) in text.lines().enumerate() {
                if index > 0 {
                    out.raw("<br/>");
                }
                out.text(line);
            }
            out.raw("</td>");
        }
        out.raw("</tr>\n");
    }
    out.raw("</tbody></table>\n</div>\n");
}
