//! A source file as far as the rules need it: its words, without comments and literals, and the paths that it uses.

use std::collections::BTreeSet;
use std::fs;

use crate::support::root;

/// One file of `src/`.
#[derive(Debug)]
pub(super) struct Source {
    /// From the root of the repository: `src/vmm/kvm.rs`.
    pub(super) path: String,
    pub(super) text: String,
    tokens: Vec<Token>,
}

#[derive(Debug, Clone)]
struct Token {
    text: String,
    /// Inline modules around it.
    depth: usize,
    /// In a module that is compiled for tests only.
    in_test: bool,
}

/// All sources.
pub(super) fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut directories = vec![root().join("src")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(root()).unwrap().to_str().unwrap();
                found.push(Source::new(relative, &fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let of_tests: BTreeSet<String> = found.iter().flat_map(Source::test_modules).collect();
    for source in
        found.iter_mut().filter(|source| of_tests.contains(source.module_path().trim_end_matches("/mod")))
    {
        source.tokens.iter_mut().for_each(|token| token.in_test = true);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), tokens: mark(&words(text)) }
    }

    /// The room that it stands in: `vmm` of `src/vmm/kvm.rs`, `main` of `src/main.rs`.
    pub(super) fn room(&self) -> &str {
        self.module_path().split('/').next().unwrap()
    }

    fn module_path(&self) -> &str {
        self.path.strip_prefix("src/").unwrap().strip_suffix(".rs").unwrap()
    }

    /// Modules in files of their own that are compiled for tests only: `host/source/fake`.
    fn test_modules(&self) -> Vec<String> {
        let directory = match self.module_path().strip_suffix("/mod") {
            Some(directory) => directory.to_owned(),
            None => self.module_path().to_owned(),
        };
        let text: Vec<&str> = self.tokens.iter().map(|token| token.text.as_str()).collect();
        let starts = (0..text.len()).filter(|&at| text[at..].starts_with(&CFG_TEST));
        starts
            .filter_map(|at| {
                let rest = &text[at + CFG_TEST.len()..];
                let module = rest.iter().position(|word| *word == "mod").filter(|&module| module <= 4)?;
                (rest.get(module + 2) == Some(&";")).then(|| format!("{directory}/{}", rest[module + 1]))
            })
            .collect()
    }

    /// Paths within the crate, from its root, that the file uses: `["vmm", "config", "MachineConfig"]`. What stands
    /// in braces is taken apart.
    pub(super) fn uses(&self) -> Vec<Vec<String>> {
        let is_module = self.module_path().ends_with("/mod");
        let own: Vec<&str> =
            self.module_path().split('/').filter(|step| *step != "mod" || !is_module).collect();
        let mut used = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            let previous = at.checked_sub(1).map(|before| self.text_at(before));
            let start = self.text_at(at);
            if !matches!(start, "crate" | "super" | "thruway")
                || self.text_at(at + 1) != "::"
                || previous == Some("::")
            {
                at += 1;
                continue;
            }
            let depth = self.tokens[at].depth;
            let mut ups = 0;
            while self.text_at(at) == "super" && self.text_at(at + 1) == "::" {
                (ups, at) = (ups + 1, at + 2);
            }
            let mut path: Vec<String> = Vec::new();
            if ups == 0 {
                at += 2;
            } else if ups <= depth {
                continue; // to a module of this file
            } else {
                let kept = own.len().saturating_sub(ups - depth);
                path.extend(own[..kept].iter().map(|step| (*step).to_owned()));
            }
            self.tree(&mut at, &path, &mut used);
        }
        used
    }

    /// Reads the rest of a path, or of a use tree, at `at`.
    fn tree(&self, at: &mut usize, path: &[String], used: &mut Vec<Vec<String>>) {
        let mut path = path.to_vec();
        loop {
            match self.text_at(*at) {
                "{" => {
                    *at += 1;
                    while !matches!(self.text_at(*at), "}" | "") {
                        self.tree(at, &path, used);
                        while !matches!(self.text_at(*at), "," | "}" | "") {
                            *at += 1; // `as name`
                        }
                        if self.text_at(*at) == "," {
                            *at += 1;
                        }
                    }
                    *at += 1;
                    return;
                }
                "self" | "*" => *at += 1,
                word if word.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                    path.push(word.to_owned());
                    *at += 1;
                }
                _ => {}
            }
            if self.text_at(*at) != "::" {
                used.push(path);
                return;
            }
            *at += 1;
        }
    }

    /// Whether `phrase` (words joined by `::`, a `!` behind a macro) stands in the file outside of tests. What stands
    /// in braces of a `use` counts as written out.
    pub(super) fn says(&self, phrase: &str) -> bool {
        let code: Vec<&str> =
            self.tokens.iter().filter(|token| !token.in_test).map(|token| token.text.as_str()).collect();
        let wanted: Vec<String> = words(phrase);
        let plain = code.windows(wanted.len()).any(|window| window == wanted);
        let (Some((head, last)), true) = (phrase.rsplit_once("::"), !plain) else { return plain };
        let head = words(head);
        code.windows(head.len() + 2).enumerate().any(|(at, window)| {
            window.starts_with(&head.iter().map(String::as_str).collect::<Vec<_>>())
                && window[head.len()..] == ["::", "{"]
                && group(&code[at + head.len() + 2..]).contains(&last)
        })
    }

    fn text_at(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }
}

