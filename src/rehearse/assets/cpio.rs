//! A writer of cpio archives in the format that the kernel unpacks as its initial RAM file system.
//!
//! Spec: Linux, Documentation/driver-api/early-userspace/buffer-format.rst (format "newc", magic 070701). Archives
//! may be concatenated; later files replace earlier ones of the same name.

/// Type bits of `st_mode` (`inode(7)`).
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// An archive that grows in memory. All entries belong to root and have the time 0, so equal content gives equal
/// bytes.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    next_inode: u32,
}

/// A file that does not fit the format's 32-bit fields.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is too large for a cpio archive")]
pub struct TooLarge(pub String);

struct Entry<'a> {
    name: &'a str,
    mode: u32,
    device: (u32, u32),
    data: &'a [u8],
}

impl Archive {
    pub(crate) fn directory(&mut self, name: &str) -> Result<(), TooLarge> {
        self.entry(&Entry { name, mode: DIRECTORY | 0o755, device: (0, 0), data: &[] })
    }

    pub(crate) fn file(&mut self, name: &str, permissions: u32, data: &[u8]) -> Result<(), TooLarge> {
        self.entry(&Entry { name, mode: REGULAR | permissions, device: (0, 0), data })
    }

    pub(crate) fn symlink(&mut self, name: &str, target: &str) -> Result<(), TooLarge> {
        self.entry(&Entry { name, mode: SYMLINK | 0o777, device: (0, 0), data: target.as_bytes() })
    }

    pub(crate) fn character_device(&mut self, name: &str, major: u32, minor: u32) -> Result<(), TooLarge> {
        self.entry(&Entry { name, mode: CHARACTER | 0o600, device: (major, minor), data: &[] })
    }

    /// Ends the archive. Its length is a multiple of 512, so that another may follow.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, TooLarge> {
        self.entry(&Entry { name: "TRAILER!!!", mode: 0, device: (0, 0), data: &[] })?;
        self.pad(512);
        Ok(self.bytes)
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), TooLarge> {
        let too_large = |_| TooLarge(entry.name.to_owned());
        let size = u32::try_from(entry.data.len()).map_err(too_large)?;
        let name_size = u32::try_from(entry.name.len() + 1).map_err(too_large)?;
        self.next_inode += 1;
        self.bytes.extend_from_slice(b"070701");
        // ino, mode, uid, gid, nlink, mtime, filesize, dev major and minor, rdev major and minor, namesize, check
        let (major, minor) = entry.device;
        for field in [self.next_inode, entry.mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0] {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(entry.name.as_bytes());
        self.bytes.push(0);
        self.pad(4);
        self.bytes.extend_from_slice(entry.data);
        self.pad(4);
        Ok(())
    }

    fn pad(&mut self, alignment: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(alignment), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_the_bytes_of_the_specification() {
        let mut archive = Archive::default();
        archive.file("a", 0o644, b"hello").unwrap();

        let bytes = archive.finish().unwrap();

        let header = "07070100000001000081a4000000000000000000000001000000000000000500000000000000000000000000000000\
                      0000000200000000";
        assert_eq!(&bytes[..110], header.as_bytes());
        assert_eq!(&bytes[110..112], b"a\0");
        assert_eq!(&bytes[112..120], b"hello\0\0\0");
        assert_eq!(&bytes[120..126], b"070701");
        assert_eq!(bytes.len() % 512, 0);
    }

    #[test]
    fn devices_links_and_directories_carry_their_type() {
        let mut archive = Archive::default();
        archive.directory("dev").unwrap();
        archive.character_device("dev/console", 5, 1).unwrap();
        archive.symlink("bin/sh", "busybox").unwrap();

        let text = String::from_utf8(archive.finish().unwrap()).unwrap();

        for mode in ["000041ed", "00002180", "0000a1ff"] {
            assert!(text.contains(mode), "{mode}");
        }
        assert!(text.contains("0000000500000001"), "the device's numbers");
    }
}
