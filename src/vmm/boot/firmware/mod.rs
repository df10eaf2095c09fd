//! Firmware that starts in the guest, as a PC's does: its code at the end of the first 4 GiB, where the processor begins, and
//! its variables in a flash chip below.
//!
//! OVMF comes as one file with both, or as a pair of code and a template for variables. UEFI PI 1.7, volume 3, says what is in
//! them; SeaBIOS is code alone. Files are checked before the machine is built; `told` says what firmware is told of it.

mod bootable;
mod error;
mod told;
mod variables;

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::cmdline::Cmdline;
use super::{BootError, Entry, Source, linux};
use crate::spec::firmware_volume::Header;
use crate::vmm::chipset::fw_cfg::{Content, Items, key};
use crate::vmm::chipset::pflash::{Flash, Image};
use crate::vmm::config::{BootConfig, InterruptMode};
use crate::vmm::layout;
use crate::vmm::mapper::{Mapped, Mapper};
use crate::vmm::memory::GuestMemory;
use crate::vmm::smbios::Interface;

pub use error::{FirmwareError, Truncation, VariablesProblem};
pub use told::Told;
use variables::{Template, Variables};

const PAGE: u64 = 0x1000;
/// Bytes at the end of a PC's firmware that also answer below 1 MiB (Intel 3 Series datasheet, 3.3.6); SeaBIOS is run there.
const SHADOW_BYTES: u64 = 128 << 10;
/// Longest command line that is handed on; the kernel has a limit of its own.
const CMDLINE_LIMIT: usize = 4095;

/// Opened and checked firmware.
#[derive(Debug)]
pub struct Firmware {
    source: Source,
    /// Where code begins in the file; variables lie in front of it.
    code_offset: u64,
    variables: Option<Variables>,
    interface: Interface,
    kernel: Option<Kernel>,
}

/// A kernel that the firmware starts.
#[derive(Debug)]
struct Kernel {
    source: Source,
    setup_bytes: u64,
    initrd: Option<Source>,
    cmdline: Vec<u8>,
}

/// Firmware in its place.
#[derive(Debug)]
pub struct Placed {
    /// Keeps the code where it is.
    pub code: Mapped,
    /// What of it also answers below 1 MiB.
    pub shadow: Vec<u8>,
    /// The chip with the variables.
    pub flash: Option<Arc<Flash>>,
}

impl Firmware {
    /// Opens the files of `config` and checks everything that can be checked without the machine; none if there is no firmware
    /// in it.
    ///
    /// # Errors
    /// [`BootError`]: which file, what is wrong with it.
    pub fn open(config: &BootConfig) -> Result<Option<Self>, BootError> {
        let Some(path) = &config.firmware else { return Ok(None) };
        let source = Source::open("firmware", path)?;
        warn_of_secure_boot(path);
        let (embedded, interface) = check(&source)?;
        let template = match embedded {
            Some(size_bytes) => {
                Some(Template::new(source.file.try_clone().map_err(source.copy_error())?, size_bytes))
            }
            None => Template::beside(path),
        };
        let variables = match &config.firmware_vars {
            Some(vars) => Some(Variables::open(vars, template.as_ref(), path)?),
            None => template.map(|template| Variables::of_this_run(template, path)),
        };
        let size_bytes = variables.as_ref().map_or(0, Variables::size_bytes);
        let code_offset = embedded.unwrap_or(0);
        let all = size_bytes + (source.size_bytes - code_offset);
        if all > layout::FLASH.end - layout::FLASH.start {
            return Err(FirmwareError::TooLarge { path: path.clone(), size_bytes: all }.into());
        }
        let kernel = config.kernel.as_deref().map(|path| Kernel::open(path, config)).transpose()?;
        Ok(Some(Self { source, code_offset, variables, interface, kernel }))
    }