const CFG_TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];

/// First words of the members of a brace group that has just been opened.
fn group<'a>(code: &[&'a str]) -> Vec<&'a str> {
    let (mut depth, mut members, mut first) = (1, Vec::new(), true);
    for &word in code {
        match word {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 => first = true,
            _ if depth == 1 && first => {
                members.push(word);
                first = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    members
}

/// Marks what lies in inline modules, and in those for tests.
fn mark(words: &[String]) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::with_capacity(words.len());
    let mut braces: Vec<Option<bool>> = Vec::new(); // per open brace: of a module, and whether that is for tests
    for (at, text) in words.iter().enumerate() {
        if text == "}" {
            braces.pop();
        }
        let depth = braces.iter().flatten().count();
        let in_test = braces.iter().flatten().any(|&test| test);
        tokens.push(Token { text: text.clone(), depth, in_test });
        if text == "{" {
            let module = at >= 2 && words[at - 2] == "mod";
            let test = module && {
                let before: Vec<&str> =
                    words[at.saturating_sub(40)..at - 2].iter().map(String::as_str).collect();
                let end =
                    before.iter().rposition(|word| matches!(*word, ";" | "}" | "{")).map_or(0, |end| end + 1);
                before[end..].windows(CFG_TEST.len()).any(|window| window == CFG_TEST)
            };
            braces.push(module.then_some(test));
        }
    }
    tokens
}

/// Words and signs of `text`, without comments and literals. `::` is one sign.
fn words(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut words = Vec::new();
    let mut at = 0;
    let get = |at: usize| chars.get(at).copied().unwrap_or('\0');
    while at < chars.len() {
        let c = chars[at];
        let start = at;
        if c == '/' && get(at + 1) == '/' {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if c == '/' && get(at + 1) == '*' {
            let mut depth = 0;
            loop {
                match (get(at), get(at + 1)) {
                    ('/', '*') => (depth, at) = (depth + 1, at + 2),
                    ('*', '/') => (depth, at) = (depth - 1, at + 2),
                    _ => at += 1,
                }
                if depth == 0 || at >= chars.len() {
                    break;
                }
            }
        } else if c == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if c == '\'' {
            // A lifetime has no closing quote behind its first character.
            at += match (get(at + 1), get(at + 2)) {
                ('\\', _) => {
                    2 + chars[at + 2..].iter().skip(1).position(|&c| c == '\'').map_or(0, |end| end + 2)
                }
                (_, '\'') => 3,
                _ => 1,
            };
        } else if c.is_alphanumeric() || c == '_' {
            while get(at).is_alphanumeric() || get(at) == '_' {
                at += 1;
            }
            let word: String = chars[start..at].iter().collect();
            let hashes = chars[at..].iter().take_while(|&&c| c == '#').count();
            if matches!(word.as_str(), "r" | "br" | "cr") && get(at + hashes) == '"' {
                let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                let body = at + hashes + 1;
                let end = chars[body..].windows(close.len()).position(|window| window == close);
                at = end.map_or(chars.len(), |end| body + end + close.len());
            } else {
                words.push(word);
            }
        } else if c == ':' && get(at + 1) == ':' {
            words.push("::".to_owned());
            at += 2;
        } else {
            if !c.is_whitespace() {
                words.push(c.to_string());
            }
            at += 1;
        }
    }
    words
}
