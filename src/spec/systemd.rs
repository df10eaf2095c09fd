//! How words are written in systemd's units (systemd.service(5), "Command lines"; systemd.unit(5), "Specifiers").

/// A word of a command line: quoted as C is, with specifiers and variables taken literally. It must hold no control
/// characters.
#[must_use]
pub fn quoted(text: &str) -> String {
    let literal = text.replace('%', "%%").replace('$', "$$");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-_.%$:+@=".contains(c);
    if !literal.is_empty() && literal.chars().all(is_plain) {
        return literal;
    }
    format!("\"{}\"", literal.replace('\\', "\\\\").replace('"', "\\\""))
}
