//! The house style of text for people: few colours, each with one meaning, and nothing that a device can smuggle in.
//!
//! Styles are written as ANSI sequences; whoever prints takes them out where they do not belong.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

/// What a piece of text is, which decides how it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Ordinary text.
    Plain,
    /// A title, or the name of what a line is about.
    Title,
    /// Yes, on, works.
    Good,
    /// No, off, does not work.
    Bad,
    /// Unknown, or worth a look.
    Notice,
    /// Detail that the eye may skip.
    Detail,
}

impl Tone {
    /// The style of this tone.
    #[must_use]
    pub const fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Title => Style::new().bold(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
            Self::Notice => AnsiColor::Yellow.on_default(),
            Self::Detail => Style::new().dimmed(),
        }
    }

    /// `text` in this tone.
    #[must_use]
    pub fn paint(self, text: &str) -> String {
        let style = self.style();
        format!("{style}{text}{style:#}")
    }
}

/// `text` from a device, a file or a user, fit for a terminal: whatever could move the cursor or change colours is
/// shown as `?`.
#[must_use]
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_bidi(c) { '?' } else { c }).collect()
}

/// Characters that reorder what follows them (Unicode 15.1, UAX 9, 2).
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{200E}' | '\u{200F}' | '\u{061C}')
}

/// Where a paragraph stands.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Column in which its first line starts.
    pub column: usize,
    /// Column in which every other line starts.
    pub indent: usize,
    /// Columns that there are; `None` where lines may be as long as they are.
    pub width: Option<u16>,
}

/// Writes `text`, broken between words so that no line is longer than `width` columns; every line after the first
/// starts with `indent` spaces. The first line is taken to start at `indent` too.
pub fn wrap(out: &mut String, tone: Tone, text: &str, indent: usize, width: Option<u16>) {
    wrap_at(out, tone, text, Place { column: indent, indent, width });
}

/// As [`wrap`], where the first line has something before it.
pub fn wrap_at(out: &mut String, tone: Tone, text: &str, place: Place) {
    let Place { column: start, indent, width } = place;
    let end = width.map_or(usize::MAX, |width| usize::from(width).max(indent + 20));
    let style = tone.style();
    let (mut column, mut at_start) = (start, true);
    // Writing to a String cannot fail, so nothing is lost with its results.
    let _ = write!(out, "{style}");
    for word in text.split(' ') {
        let length = word.chars().count();
        if !at_start && column + 1 + length > end {
            let _ = write!(out, "{style:#}\n{:indent$}{style}", "");
            column = indent;
        } else if !at_start {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
        at_start = false;
    }
    let _ = writeln!(out, "{style:#}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_devices_cannot_steer_the_terminal() {
        assert_eq!(clean("a\x1b[31mb\r\nc\u{202E}d"), "a?[31mb??c?d");
    }

    #[test]
    fn lines_break_between_words_and_hang() {
        let mut out = String::new();
        wrap(&mut out, Tone::Plain, "one two three four five six seven", 4, Some(24));
        assert_eq!(out, "one two three four\n    five six seven\n");
    }

    #[test]
    fn what_stands_before_the_first_line_counts() {
        let mut out = "key: ".to_owned();
        wrap_at(
            &mut out,
            Tone::Plain,
            "one two three four five",
            Place { column: 5, indent: 2, width: Some(22) },
        );
        assert_eq!(out, "key: one two three\n  four five\n");
    }

    #[test]
    fn without_a_width_nothing_breaks() {
        let mut out = String::new();
        wrap(&mut out, Tone::Plain, &"word ".repeat(100), 0, None);
        assert_eq!(out.lines().count(), 1);
    }
}
