//! A fact about a host, or the reason why it could not be read.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// Something read from a host. What cannot be seen is unknown, never false.
///
/// Serialises to the value, or to null for [`Self::NotPresent`]; the two unknowns serialise to a marker object that
/// [`crate::report`] turns into null with an entry in `unread[]` (pointer, reason, source).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Fact<T> {
    /// It was read, and this is it.
    Known(T),
    /// The host does not have it (no such file, no such link): an answer, not a failure.
    #[default]
    NotPresent,
    /// It is there and may not be read by this user.
    Denied {
        /// Path, CPUID leaf, register or system call.
        source: String,
    },
    /// It is there and could not be read or understood.
    Unreadable {
        /// Path, CPUID leaf, register or system call.
        source: String,
        /// What went wrong.
        reason: String,
    },
}

/// Key of the marker object that an unread fact serialises to.
pub const UNREAD_MARKER: &str = "$unread";

impl<T> Fact<T> {
    /// The value, if it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            _ => None,
        }
    }

    /// The same fact about a reference to the value.
    pub fn as_ref(&self) -> Fact<&T> {
        match self {
            Self::Known(value) => Fact::Known(value),
            Self::NotPresent => Fact::NotPresent,
            Self::Denied { source } => Fact::Denied { source: source.clone() },
            Self::Unreadable { source, reason } => {
                Fact::Unreadable { source: source.clone(), reason: reason.clone() }
            }
        }
    }

    /// Whether the value is unknown (as opposed to absent).
    pub fn is_unread(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::Unreadable { .. })
    }

    /// Applies `f` to a known value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Fact<U> {
        self.and_then(|value| Fact::Known(f(value)))
    }

    /// Replaces a known value by what `f` makes of it.
    pub fn and_then<U>(self, f: impl FnOnce(T) -> Fact<U>) -> Fact<U> {
        match self {
            Self::Known(value) => f(value),
            Self::NotPresent => Fact::NotPresent,
            Self::Denied { source } => Fact::Denied { source },
            Self::Unreadable { source, reason } => Fact::Unreadable { source, reason },
        }
    }

    /// Parses a known value; what `parse` rejects is [`Self::Unreadable`] at `source`.
    pub fn parse<U, E: std::fmt::Display>(
        self,
        source: &str,
        parse: impl FnOnce(T) -> Result<U, E>,
    ) -> Fact<U> {
        self.and_then(|value| match parse(value) {
            Ok(parsed) => Fact::Known(parsed),
            Err(error) => Fact::Unreadable { source: source.to_owned(), reason: error.to_string() },
        })
    }
}

impl<T: Serialize> Serialize for Fact<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (source, reason) = match self {
            Self::Known(value) => return value.serialize(serializer),
            Self::NotPresent => return serializer.serialize_none(),
            Self::Denied { source } => (source, "permission denied"),
            Self::Unreadable { source, reason } => (source, reason.as_str()),
        };
        let mut marker = serializer.serialize_struct("Unread", 1)?;
        marker.serialize_field(UNREAD_MARKER, &(source, reason))?;
        marker.end()
    }
}
