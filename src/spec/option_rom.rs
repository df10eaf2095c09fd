//! Expansion ROMs: code that a PCI function brings with it for firmware to run. PCI 3.0, 6.3.
//!
//! A ROM holds one image or more, one behind the other, each with a header and a PCI data structure.

/// First two bytes of an image's header (6.3.1.1).
const SIGNATURE: [u8; 2] = [0x55, 0xAA];
/// Where the header points to the data structure, 16 bits (6.3.1.1).
const POINTER: usize = 0x18;
/// Its first four bytes (6.3.1.2).
const DATA_SIGNATURE: [u8; 4] = *b"PCIR";
/// Unit of lengths, and the least length of an image.
const BLOCK: usize = 512;
/// The largest ROM that a function can have, in bytes (6.2.5.2).
pub const MAX_SIZE: u64 = 16 << 20;
/// The smallest one: the register keeps address bits 31:11 (6.2.5.2).
pub const MIN_SIZE: u64 = 1 << 11;

/// Offsets in the data structure (6.3.1.2).
mod data {
    pub(super) const VENDOR_ID: usize = 0x04;
    pub(super) const DEVICE_ID: usize = 0x06;
    /// 16 bits: where a list of further device IDs begins, from the start of the structure; from revision 3 on.
    pub(super) const DEVICE_LIST: usize = 0x08;
    pub(super) const REVISION: usize = 0x0C;
    /// 16 bits, in blocks.
    pub(super) const IMAGE_LENGTH: usize = 0x10;
    /// Bit 7: no image follows.
    pub(super) const INDICATOR: usize = 0x15;
    pub(super) const LAST: u8 = 1 << 7;
}

/// One image of a ROM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// For whose device it is.
    pub vendor_id: u16,
    /// For which devices, the main one first.
    pub device_ids: Vec<u16>,
}

impl Image {
    /// The devices that it is for: `8086:10d3`.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.device_ids.iter().map(|device_id| format!("{:04x}:{device_id:04x}", self.vendor_id))
    }
}

/// Why some bytes are no expansion ROM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotARom {
    /// No image begins with the first byte.
    #[error("it does not begin with 55h AAh")]
    NoSignature,
    /// An image does not say for whom it is.
    #[error("its image at {offset:#x} has no PCI data structure")]
    NoData {
        /// Where the image begins.
        offset: usize,
    },
    /// There is less of it than an image says.
    #[error("it is cut off: its image at {offset:#x} ends at {end:#x}, the ROM at {length:#x}")]
    Truncated {
        /// Where the image begins.
        offset: usize,
        /// Where it ends.
        end: usize,
        /// How many bytes there are.
        length: usize,
    },
}

/// The images of `rom`: one at least.
///
/// # Errors
/// [`NotARom`].
pub fn images(rom: &[u8]) -> Result<Vec<Image>, NotARom> {
    let mut images = Vec::new();
    let mut offset = 0;
    // Each image is a block or longer, so the walk ends.
    while let Some(bytes) = rom.get(offset..).filter(|bytes| bytes.starts_with(&SIGNATURE)) {
        let no_data = NotARom::NoData { offset };
        let start = usize::from(word(bytes, POINTER).ok_or_else(|| no_data.clone())?);
        let structure =
            bytes.get(start..).filter(|bytes| bytes.starts_with(&DATA_SIGNATURE)).unwrap_or_default();
        let (Some(vendor_id), Some(device_id), Some(blocks), Some(indicator)) = (
            word(structure, data::VENDOR_ID),
            word(structure, data::DEVICE_ID),
            word(structure, data::IMAGE_LENGTH).filter(|blocks| *blocks > 0),
            structure.get(data::INDICATOR),
        ) else {
            return Err(no_data);
        };
        let end = offset + usize::from(blocks) * BLOCK;
        if end > rom.len() {
            return Err(NotARom::Truncated { offset, end, length: rom.len() });
        }
        let device_ids = std::iter::once(device_id).chain(device_list(structure)).collect();
        images.push(Image { vendor_id, device_ids });
        if indicator & data::LAST != 0 {
            break;
        }
        offset = end;
    }
    if images.is_empty() { Err(NotARom::NoSignature) } else { Ok(images) }
}