    /// Whether the firmware can run with interrupt controllers there.
    ///
    /// # Errors
    /// [`FirmwareError::NeedsApic`].
    pub fn check_interrupts(&self, interrupts: InterruptMode) -> Result<(), FirmwareError> {
        match (self.interface, interrupts) {
            (Interface::Uefi, InterruptMode::Userspace) => {
                Err(FirmwareError::NeedsApic { path: self.source.path.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Puts code and variables where the processor and the firmware look for them.
    ///
    /// # Errors
    /// [`FirmwareError::Copy`], [`FirmwareError::Place`].
    pub fn place(&self, mapper: &Arc<dyn Mapper>) -> Result<Placed, FirmwareError> {
        let size_bytes = self.source.size_bytes - self.code_offset;
        let error = |source| FirmwareError::Copy { path: self.source.path.clone(), source };
        let image = Image::copy(&self.source.file, self.code_offset, size_bytes).map_err(error)?;
        let start = layout::FLASH.end - size_bytes;
        let code = mapper.map_read_only(start, image.memory(), size_bytes).map_err(FirmwareError::Place)?;
        let shadow_bytes = SHADOW_BYTES.min(size_bytes);
        let mut shadow = vec![0; usize::try_from(shadow_bytes).unwrap_or(0)];
        image.read(size_bytes - shadow_bytes, &mut shadow).map_err(error)?;
        let flash = self.variables.as_ref().map(|variables| {
            let image = variables.image()?;
            let address = start - image.size_bytes();
            Flash::new(image, address, Arc::clone(mapper)).map(Arc::new).map_err(FirmwareError::Place)
        });
        Ok(Placed { code, shadow, flash: flash.transpose()? })
    }

    /// What the guest is started by, as far as the file tells: only UEFI has volumes.
    #[must_use]
    pub fn interface(&self) -> Interface {
        self.interface
    }

    /// Adds the kernel that the firmware shall start, if there is one.
    fn add_kernel(&self, items: &mut Items) {
        if let Some(kernel) = &self.kernel {
            kernel.add(items);
        }
    }
}

impl Placed {
    /// Where the first processor begins, with the last of the code below 1 MiB. RAM must be clear.
    ///
    /// # Errors
    /// [`BootError::BootData`] if there is no RAM below 1 MiB.
    pub fn load(&self, memory: &GuestMemory) -> Result<Entry, BootError> {
        memory.write(layout::KERNEL_START - self.shadow.len() as u64, &self.shadow)?;
        Ok(Entry::PowerOn)
    }
}

/// Debian and others build OVMF for secure boot so that it runs in system management mode, and stops without a word where there is
/// none. Nothing but its name tells.
fn warn_of_secure_boot(path: &Path) {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if real.file_name().is_some_and(|name| name.to_string_lossy().contains("secboot")) {
        tracing::warn!(
            "firmware {} seems to be built for secure boot, which needs a system management mode that this machine does not have: \
             it may stop without a word (OVMF_CODE_4M.fd does not need it)",
            path.display()
        );
    }
}

/// Whether `source` is firmware; how many bytes of it are variables, which stand in front of the code, and what it is.
fn check(source: &Source) -> Result<(Option<u64>, Interface), BootError> {
    let (path, size_bytes) = (source.path.clone(), source.size_bytes);
    if size_bytes > layout::FLASH.end - layout::FLASH.start {
        return Err(FirmwareError::TooLarge { path, size_bytes }.into());
    }
    if !size_bytes.is_multiple_of(PAGE) {
        return Err(FirmwareError::Truncated { path, problem: Truncation::Page(size_bytes) }.into());
    }
    // Volume after volume; SeaBIOS has none.
    let (mut at, mut variables) = (0, None);
    while at < size_bytes {
        let Ok(volume) = Header::parse(&source.peek(at, 512)?) else { break };
        let (length, left) = (volume.length_bytes, size_bytes - at);
        if length > left {
            let problem = Truncation::Volume { at, length, left };
            return Err(FirmwareError::Truncated { path, problem }.into());
        }
        if at == 0 && volume.holds_variables() {
            if length == size_bytes {
                return Err(FirmwareError::OnlyVariables { path }.into());
            }
            variables = Some(length).filter(|length| length.is_multiple_of(PAGE));
        }
        at += length;
    }
    let vector = source.peek(size_bytes - 16, 16)?;
    if vector.iter().all(|byte| *byte == 0) || vector.iter().all(|byte| *byte == 0xFF) {
        return Err(FirmwareError::NoResetVector { path }.into());
    }
    Ok((variables, if at > 0 { Interface::Uefi } else { Interface::Other }))
}

impl Source {
    fn copy_error(&self) -> impl FnOnce(io::Error) -> FirmwareError {
        move |source| FirmwareError::Copy { path: self.path.clone(), source }
    }

    /// A part of the file as an item.
    fn part(&self, offset: u64, length: u64) -> Result<Content, FirmwareError> {
        let file = self.file.try_clone().map_err(self.copy_error())?;
        Ok(Content::File { file: Arc::new(file), offset, length })
    }
}

impl Kernel {
    fn open(path: &Path, config: &BootConfig) -> Result<Self, BootError> {
        let source = Source::open("kernel", path)?;
        let head = source.peek(0, linux::HEADER_PROBE)?;
        let not_for_firmware = || FirmwareError::NotForFirmware { path: path.to_owned() };
        let header = linux::Header::parse(&source, &head)?;
        // An EFI stub is a Windows executable as well (UEFI 2.10, 2.1.1).
        let header = header.filter(|_| head.starts_with(b"MZ")).ok_or_else(not_for_firmware)?;
        let initrd = config.initrd.as_deref().map(|path| Source::open("initrd", path)).transpose()?;
        let limit = header.cmdline_limit().min(CMDLINE_LIMIT);
        let cmdline = Cmdline::new(&config.cmdline)?.with_nul(limit)?;
        Ok(Self { setup_bytes: header.code_offset(), source, initrd, cmdline })
    }

    fn add(&self, items: &mut Items) {
        let size = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes().to_vec();
        let code_bytes = self.source.size_bytes - self.setup_bytes;
        let mut part = |size_key, data_key, source: &Source, offset, length| match source.part(offset, length)
        {
            Ok(content) => {
                items.item(size_key, size(length));
                items.item(data_key, content);
            }
            Err(error) => tracing::error!(%error, "the firmware gets no kernel"),
        };
        part(key::SETUP_SIZE, key::SETUP_DATA, &self.source, 0, self.setup_bytes);
        part(key::KERNEL_SIZE, key::KERNEL_DATA, &self.source, self.setup_bytes, code_bytes);
        if let Some(initrd) = &self.initrd {
            part(key::INITRD_SIZE, key::INITRD_DATA, initrd, 0, initrd.size_bytes);
        }
        items.item(key::CMDLINE_SIZE, size(self.cmdline.len() as u64));
        items.item(key::CMDLINE_DATA, self.cmdline.clone());
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
