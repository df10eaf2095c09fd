//! One structure of the table: a formatted part, and the strings that it names by number.
//!
//! SMBIOS 3.7 (DSP0134), 6.1.2 and 6.1.3.

/// A structure that is being written.
#[derive(Debug)]
pub(super) struct Structure {
    bytes: Vec<u8>,
    strings: Vec<u8>,
    count: u8,
}

impl Structure {
    /// A structure of this type with this handle.
    pub(super) fn new(kind: u8, handle: u16) -> Self {
        let [low, high] = handle.to_le_bytes();
        Self { bytes: vec![kind, 0, low, high], strings: Vec::new(), count: 0 }
    }

    /// Appends these bytes.
    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(super) fn byte(self, value: u8) -> Self {
        self.bytes(&[value])
    }

    pub(super) fn word(self, value: u16) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn dword(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn qword(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Appends the number of a string: 0 where it is empty.
    pub(super) fn string(mut self, text: &str) -> Self {
        let number = if self.add(text) { self.count } else { 0 };
        self.byte(number)
    }

    /// Adds strings to which no field refers (type 11), and how many they are.
    pub(super) fn list(mut self, texts: &[String]) -> Self {
        let before = self.count;
        for text in texts {
            self.add(text);
        }
        let count = self.count - before;
        self.byte(count)
    }

    /// Whether it is a string of the structure now.
    fn add(&mut self, text: &str) -> bool {
        let text = text.replace('\0', " ");
        let Some(count) = self.count.checked_add(1).filter(|_| !text.is_empty()) else { return false };
        self.count = count;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        true
    }

    /// The structure with its strings; without any there are two zeros behind it.
    pub(super) fn finish(self) -> Vec<u8> {
        let Self { mut bytes, mut strings, .. } = self;
        let length = u8::try_from(bytes.len()).expect("no formatted part is longer than 255 bytes");
        if let Some(field) = bytes.get_mut(1) {
            *field = length;
        }
        if strings.is_empty() {
            strings.push(0);
        }
        strings.push(0);
        bytes.extend(strings);
        bytes
    }
}
