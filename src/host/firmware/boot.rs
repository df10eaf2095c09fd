//! How firmware started the kernel: UEFI or BIOS, Secure Boot, and the lockdown that follows from it.

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::source::Source;

const FIRMWARE: &str = "/sys/firmware";
const EFI: &str = "/sys/firmware/efi";
/// The directory of UEFI variables; empty where nobody mounted efivarfs.
const VARIABLES: &str = "/sys/firmware/efi/efivars";
/// Variable `SecureBoot` of EFI_GLOBAL_VARIABLE (UEFI 2.10, 3.3): 1 while firmware enforces it.
const SECURE_BOOT: &str = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Bytes of attributes before a variable's value (Linux: Documentation/filesystems/efivarfs.rst).
const ATTRIBUTES: usize = 4;
const SECURITY: &str = "/sys/kernel/security";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

/// The interface over which firmware started the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BootMode {
    /// UEFI.
    Uefi,
    /// The BIOS of the PC, or UEFI's imitation of it (CSM).
    Bios,
}

impl BootMode {
    /// Reads which it was: with UEFI the kernel has a directory for it, and the directory above has others anyway, unless
    /// a container covers it.
    pub(super) fn collect(source: &dyn Source) -> Fact<Self> {
        source.list(FIRMWARE).and_then(|names| {
            if names.iter().any(|name| name == "efi") {
                Fact::Known(Self::Uefi)
            } else if names.is_empty() {
                Fact::Unreadable {
                    source: FIRMWARE.to_owned(),
                    reason: "it is empty here (a container covers it)".to_owned(),
                }
            } else {
                Fact::Known(Self::Bios)
            }
        })
    }
}

/// Whether firmware enforces Secure Boot; absent where it has none (BIOS).
pub(super) fn secure_boot(source: &dyn Source, mode: &Fact<BootMode>) -> Fact<bool> {
    match mode {
        Fact::Known(BootMode::Uefi) => {}
        Fact::Known(BootMode::Bios) => return Fact::NotPresent,
        unread => return unread.as_ref().map(|_| false),
    }
    match source.read(SECURE_BOOT) {
        Fact::NotPresent => match source.list(VARIABLES) {
            // Firmware without the variable cannot do Secure Boot.
            Fact::Known(names) if !names.is_empty() => Fact::NotPresent,
            Fact::Known(_) | Fact::NotPresent => Fact::Unreadable {
                source: VARIABLES.to_owned(),
                reason: format!("no UEFI variables are shown here (efivarfs is not mounted below {EFI})"),
            },
            unread => unread.map(|_| false),
        },
        variable => variable.parse(SECURE_BOOT, |bytes| match bytes.get(ATTRIBUTES..) {
            Some([0]) => Ok(false),
            Some([1]) => Ok(true),
            _ => Err(format!("{} bytes are not a variable of one byte that is 0 or 1", bytes.len())),
        }),
    }
}

/// The kernel's lockdown: `none`, `integrity` or `confidentiality`, the word in brackets (Linux: security/lockdown);
/// absent where the kernel has none.
pub(super) fn lockdown(source: &dyn Source) -> Fact<String> {
    match source.text(LOCKDOWN) {
        Fact::NotPresent => match source.list(SECURITY) {
            Fact::Known(names) if !names.is_empty() => Fact::NotPresent,
            Fact::Known(_) | Fact::NotPresent => Fact::Unreadable {
                source: SECURITY.to_owned(),
                reason: "securityfs is not mounted here".to_owned(),
            },
            unread => unread.map(|_| String::new()),
        },
        text => text.parse(LOCKDOWN, |text| {
            let mut words = text.split_ascii_whitespace();
            words
                .find_map(|word| Some(word.strip_prefix('[')?.strip_suffix(']')?.to_owned()))
                .ok_or_else(|| format!("`{}` has no word in brackets", parse::excerpt(&text)))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::source::fake::{Entry, FakeHost};

    fn modes(entries: &[(&str, Entry<'_>)]) -> (Fact<BootMode>, Fact<bool>) {
        let host = FakeHost::new(entries);
        let mode = BootMode::collect(&host.source());
        let secure = secure_boot(&host.source(), &mode);
        (mode, secure)
    }

    #[test]
    fn uefi_with_secure_boot_on_and_off() {
        for (value, on) in [(1, true), (0, false)] {
            let (mode, secure) = modes(&[(SECURE_BOOT, Entry::Bytes(&[6, 0, 0, 0, value]))]);
            assert_eq!((mode, secure), (Fact::Known(BootMode::Uefi), Fact::Known(on)));
        }
    }

    #[test]
    fn a_variable_of_another_size_or_value_says_nothing() {
        for bytes in [&[][..], &[6, 0, 0, 0], &[6, 0, 0, 0, 2], &[6, 0, 0, 0, 1, 1]] {
            let (_, secure) = modes(&[(SECURE_BOOT, Entry::Bytes(bytes))]);
            assert!(secure.is_unread(), "{bytes:?}");
        }
    }

    #[test]
    fn uefi_without_variables_leaves_secure_boot_unknown() {
        let (mode, secure) = modes(&[(VARIABLES, Entry::Directory)]);
        assert_eq!(mode, Fact::Known(BootMode::Uefi));
        assert!(secure.is_unread());
    }

    #[test]
    fn firmware_without_the_variable_has_no_secure_boot() {
        let other = format!("{VARIABLES}/Boot0000-8be4df61-93ca-11d2-aa0d-00e098032b8c");
        let (_, secure) = modes(&[(&other, Entry::Bytes(&[7, 0, 0, 0]))]);
        assert_eq!(secure, Fact::NotPresent);
    }

    #[test]
    fn bios_has_no_secure_boot() {
        let (mode, secure) = modes(&[("/sys/firmware/acpi/tables", Entry::Directory)]);
        assert_eq!((mode, secure), (Fact::Known(BootMode::Bios), Fact::NotPresent));
    }

    #[test]
    fn a_container_hides_both() {
        let (mode, secure) = modes(&[(FIRMWARE, Entry::Directory)]);
        assert!(mode.is_unread() && secure.is_unread());
    }

    #[test]
    fn lockdown_is_the_word_in_brackets() {
        let host = FakeHost::new(&[(LOCKDOWN, Entry::Text("none [integrity] confidentiality"))]);
        assert_eq!(lockdown(&host.source()), Fact::Known("integrity".to_owned()));
        host.add(&[(LOCKDOWN, Entry::Text("none"))]);
        assert!(lockdown(&host.source()).is_unread());
    }

    #[test]
    fn a_kernel_without_lockdown_differs_from_one_that_shows_nothing() {
        let host = FakeHost::new(&[("/sys/kernel/security/lsm", Entry::Text("capability"))]);
        assert_eq!(lockdown(&host.source()), Fact::NotPresent);
        assert!(lockdown(&FakeHost::new(&[(SECURITY, Entry::Directory)]).source()).is_unread());
    }
}
