//! What is wrong with a profile, and how it is shown: message, place and excerpt.

use std::fmt::{self, Display};
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// Most findings that are shown of one document; who mends these sees the rest.
const MOST: usize = 20;

/// One thing that is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub message: String,
    /// Where, in bytes of the text; nowhere if it is not the text's fault.
    pub place: Option<Range<usize>>,
    /// What to do about it.
    pub help: Option<String>,
    /// Another place that matters, and why.
    pub context: Option<(Range<usize>, String)>,
}

impl Finding {
    /// That at `place` there is what `message` says.
    #[must_use]
    pub fn new(message: impl Into<String>, place: Range<usize>) -> Self {
        Self { message: message.into(), place: Some(place), help: None, context: None }
    }

    pub(super) fn without_place(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, help: None, context: None }
    }

    pub(super) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn with_context(mut self, place: Range<usize>, label: impl Into<String>) -> Self {
        self.context = Some((place, label.into()));
        self
    }
}

/// All that is wrong with one document, together with its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// The file, or another name of where the text comes from.
    pub origin: String,
    /// The whole text.
    pub text: String,
    /// At least one.
    pub findings: Vec<Finding>,
}

impl Findings {
    /// As a compiler would show it: per finding the message, `--> file:line:column`, and the lines in question.
    /// Styled with ANSI sequences; control characters of the text are made visible, not passed on.
    #[must_use]
    pub fn render(&self) -> String {
        let mut findings: Vec<&Finding> = self.findings.iter().collect();
        findings.sort_by_key(|finding| finding.place.as_ref().map_or(0, |place| place.start));
        let mut reports: Vec<String> =
            findings.iter().take(MOST).map(|finding| self.report(finding)).collect();
        if let Some(more) = findings.len().checked_sub(MOST).filter(|&more| more > 0) {
            let title = Level::ERROR.primary_title(format!("{more} more of these are not shown"));
            reports.push(Renderer::styled().render(&[Group::with_title(title)]));
        }
        reports.join("\n\n")
    }

    fn report(&self, finding: &Finding) -> String {
        let title = Level::ERROR.primary_title(finding.message.as_str());
        let Some(place) = &finding.place else {
            let group = Group::with_title(title);
            return Renderer::styled().render(&[match self.origin.as_str() {
                "" => group,
                origin => group.element(Origin::path(origin)),
            }]);
        };
        let within = |place: &Range<usize>| {
            let end = place.end.min(self.text.len());
            floor(&self.text, place.start.min(end))..ceil(&self.text, end)
        };
        let mut snippet = Snippet::source(self.text.as_str())
            .path(self.origin.as_str())
            .annotation(AnnotationKind::Primary.span(within(place)).label(finding.help.as_deref()));
        if let Some((place, label)) = &finding.context {
            snippet = snippet.annotation(AnnotationKind::Context.span(within(place)).label(label.as_str()));
        }
        Renderer::styled().render(&[title.element(snippet)])
    }
}

impl Display for Findings {
    /// Without styles.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&anstream::adapter::strip_str(&self.render()), f)
    }
}

fn floor(text: &str, index: usize) -> usize {
    (0..=index).rev().find(|&index| text.is_char_boundary(index)).unwrap_or(0)
}

fn ceil(text: &str, index: usize) -> usize {
    (index..text.len()).find(|&index| text.is_char_boundary(index)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_help_and_context_are_shown_under_the_message() {
        let text = "cpus: 1\nmemory: 1MiB\ncpus: 2\n".to_owned();
        let finding = Finding::new("duplicate key `cpus`", 21..25).with_context(0..4, "it is here already");
        let shown = Findings { origin: "x.yaml".to_owned(), text, findings: vec![finding] }.to_string();
        assert!(shown.starts_with("error: duplicate key `cpus`"), "{shown}");
        assert!(shown.contains("--> x.yaml:3:1"), "{shown}");
        assert!(shown.contains("it is here already"), "{shown}");
    }

    #[test]
    fn findings_are_shown_in_the_order_of_the_text_and_not_without_end() {
        let text = "x\n".repeat(100);
        let findings = (0..100)
            .rev()
            .map(|line| Finding::new(format!("number {line}."), line * 2..line * 2 + 1))
            .collect();
        let shown = Findings { origin: "x".to_owned(), text, findings }.to_string();
        assert!(shown.starts_with("error: number 0."), "{shown}");
        assert!(shown.contains("number 19.") && !shown.contains("number 20."), "{shown}");
        assert!(shown.ends_with("error: 80 more of these are not shown"), "{shown}");
    }

    #[test]
    fn places_outside_the_text_and_inside_characters_do_no_harm() {
        let text = "é: \u{1b}[31mred\n".to_owned();
        let findings = vec![Finding::new("a", 1..1), Finding::new("b", 90..91), Finding::new("c", 4..4)];
        let shown = Findings { origin: "x".to_owned(), text, findings }.to_string();
        assert_eq!(shown.matches("error: ").count(), 3);
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }
}
