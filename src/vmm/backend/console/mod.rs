//! Places of this host that a guest's console can be connected to, and how a profile and the command line name them.

mod file;
mod pty;
mod socket;

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::spec::units::ByteSize;
use crate::vmm::config::{ShortForm, ShortOrLong, short_form};
use crate::vmm::console::Typed;

/// A console's place could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect a console to {what}")]
pub struct ConsoleError {
    /// The file, the socket, or whatever else it is.
    pub what: String,
    /// What the host said.
    #[source]
    pub source: io::Error,
}

/// The far end of a console. No call waits.
pub trait End: fmt::Debug + Send {
    /// Whether it is the terminal of this process, raw meanwhile.
    fn is_terminal(&self) -> bool {
        false
    }

    /// What the user has to know to use it.
    fn note(&self) -> Option<String> {
        None
    }

    /// To be polled for room after a write would have blocked.
    fn writer(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// To be polled for input.
    fn reader(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Takes some of `data`.
    ///
    /// # Errors
    /// `WouldBlock`: later. Anything else: never again.
    fn write(&mut self, data: &[u8]) -> io::Result<usize>;

    /// What arrived, called when [`Self::reader`] is readable.
    fn read(&mut self) -> (Vec<u8>, Typed) {
        (Vec::new(), Typed::Input)
    }
}

/// Nothing can be set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

/// A pseudo-terminal.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtyConfig {
    /// A symbolic link that names it while the machine runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<PathBuf>,
}

/// Where a console of the guest is on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "where the console is: `stdio`, `none`, `pty`, or a mapping with `file` or `socket`"
)]
pub enum Target {
    /// A file that takes what the guest prints.
    File {
        /// The file, created if it does not exist, appended to if it does.
        file: PathBuf,
        /// Most that one run of the machine adds to it; 256MiB when absent. The rest is dropped.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<ByteSize>,
    },
    /// A Unix socket that takes one connection at a time.
    Socket {
        /// Its path; the socket is made at the start and goes at the end.
        socket: PathBuf,
    },
    /// A pseudo-terminal of its own.
    Pty {
        /// How it is found.
        pty: PtyConfig,
    },
    /// Standard input and output of this process.
    Stdio {
        /// Nothing can be set.
        stdio: NoSettings,
    },
    /// Nowhere: the guest has the device, and nobody listens.
    None {
        /// Nothing can be set.
        none: NoSettings,
    },
}

/// A place that a word is enough for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// Standard input and output.
    Stdio,
    /// A pseudo-terminal.
    Pty,
    /// Nowhere.
    None,
}

impl ShortForm for Target {
    type Value = Word;

    const EXPECTING: &'static str = "`stdio`, `pty` or `none`, or a mapping with `file`, `socket` or `pty`";

    fn from_value(value: Word) -> Self {
        match value {
            Word::Stdio => Self::STDIO,
            Word::Pty => Self::Pty { pty: PtyConfig::default() },
            Word::None => Self::None { none: NoSettings {} },
        }
    }

    fn as_value(&self) -> Option<Word> {
        match self {
            Self::Stdio { .. } => Some(Word::Stdio),
            Self::Pty { pty: PtyConfig { link: None } } => Some(Word::Pty),
            Self::None { .. } => Some(Word::None),
            _ => None,
        }
    }

    fn value_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Word>()
    }
}

/// A serial port: where it is on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SerialConfig(
    #[serde(with = "short_form")]
    #[schemars(with = "ShortOrLong<Target>")]
    pub Target,
);

impl Target {
    /// Standard input and output.
    pub const STDIO: Self = Self::Stdio { stdio: NoSettings {} };

    /// Its paths, to be made absolute.
    pub fn paths_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::File { file, .. } => Some(file),
            Self::Socket { socket } => Some(socket),
            Self::Pty { pty } => pty.link.as_mut(),
            Self::Stdio { .. } | Self::None { .. } => None,
        }
    }

    /// What of the host it needs for itself, if two consoles cannot share it.
    #[must_use]
    pub fn exclusive(&self) -> Option<String> {
        match self {
            Self::File { file: path, .. }
            | Self::Socket { socket: path }
            | Self::Pty { pty: PtyConfig { link: Some(path) } } => Some(path.display().to_string()),
            Self::Stdio { .. } => Some("stdio".to_owned()),
            Self::Pty { .. } | Self::None { .. } => None,
        }
    }

    /// Opens it. Standard input and output are not opened here but by the machine, last.
    pub(crate) fn open(&self) -> Result<Box<dyn End>, ConsoleError> {
        match self {
            Self::File { file, limit } => {
                let limit = limit.map_or(file::LIMIT_BYTES, ByteSize::bytes);
                let open = file::ConsoleFile::open(file, limit);
                let open = open.map_err(|source| error(file.display(), source));
                Ok(Box::new(open?))
            }
            Self::Socket { socket } => {
                let open = socket::ConsoleSocket::open(socket);
                Ok(Box::new(open.map_err(|source| error(socket.display(), source))?))
            }
            Self::Pty { pty } => {
                let open = pty::ConsolePty::open(pty.link.as_deref());
                let named = pty
                    .link
                    .as_ref()
                    .map_or("a pseudo-terminal".to_owned(), |link| link.display().to_string());
                Ok(Box::new(open.map_err(|source| error(named, source))?))
            }
            Self::Stdio { .. } | Self::None { .. } => Ok(Box::new(Nowhere)),
        }
    }
}

