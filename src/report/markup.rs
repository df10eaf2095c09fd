//! Text in HTML and SVG: nothing that a device, a file or a user names can become markup.

use crate::report::style::clean;

/// `text` fit for the content of an element and for the value of a quoted attribute, in HTML (13.1.2) and in XML 1.0
/// (2.4), which allows no control characters.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in clean(text).chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\u{FFFE}' | '\u{FFFF}' => escaped.push('?'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Markup that grows. Tags and attributes' names are constants of the program and everything else is escaped, so that
/// what a host says stays text.
#[derive(Debug, Default)]
pub struct Markup {
    out: String,
}

impl Markup {
    /// Writes markup as it stands.
    pub fn raw(&mut self, markup: &'static str) {
        self.out.push_str(markup);
    }

    /// Writes text.
    pub fn text(&mut self, text: &str) {
        self.out.push_str(&escape(text));
    }

    /// Opens an element.
    pub fn open(&mut self, name: &'static str, attributes: &[(&'static str, &str)]) {
        self.out.push('<');
        self.out.push_str(name);
        for (attribute, value) in attributes {
            self.out.push_str(&format!(" {attribute}=\"{}\"", escape(value)));
        }
        self.out.push('>');
    }

    /// Closes it.
    pub fn close(&mut self, name: &'static str) {
        self.out.push_str(&format!("</{name}>"));
    }

    /// A whole element that holds nothing but text.
    pub fn element(&mut self, name: &'static str, attributes: &[(&'static str, &str)], text: &str) {
        self.open(name, attributes);
        self.text(text);
        self.close(name);
    }

    /// Ends a line, for those who read the source.
    pub fn end_line(&mut self) {
        self.out.push('\n');
    }

    /// Adds markup in which everything has been escaped already.
    pub fn embed(&mut self, markup: &str) {
        self.out.push_str(markup);
    }

    /// The markup.
    #[must_use]
    pub fn into_string(self) -> String {
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_become_markup() {
        assert_eq!(
            escape("<script>alert('1')</script> & \"x\"\u{1b}\u{FFFE}"),
            "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &amp; &quot;x&quot;??"
        );
    }

    #[test]
    fn text_in_elements_and_attributes_stays_text() {
        let mut markup = Markup::default();
        markup.element("p", &[("title", "\"><b>")], "<i>&");
        assert_eq!(markup.into_string(), "<p title=\"&quot;&gt;&lt;b&gt;\">&lt;i&gt;&amp;</p>");
    }
}
