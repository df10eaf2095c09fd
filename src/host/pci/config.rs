//! What a function's configuration space says: header and capabilities.
//!
//! Without privilege the kernel gives the first 64 bytes only; capabilities are then unread, never "none".

use serde::{Serialize, Serializer};

use super::abilities::{Abilities, Registers};
use crate::host::fact::Fact;
use crate::host::source::Source;
use crate::spec::pci::walk::{self, FoundCapability, FoundExtendedCapability, Walk};
use crate::spec::pci::{CONFIG_SPACE_SIZE, CapabilityId, header};

/// Header and capabilities of one function.
#[derive(Debug, Clone, Serialize)]
pub struct ConfigSpace {
    /// Whether the function answers at all: one that lost its power or its link reads as all ones.
    pub answers: Fact<bool>,
    /// Revision ID.
    pub revision: Fact<u8>,
    /// Header type without the multi-function bit: 0 is an endpoint, 1 a PCI-to-PCI bridge.
    pub header_type: Fact<u8>,
    /// Number of the bus right behind a bridge; absent on endpoints.
    pub secondary_bus: Fact<u8>,
    /// Highest number of a bus behind a bridge; absent on endpoints.
    pub subordinate_bus: Fact<u8>,
    /// The conventional capability list, in its order.
    pub capabilities: Fact<Vec<Capability>>,
    /// The extended capability list, in its order.
    pub extended_capabilities: Fact<Vec<ExtendedCapability>>,
    /// What the capabilities' registers say.
    #[serde(flatten)]
    pub abilities: Abilities,
    /// What is wrong with the lists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub config_faults: Vec<String>,
}

/// A capability of the conventional list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// Identifier.
    #[serde(serialize_with = "capability_id")]
    pub id: CapabilityId,
    /// Its name in the specification; absent if the identifier is not assigned.
    pub name: Option<&'static str>,
    /// Offset of its header, in bytes.
    pub offset: u16,
}

/// A capability of the extended list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExtendedCapability {
    /// Identifier.
    pub id: u16,
    /// Its name in the specification; absent if the identifier is not assigned.
    pub name: Option<&'static str>,
    /// Version of the structure.
    pub version: u8,
    /// Offset of its header, in bytes.
    pub offset: u16,
}

/// Reads as much of the configuration space in the file at `path` as there is something in.
pub(in crate::host) fn read(source: &dyn Source, path: &str) -> Fact<Vec<u8>> {
    source.read_wanted(path, &walk::bytes_wanted)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn capability_id<S: Serializer>(id: &CapabilityId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(id.0)
}

impl ConfigSpace {
    /// Decodes the bytes that were read from the file at `source`.
    #[must_use]
    pub fn from_bytes(bytes: Fact<Vec<u8>>, source: &str) -> Self {
        let is_silent = bytes.known().is_some_and(|bytes| header_of(bytes).is_some_and(is_silence));
        let bytes = bytes.and_then(|bytes| usable(bytes, source));
        let answers = if is_silent { Fact::Known(false) } else { bytes.as_ref().map(|_| true) };
        let mut config_faults = Vec::new();
        let byte = |offset: u16| {
            let bytes = bytes.as_ref();
            bytes.map(|bytes| bytes.get(usize::from(offset)).copied().unwrap_or_default())
        };
        let capabilities = bytes.as_ref().and_then(|bytes| conventional(bytes, source, &mut config_faults));
        let extended_capabilities =
            bytes.as_ref().and_then(|bytes| extended(bytes, &capabilities, source, &mut config_faults));
        let header_type = byte(header::HEADER_TYPE).map(|kind| kind & 0x7F);
        let of_bridge = |offset| match header_type {
            Fact::Known(1) => byte(offset),
            Fact::Known(_) => Fact::NotPresent,
            ref unread => unread.clone(),
        };
        let abilities = Abilities::read(&Registers {
            bytes: bytes.known().map_or(&[], Vec::as_slice),
            conventional: &capabilities,
            extended: &extended_capabilities,
            source,
        });
        Self {
            answers,
            revision: byte(header::REVISION_ID),
            secondary_bus: of_bridge(header::SECONDARY_BUS),
            subordinate_bus: of_bridge(header::SUBORDINATE_BUS),
            header_type,
            capabilities,
            extended_capabilities,
            abilities,
            config_faults,
        }
    }
}

fn header_of(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(..usize::from(header::END))
}

/// Whether nothing answered. A virtual function has ones for its identifiers only (PCIe 6.0, 9.3.4.1).
fn is_silence(header: &[u8]) -> bool {
    header.iter().all(|byte| *byte == 0xFF)
}

/// Bytes that hold a header which something answered.
fn usable(bytes: Vec<u8>, source: &str) -> Fact<Vec<u8>> {
    let unreadable = |reason: String| Fact::Unreadable { source: source.to_owned(), reason };
    match header_of(&bytes) {
        None => unreadable(format!("{} bytes hold no configuration header", bytes.len())),
        Some(header) if is_silence(header) => {
            unreadable("reads as all ones: the function does not answer".to_owned())
        }
        Some(_) => Fact::Known(bytes),
    }
}

fn conventional(bytes: &[u8], source: &str, faults: &mut Vec<String>) -> Fact<Vec<Capability>> {
    if walk::has_capabilities(bytes) == Some(true) && bytes.len() == usize::from(header::END) {
        return Fact::Denied { source: source.to_owned() };
    }
    let Walk { found, broken } = walk::capabilities(bytes);
    faults.extend(broken.map(|broken| format!("capability list: {broken}")));
    let capability =
        |FoundCapability { id, offset }| Capability { id, name: names::conventional(id), offset };
    Fact::Known(found.into_iter().map(capability).collect())
}

fn extended(
    bytes: &[u8],
    capabilities: &Fact<Vec<Capability>>,
    source: &str,
    faults: &mut Vec<String>,
) -> Fact<Vec<ExtendedCapability>> {
    let Fact::Known(conventional) = capabilities else {
        return capabilities.as_ref().map(|_| Vec::new());
    };
    if bytes.len() <= usize::from(CONFIG_SPACE_SIZE) {
        let is_express = conventional.iter().any(|capability| capability.id == CapabilityId::EXPRESS);
        return if is_express {
            Fact::Unreadable {
                source: source.to_owned(),
                reason: "the kernel does not reach the extended configuration space".to_owned(),
            }
        } else {
            Fact::Known(Vec::new())
        };
    }
    let Walk { found, broken } = walk::extended_capabilities(bytes);
    faults.extend(broken.map(|broken| format!("extended capability list: {broken}")));
    let capability = |FoundExtendedCapability { id, version, offset }| ExtendedCapability {
        id,
        name: names::extended(id),
        version,
        offset,
    };
    Fact::Known(found.into_iter().map(capability).collect())
}

use crate::spec::pci::capability_names as names;
