//! Expansion ROMs from files of the host (PCI 3.0, 6.2.5.2 and 6.3): checked, and in memory that the guest reads without an
//! exit.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::spec::option_rom::{self, MAX_SIZE, NotARom};
use crate::sys::mmap::Mapping;
use crate::vmm::pci::{Backing, Bar, BarKind, Segment};

/// Mapped memory is in whole pages.
const PAGE_SIZE: u64 = 4096;

/// Which expansion ROM a device has, in a profile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RomConfig {
    /// `true`: that of a host function, none for others.
    #[default]
    Own,
    /// `false`: none.
    Hidden,
    /// A path: what this file holds.
    File(PathBuf),
}

impl RomConfig {
    /// Whether nothing was said.
    #[must_use]
    pub fn is_own(&self) -> bool {
        *self == Self::Own
    }
}

impl Serialize for RomConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Own => serializer.serialize_bool(true),
            Self::Hidden => serializer.serialize_bool(false),
            Self::File(path) => path.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RomConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PathOrBool;
        impl Visitor<'_> for PathOrBool {
            type Value = RomConfig;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the path of an expansion ROM, or false for none")
            }
            fn visit_bool<E>(self, own: bool) -> Result<RomConfig, E> {
                Ok(if own { RomConfig::Own } else { RomConfig::Hidden })
            }
            fn visit_str<E>(self, path: &str) -> Result<RomConfig, E> {
                Ok(RomConfig::File(path.into()))
            }
        }
        deserializer.deserialize_any(PathOrBool)
    }
}

impl JsonSchema for RomConfig {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RomConfig".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": ["boolean", "string"] })
    }
}

/// Which expansion ROM a function gets.
#[derive(Debug, Clone, Default)]
pub enum Rom {
    /// That of a host function, none for others.
    #[default]
    Own,
    /// None.
    Hidden,
    /// This one.
    Image(Arc<RomImage>),
}

/// Why a file cannot be an expansion ROM.
#[derive(Debug, thiserror::Error)]
pub enum RomError {
    /// It cannot be read.
    #[error("cannot read expansion ROM {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// It is larger than any.
    #[error("{} is larger than {} MiB and so no expansion ROM", path.display(), MAX_SIZE >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is something else.
    #[error("{} is no expansion ROM", path.display())]
    NotARom {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        #[source]
        source: NotARom,
    },
    /// There is no memory for it.
    #[error("cannot hold expansion ROM {} in memory", path.display())]
    Memory {
        /// The file.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
}

/// A ROM in memory.
#[derive(Debug)]
pub struct RomImage {
    path: PathBuf,
    images: Vec<option_rom::Image>,
    size: u64,
    memory: Arc<Mapping>,
}

impl Rom {
    /// What `config` names.
    ///
    /// # Errors
    /// [`RomError`], if that is a file.
    pub fn load(config: &RomConfig) -> Result<Self, RomError> {
        Ok(match config {
            RomConfig::Own => Self::Own,
            RomConfig::Hidden => Self::Hidden,
            RomConfig::File(path) => Self::Image(Arc::new(RomImage::load(path)?)),
        })
    }

    /// What a function shows that has none of its own.
    #[must_use]
    pub fn of_file(&self) -> Option<Bar> {
        if let Self::Image(image) = self { Some(image.bar()) } else { None }
    }
}

impl RomImage {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`RomError`].
    pub fn load(path: &Path) -> Result<Self, RomError> {
        let read = |source| RomError::Read { path: path.to_owned(), source };
        let mut content = Vec::new();
        let file = File::open(path).map_err(read)?;
        file.take(MAX_SIZE + 1).read_to_end(&mut content).map_err(read)?;
        if content.len() as u64 > MAX_SIZE {
            return Err(RomError::TooLarge { path: path.to_owned() });
        }
        let images = option_rom::images(&content)
            .map_err(|source| RomError::NotARom { path: path.to_owned(), source })?;
        let size = (content.len() as u64).next_power_of_two().max(PAGE_SIZE);
        let memory =
            memory(content, size).map_err(|source| RomError::Memory { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), images, size, memory: Arc::new(memory) })
    }

    /// What a function shows that has this ROM.
    #[must_use]
    pub fn bar(&self) -> Bar {
        let segment =
            Segment { offset: 0, size: self.size, backing: Backing::ReadOnly(Arc::clone(&self.memory)) };
        bar(self.size, segment)
    }

    /// Says so if no image is for the device that gets them.
    pub fn warn_unless_for(&self, label: &str, vendor_id: u16, device_id: u16) {
        let is_for =
            |image: &option_rom::Image| image.vendor_id == vendor_id && image.device_ids.contains(&device_id);
        if self.images.iter().any(is_for) {
            return;
        }
        let ids: BTreeSet<String> = self.images.iter().flat_map(option_rom::Image::names).collect();
        tracing::warn!(
            "expansion ROM {} is for {}, and {label} is {vendor_id:04x}:{device_id:04x}: firmware that compares them will not \
             start it",
            self.path.display(),
            ids.into_iter().collect::<Vec<_>>().join(", ")
        );
    }
}

/// The BAR of a ROM of `size` bytes that is one segment.
#[must_use]
pub fn bar(size: u64, segment: Segment) -> Bar {
    Bar { kind: BarKind::Memory32 { prefetchable: false }, size, segments: vec![segment] }
}

/// `content`, and behind it ones up to `size` bytes, as in a chip that was never written there.
fn memory(mut content: Vec<u8>, size: u64) -> io::Result<Mapping> {
    let length = usize::try_from(size).map_err(io::Error::other)?;
    content.resize(length, 0xFF);
    let file = File::from(memfd_create("rom", MFdFlags::MFD_CLOEXEC)?);
    file.write_all_at(&content, 0)?;
    Mapping::new(&file, 0, length, false)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::spec::option_rom::testing::rom;

    fn load(content: &[u8]) -> Result<RomImage, RomError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        RomImage::load(file.path())
    }

    fn said(result: Result<RomImage, RomError>) -> String {
        let error = result.unwrap_err();
        let source =
            std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        format!("{error}{source}")
    }

    #[test]
    fn a_rom_takes_a_power_of_two_and_a_page_at_least() {
        for (blocks, size) in [(1, 4096), (8, 4096), (9, 8192), (100, 65536)] {
            let bar = load(&rom(1, 2, blocks)).unwrap().bar();
            assert_eq!((bar.size, bar.segments[0].size), (size, size));
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let missing = said(RomImage::load(Path::new("/nonexistent/a.rom")));
        assert!(
            missing.starts_with("cannot read expansion ROM /nonexistent/a.rom: No such file"),
            "{missing}"
        );
        assert!(said(load(&[])).ends_with(" is no expansion ROM: it does not begin with 55h AAh"));
        assert!(said(load(&rom(1, 2, 4)[..1024])).contains("it is cut off"));
        let large = vec![0x55; (16 << 20) + 1];
        assert!(said(load(&large)).ends_with("is larger than 16 MiB and so no expansion ROM"));
        assert!(said(RomImage::load(Path::new("/"))).starts_with("cannot read expansion ROM /"));
    }
}
