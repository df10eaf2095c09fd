//! Boot entries (Boot Loader Specification) and lines of arguments, as texts in which words come and go.

pub(in crate::setup::action) fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// The word that says where the system is.
pub(in crate::setup::action) fn root(words: &[String]) -> Option<&str> {
    words.iter().map(String::as_str).find(|word| word.starts_with("root="))
}

/// The words that all of `lists` have.
pub(in crate::setup::action) fn common(lists: impl Iterator<Item = Vec<String>>) -> Vec<String> {
    lists
        .reduce(|mut common, list| {
            common.retain(|word| list.contains(word));
            common
        })
        .unwrap_or_default()
}

/// The rest of a line of a boot entry with that key.
pub(in crate::setup::action) fn value<'t>(line: &'t str, key: &str) -> Option<&'t str> {
    let rest = line.trim_start().strip_prefix(key)?;
    rest.starts_with([' ', '\t']).then(|| rest.trim())
}

pub(in crate::setup::action) fn is_linux(entry: &str) -> bool {
    entry.lines().any(|line| value(line, "linux").is_some())
}

pub(in crate::setup::action) fn options(entry: &str) -> Vec<String> {
    entry.lines().filter_map(|line| value(line, "options")).flat_map(words).collect()
}

/// A line of words, with some more and some less; where they stand and how far apart stays.
pub(in crate::setup::action) fn edited_line(text: &str, add: &[&str], remove: &[&str]) -> String {
    let (line, end) = text.split_at(text.trim_end().len());
    let mut line = without(line, remove);
    let had = words(&line);
    for word in add.iter().filter(|word| !had.iter().any(|other| other == *word)) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line + end
}

/// A boot entry with some words more at the end of its last line of options, and some less in all of them.
pub(in crate::setup::action) fn edited_entry(text: &str, add: &[&str], remove: &[&str]) -> String {
    let last = text.lines().filter(|line| value(line, "options").is_some()).count();
    let had = options(text);
    let add: Vec<_> = add.iter().copied().filter(|word| !had.iter().any(|other| other == word)).collect();
    let mut seen = 0;
    let mut new: String = text
        .split_inclusive('\n')
        .map(|line| {
            if value(line, "options").is_none() {
                return line.to_owned();
            }
            seen += 1;
            edited_line(line, if seen == last { &add } else { &[] }, remove)
        })
        .collect();
    if last == 0 && !add.is_empty() {
        if !new.ends_with('\n') {
            new.push('\n');
        }
        new.push_str(&format!("options {}\n", add.join(" ")));
    }
    new
}

/// `line` without `remove`, each word with the space before it.
pub(in crate::setup::action) fn without(line: &str, remove: &[&str]) -> String {
    let mut kept = String::new();
    let mut rest = line;
    while !rest.is_empty() {
        let word_at = rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
        let (space, tail) = rest.split_at(word_at);
        let (word, tail) = tail.split_at(tail.find(char::is_whitespace).unwrap_or(tail.len()));
        if !remove.contains(&word) {
            kept.push_str(space);
            kept.push_str(word);
        }
        rest = tail;
    }
    if kept.starts_with(' ') && !line.starts_with(' ') { kept.trim_start().to_owned() } else { kept }
}

/// Words for people: `a b`.
pub(in crate::setup::action) fn say(words: &[String]) -> String {
    format!("`{}`", words.join(" "))
}
