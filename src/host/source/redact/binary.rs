//! Files that are no text: those whose layout we know lose their numbers, the others are left out.

use super::placeholder;
use super::text::{Scope, TextRedactor};
use crate::spec::pci::walk;
use crate::spec::pcie::ExtendedCapabilityId;

/// Tables that hold licence keys (Microsoft: Software Licensing Tables, MSDM and SLIC).
const LICENCES: [&str; 2] = ["MSDM", "SLIC"];

/// Variables of UEFI that say how it is set up and which loader ran, and nothing about whom (UEFI 2.10, 3.3; systemd:
/// Boot Loader Interface).
const VARIABLES: [&str; 3] = ["SecureBoot-", "SetupMode-", "LoaderInfo-"];

/// The bytes of the file at `path` without what is known to be unique; `None` if it has to be left out.
pub(super) fn redact(redactor: &mut TextRedactor, path: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let is_config = name == "config" && path.starts_with("/sys/");
    let is_table = path.starts_with("/sys/firmware/acpi/tables/") && !LICENCES.contains(&name);
    let is_ids = path.ends_with("/pci.ids") || path.ends_with("/usb.ids");
    let is_variable = path.starts_with("/sys/firmware/efi/efivars/")
        && VARIABLES.iter().any(|variable| name.starts_with(variable));
    if !(is_config || is_table || is_ids || is_variable) {
        return None;
    }
    let mut bytes = bytes.to_vec();
    if is_config {
        blank_serial_number(redactor, &mut bytes);
    }
    let words: Vec<Vec<u8>> = redactor.learnt().map(|word| word.as_bytes().to_vec()).collect();
    for word in words {
        replace(&mut bytes, &word, &vec![b'X'; word.len()]);
    }
    let addresses: Vec<_> = redactor
        .placeholders
        .hardware_addresses()
        .filter_map(|(address, number)| {
            let address: Option<Vec<u8>> =
                address.split(':').map(|pair| u8::from_str_radix(pair, 16).ok()).collect();
            let address = address?;
            let instead = placeholder::hardware_address(address.len(), number);
            Some((address, instead))
        })
        .collect();
    for (address, instead) in addresses {
        replace(&mut bytes, &address, &instead);
        let reversed = |bytes: &[u8]| bytes.iter().rev().copied().collect::<Vec<_>>();
        replace(&mut bytes, &reversed(&address), &reversed(&instead));
    }
    Some(bytes)
}

/// Replaces the number in the Device Serial Number capability, an EUI-64 (PCIe 6.0, 7.9.3).
fn blank_serial_number(redactor: &mut TextRedactor, config: &mut [u8]) {
    const AT: usize = 4;
    const SIZE: usize = 8;
    for found in walk::extended_capabilities(config).found {
        if ExtendedCapabilityId(found.id) != ExtendedCapabilityId::SERIAL_NUMBER {
            continue;
        }
        let start = usize::from(found.offset) + AT;
        if let Some(number) = config.get_mut(start..start + SIZE)
            && number.iter().any(|byte| !matches!(byte, 0 | 0xFF))
        {
            // Low half first, each half little-endian: backwards it reads as it is written down.
            let text = number.iter().rev().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
            let instead = redactor.redact(&text, Scope::Kernel);
            let bytes = instead.rsplit(':').map(|pair| u8::from_str_radix(pair, 16).unwrap_or(0));
            for (place, byte) in number.iter_mut().zip(bytes) {
                *place = byte;
            }
        }
    }
}

/// Replaces every `old` by `new`, which is as long.
fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    let mut at = 0;
    while let Some(window) = bytes.get_mut(at..at + old.len()).filter(|window| !window.is_empty()) {
        if window == old {
            window.copy_from_slice(new);
            at += old.len();
        } else {
            at += 1;
        }
    }
}