/// The device IDs behind the main one, up to the zero that ends them.
fn device_list(structure: &[u8]) -> impl Iterator<Item = u16> {
    let has_list = structure.get(data::REVISION).is_some_and(|revision| *revision >= 3);
    let start = word(structure, data::DEVICE_LIST).filter(|start| has_list && *start != 0).map(usize::from);
    let list = start.and_then(|start| structure.get(start..)).unwrap_or_default();
    list.chunks_exact(2).map_while(|pair| word(pair, 0)).take_while(|id| *id != 0)
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|pair| u16::from_le_bytes(*pair))
}

#[cfg(test)]
pub(crate) mod testing {
    /// A ROM of one image of `blocks` blocks for a device.
    pub(crate) fn rom(vendor_id: u16, device_id: u16, blocks: u8) -> Vec<u8> {
        let mut rom = vec![0x90; usize::from(blocks) * super::BLOCK];
        rom[..2].copy_from_slice(&super::SIGNATURE);
        rom[0x18..0x1A].copy_from_slice(&[0x1C, 0]);
        rom[0x1C..0x36].fill(0);
        rom[0x1C..0x20].copy_from_slice(b"PCIR");
        rom[0x20..0x22].copy_from_slice(&vendor_id.to_le_bytes());
        rom[0x22..0x24].copy_from_slice(&device_id.to_le_bytes());
        rom[0x26] = 0x18;
        rom[0x2C] = blocks;
        rom[0x31] = 0x80;
        rom
    }
}

#[cfg(test)]
mod tests {
    use super::testing::rom;
    use super::*;

    fn image(vendor_id: u16, device_ids: &[u16]) -> Image {
        Image { vendor_id, device_ids: device_ids.to_vec() }
    }

    #[test]
    fn images_are_walked_to_the_last_one() {
        let one = rom(0x1AF4, 0x1000, 2);
        assert_eq!(images(&one), Ok(vec![image(0x1AF4, &[0x1000])]));
        let mut two = one.clone();
        two[0x31] = 0;
        two.extend(rom(0x8086, 0x10D3, 1));
        assert_eq!(images(&two), Ok(vec![image(0x1AF4, &[0x1000]), image(0x8086, &[0x10D3])]));
        // Nothing behind an image that says that more follow.
        two.truncate(one.len());
        assert_eq!(images(&two).unwrap().len(), 1);
    }

    #[test]
    fn further_devices_are_those_of_revision_3() {
        let mut rom = rom(0x10DE, 0x1234, 1);
        rom[0x24..0x26].copy_from_slice(&[0x18, 0]);
        rom[0x34..0x3A].copy_from_slice(&[0x41, 0x10, 0x42, 0x10, 0, 0]);
        assert_eq!(images(&rom).unwrap(), [image(0x10DE, &[0x1234])]);
        rom[0x28] = 3;
        assert_eq!(images(&rom).unwrap(), [image(0x10DE, &[0x1234, 0x1041, 0x1042])]);
    }

    #[test]
    fn everything_else_is_refused() {
        assert_eq!(images(&[]), Err(NotARom::NoSignature));
        assert_eq!(images(&[0x7F, b'E', b'L', b'F']), Err(NotARom::NoSignature));
        assert_eq!(images(&SIGNATURE), Err(NotARom::NoData { offset: 0 }));
        let whole = rom(1, 2, 4);
        assert_eq!(images(&whole[..1024]), Err(NotARom::Truncated { offset: 0, end: 2048, length: 1024 }));
        let mut empty = whole.clone();
        empty[0x2C] = 0;
        assert_eq!(images(&empty), Err(NotARom::NoData { offset: 0 }));
        let mut astray = whole;
        astray[0x18..0x1A].fill(0xFF);
        assert_eq!(images(&astray), Err(NotARom::NoData { offset: 0 }));
    }

    #[test]
    fn every_byte_can_have_every_edge_value() {
        let whole = rom(1, 2, 1);
        for at in 0..0x40 {
            for value in [0, 1, 0x7F, 0x80, 0xFF] {
                let mut rom = whole.clone();
                rom[at] = value;
                let _ = images(&rom);
            }
        }
    }
}
