//! The kernel command line: checked once, limited by what the kernel takes.

use crate::vmm::boot::BootError;

/// What the kernel gets: printable text without a NUL inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cmdline(String);

impl Cmdline {
    /// Takes `text` as it is.
    ///
    /// # Errors
    /// [`BootError::CmdlineCharacter`] for NUL and other control characters, which kernels cut the line at or misread.
    pub fn new(text: &str) -> Result<Self, BootError> {
        match text.char_indices().find(|(_, c)| c.is_control() && *c != '\t') {
            Some((position, _)) => Err(BootError::CmdlineCharacter { position }),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// The bytes with a final NUL.
    ///
    /// # Errors
    /// [`BootError::CmdlineLength`] if there are more than `limit_bytes`, not counting the NUL.
    pub fn with_nul(&self, limit_bytes: usize) -> Result<Vec<u8>, BootError> {
        if self.0.len() > limit_bytes {
            return Err(BootError::CmdlineLength { length: self.0.len(), limit: limit_bytes });
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1);
        bytes.extend_from_slice(self.0.as_bytes());
        bytes.push(0);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_long_lines_are_refused() {
        assert!(matches!(Cmdline::new("a\0b"), Err(BootError::CmdlineCharacter { position: 1 })));
        assert!(matches!(Cmdline::new("a\nb"), Err(BootError::CmdlineCharacter { .. })));
        let line = Cmdline::new("quiet").unwrap();
        assert_eq!(line.with_nul(5).unwrap(), b"quiet\0");
        assert!(matches!(line.with_nul(4), Err(BootError::CmdlineLength { length: 5, limit: 4 })));
    }
}
