//! Whether firmware can find anything to boot on a disk, as far as the disk's first sectors tell.
//!
//! Partition tables by UEFI 2.10, 5.2 and 5.3; optical discs by ECMA-119. What is on a partition, only the firmware sees.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Firmware;
use crate::vmm::config::DeviceConfig;
use crate::vmm::pci::root::Place;
use crate::vmm::smbios::Interface;

const SECTOR: u64 = 512;
/// C12A7328-F81F-11D2-BA4B-00A0C93EC93B: the type of an EFI system partition (UEFI 2.10, table 5.7).
const EFI_SYSTEM: [u8; 16] =
    [0x28, 0x73, 0x2A, 0xC1, 0x1F, 0xF8, 0xD2, 0x11, 0xBA, 0x4B, 0x00, 0xA0, 0xC9, 0x3E, 0xC9, 0x3B];
/// Most bytes of partition entries that are looked at: 128 entries, as all programs write them.
const MOST_ENTRY_BYTES: usize = 128 * 128;

/// Why nothing will be found on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Unbootable {
    #[error("it has no partition table and no boot sector")]
    Blank,
    #[error("none of its partitions is an EFI system partition")]
    NoSystemPartition,
}

impl Firmware {
    /// Says which disks there is nothing to boot on, where that goes for all of them and nothing else is there to boot from.
    pub fn warn_of_blank_disks(&self, devices: &[(Place, &DeviceConfig)]) {
        if self.kernel.is_some() {
            return;
        }
        let mut found = Vec::new();
        for (_, device) in devices {
            match device {
                DeviceConfig::VirtioBlock(block) => match examine(&block.path, self.interface) {
                    Ok(Some(why)) => found.push(format!("{}: {why}", block.path.display())),
                    // Whoever cannot read it says so elsewhere.
                    Ok(None) | Err(_) => return,
                },
                // A disk may be behind it, or a server that boots others.
                DeviceConfig::VfioPci(_) | DeviceConfig::VirtioNet(_) => return,
                _ => {}
            }
        }
        let what = if found.is_empty() { "there is no disk".to_owned() } else { found.join("; ") };
        tracing::warn!(
            "the firmware will find nothing to boot ({what}) and offers its own shell or menu, on the serial port"
        );
    }
}

fn examine(path: &Path, interface: Interface) -> io::Result<Option<Unbootable>> {
    let disk = File::open(path)?;
    let is = |offset: u64, expected: &[u8]| {
        let mut bytes = vec![0; expected.len()];
        disk.read_exact_at(&mut bytes, offset).is_ok() && bytes == expected
    };
    if is(SECTOR, b"EFI PART") {
        let looks_for_it = interface == Interface::Uefi;
        return Ok((looks_for_it && !has_system_partition(&disk)?).then_some(Unbootable::NoSystemPartition));
    }
    let boots = is(510, &[0x55, 0xAA]) || is(0x8001, b"CD001");
    Ok((!boots).then_some(Unbootable::Blank))
}

/// Whether a partition of the GPT is an EFI system partition.
fn has_system_partition(disk: &File) -> io::Result<bool> {
    let mut header = [0; 92];
    disk.read_exact_at(&mut header, SECTOR)?;
    let number = |at: usize, bytes: usize| {
        let mut value = [0; 8];
        for (byte, source) in value.iter_mut().zip(header.iter().skip(at).take(bytes)) {
            *byte = *source;
        }
        u64::from_le_bytes(value)
    };
    let (table, count, size) = (number(72, 8), number(80, 4), number(84, 4));
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if !(128..=4096).contains(&size) {
        return Ok(false);
    }
    let bytes = usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(size).min(MOST_ENTRY_BYTES);
    let mut entries = vec![0; bytes];
    disk.read_exact_at(&mut entries, table.saturating_mul(SECTOR))?;
    Ok(entries.chunks_exact(size).any(|entry| entry.starts_with(&EFI_SYSTEM)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn examined(content: &[u8], interface: Interface) -> Option<Unbootable> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        examine(file.path(), interface).unwrap()
    }

    fn gpt(kind: &[u8; 16], size: u32) -> Vec<u8> {
        let mut disk = vec![0; 64 << 10];
        disk[510..512].copy_from_slice(&[0x55, 0xAA]);
        disk[512..520].copy_from_slice(b"EFI PART");
        disk[584..592].copy_from_slice(&2u64.to_le_bytes());
        disk[592..596].copy_from_slice(&u32::MAX.to_le_bytes());
        disk[596..600].copy_from_slice(&size.to_le_bytes());
        disk[1024 + 128..1024 + 144].copy_from_slice(kind);
        disk
    }

    #[test]
    fn blank_disks_and_tables_without_a_system_partition_are_told() {
        assert_eq!(examined(&[], Interface::Uefi), Some(Unbootable::Blank));
        assert_eq!(examined(&[0; 64 << 10], Interface::Other), Some(Unbootable::Blank));
        assert_eq!(examined(&gpt(&EFI_SYSTEM, 128), Interface::Uefi), None);
        assert_eq!(examined(&gpt(&[7; 16], 128), Interface::Uefi), Some(Unbootable::NoSystemPartition));
        assert_eq!(examined(&gpt(&[7; 16], 128), Interface::Other), None, "a boot sector does");
        assert_eq!(examined(&gpt(&EFI_SYSTEM, 0), Interface::Uefi), Some(Unbootable::NoSystemPartition));
    }
}