fn error(what: impl fmt::Display, source: io::Error) -> ConsoleError {
    ConsoleError { what: what.to_string(), source }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, .. } => write!(f, "{}", file.display()),
            Self::Socket { socket } => write!(f, "{}", socket.display()),
            Self::Pty { .. } => f.write_str("pty"),
            Self::Stdio { .. } => f.write_str("stdio"),
            Self::None { .. } => f.write_str("none"),
        }
    }
}

/// Why a text names no place for a console.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// None of the places.
    #[error(
        "`{0}` is no place for a console; write stdio, none, pty[,link=PATH], file=PATH[,limit=SIZE] or socket=PATH"
    )]
    Unknown(String),
    /// A limit that is no size.
    #[error("`{0}` is not a size; write for example 16MiB")]
    Limit(String),
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let unknown = || TargetError::Unknown(text.to_owned());
        // A path may hold commas, an option comes last.
        let option = |rest: &str, key: &str| {
            rest.rsplit_once(&format!(",{key}=")).map_or_else(
                || (rest.to_owned(), None),
                |(path, value)| (path.to_owned(), Some(value.to_owned())),
            )
        };
        match text.split_once('=') {
            _ if text == "stdio" => Ok(Self::STDIO),
            _ if text == "none" => Ok(Self::from_value(Word::None)),
            _ if text == "pty" => Ok(Self::from_value(Word::Pty)),
            Some(("pty,link", link)) if !link.is_empty() => {
                Ok(Self::Pty { pty: PtyConfig { link: Some(link.into()) } })
            }
            Some(("file", rest)) if !rest.is_empty() => {
                let (path, limit) = option(rest, "limit");
                let limit =
                    limit.map(|limit| limit.parse().map_err(|_| TargetError::Limit(limit))).transpose()?;
                Ok(Self::File { file: path.into(), limit })
            }
            Some(("socket", path)) if !path.is_empty() => Ok(Self::Socket { socket: path.into() }),
            _ => Err(unknown()),
        }
    }
}

/// Takes everything and has nothing.
#[derive(Debug)]
struct Nowhere;

impl End for Nowhere {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        Ok(data.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_from_flags() {
        let parse = |text: &str| text.parse::<Target>();
        assert_eq!(parse("stdio"), Ok(Target::STDIO));
        assert_eq!(parse("pty"), Ok(Target::Pty { pty: PtyConfig::default() }));
        assert_eq!(
            parse("pty,link=/run/vm"),
            Ok(Target::Pty { pty: PtyConfig { link: Some("/run/vm".into()) } })
        );
        let file = |file: &str, limit: Option<u64>| {
            Ok(Target::File { file: file.into(), limit: limit.map(ByteSize::from_mebibytes) })
        };
        assert_eq!(parse("file=/a,b=c"), file("/a,b=c", None));
        assert_eq!(parse("file=/a,limit=1MiB"), file("/a", Some(1)));
        assert_eq!(parse("file=/a,limit=x"), Err(TargetError::Limit("x".to_owned())));
        assert_eq!(parse("socket=/s"), Ok(Target::Socket { socket: "/s".into() }));
        for wrong in ["", "tcp=1", "file=", "socket", "pty,link="] {
            assert_eq!(parse(wrong), Err(TargetError::Unknown(wrong.to_owned())));
        }
    }

    #[test]
    fn places_are_read_from_profiles_in_both_forms_and_written_as_they_were() {
        let text = "- stdio\n- pty\n- none\n- file: /a\n- file: /a\n  limit: 1MiB\n- socket: /s\n- pty:\n    link: /l\n";
        let targets: Vec<SerialConfig> = serde_yaml::from_str(text).unwrap();
        assert_eq!(targets.first(), Some(&SerialConfig(Target::STDIO)));
        assert_eq!(serde_yaml::to_string(&targets).unwrap(), text);
        for wrong in ["- tcp", "- {file: /a, socket: /b}", "- {file: /a, size: 1}", "- {stdio: {x: 1}}"] {
            assert!(serde_yaml::from_str::<Vec<SerialConfig>>(wrong).is_err(), "{wrong}");
        }
    }
}
