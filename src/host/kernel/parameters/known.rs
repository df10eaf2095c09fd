//! What is known of one parameter: what it takes, what it does, and what it needs to do it.

use serde::Serialize;

/// What a parameter is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The IOMMU and the remapping of interrupts.
    Iommu,
    /// VFIO and what else holds devices back for guests.
    Vfio,
    /// KVM.
    Kvm,
    /// PCI.
    Pci,
    /// The console's framebuffer, which can hold a display adapter's memory.
    Display,
    /// Memory.
    Memory,
    /// Processors.
    Cpu,
    /// Interrupt controllers.
    Interrupts,
    /// Modules: which are loaded, which are not.
    Modules,
}

/// What a parameter takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Takes {
    /// Nothing; what is given is not looked at.
    Nothing,
    /// Yes or no (Linux: lib/kstrtox.c, `kstrtobool`); nothing is yes.
    Switch,
    /// A whole number.
    Number,
    /// Bytes (Linux: lib/cmdline.c, `memparse`).
    Size,
    /// Something that is not looked into here.
    Text,
    /// A list of CPUs, maybe behind flags (Linux: lib/bitmap.c, `bitmap_parselist`).
    Cpus(&'static [&'static str]),
    /// One or more of these words, with commas between them.
    Words(&'static [Word]),
}

/// A word that a parameter takes. One that ends with `=` or `:` has a value of its own behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word {
    pub(super) word: &'static str,
    pub(super) meaning: &'static str,
    /// The word that takes it back; the last of the two wins.
    pub(super) opposite: &'static str,
    /// The first version of Linux that knows it.
    pub(super) since: (u32, u32),
}

/// What must be so for a parameter to do something.
#[derive(Debug, Clone, Copy)]
pub(super) enum Need {
    /// Intel's VT-d.
    VtD,
    /// AMD-Vi.
    AmdVi,
    /// A processor with VT-x.
    VtX,
    /// A processor with AMD-V.
    AmdV,
    /// This version of Linux or a later one.
    Since(u32, u32),
    /// An option of the kernel's configuration, without `CONFIG_`.
    Option(&'static str),
    /// A module, or the same as a part of the kernel.
    Module(&'static str),
    /// The patch that overrides access control services, which Linux itself never took.
    AcsPatch,
    /// A framebuffer of that name, and not simpledrm in its place.
    OldFramebuffer,
    /// An initial RAM file system of dracut.
    Dracut,
}

/// A parameter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) subject: Subject,
    pub(super) takes: Takes,
    pub(super) meaning: &'static str,
    pub(super) needs: &'static [Need],
    /// Whether each of several counts; else the last one wins.
    pub(super) each: bool,
}

/// A parameter that needs nothing and of which the last one wins.
pub(super) const fn row(name: &'static str, subject: Subject, takes: Takes, meaning: &'static str) -> Known {
    Known { name, subject, takes, meaning, needs: &[], each: matches!(takes, Takes::Words(_)) }
}

/// A word without an opposite.
pub(super) const fn word(word: &'static str, meaning: &'static str) -> Word {
    Word { word, meaning, opposite: "", since: (0, 0) }
}

impl Known {
    pub(super) const fn needs(self, needs: &'static [Need]) -> Self {
        Self { needs, ..self }
    }

    pub(super) const fn each(self) -> Self {
        Self { each: true, ..self }
    }
}

impl Word {
    pub(super) const fn opposite(self, opposite: &'static str) -> Self {
        Self { opposite, ..self }
    }

    pub(super) const fn since(self, major: u32, minor: u32) -> Self {
        Self { since: (major, minor), ..self }
    }

    /// Whether `text` is this word.
    pub(super) fn is(&self, text: &str) -> bool {
        text == self.word || (self.word.ends_with(['=', ':']) && text.starts_with(self.word))
    }
}
