//! The firmware's variables: a file that is made from the firmware's template, checked, and locked as long as the machine
//! lives; or the template itself, where nothing shall be kept.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::error::{FirmwareError, VariablesProblem};
use crate::spec::firmware_volume::Header;
use crate::sys::lock::{LockKind, holder, try_lock};
use crate::vmm::boot::firmware::PAGE;
use crate::vmm::chipset::pflash::Image;
use crate::vmm::layout;

/// Headers are looked for in so many bytes.
const HEAD_BYTES: usize = 512;

/// What new variables are made from.
#[derive(Debug)]
pub(super) struct Template {
    file: File,
    size_bytes: u64,
}

impl Template {
    /// The first `size_bytes` of `file`.
    pub(super) fn new(file: File, size_bytes: u64) -> Self {
        Self { file, size_bytes }
    }

    /// The template that lies beside the code at `code`: the first of [`names`] that is a store of variables.
    pub(super) fn beside(code: &Path) -> Option<Self> {
        names(code).into_iter().find_map(|path| {
            let file = open_regular(&path, OpenOptions::new().read(true)).ok()?;
            let size_bytes = file.metadata().ok()?.len();
            check(&file, size_bytes).is_ok().then_some(Self { file, size_bytes })
        })
    }

    fn content(&self) -> io::Result<Vec<u8>> {
        let mut content = vec![0; usize::try_from(self.size_bytes).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut content, 0)?;
        Ok(content)
    }
}

/// Where the template for the code at `path` may lie: distributions call the pair CODE and VARS, and give several codes with
/// a suffix of their own the same template.
pub(super) fn names(path: &Path) -> Vec<PathBuf> {
    let Some(name) = path.file_name().and_then(OsStr::to_str) else { return Vec::new() };
    let pair = [("CODE", "VARS"), ("code", "vars")].into_iter().find(|(code, _)| name.contains(code));
    let Some((code, vars)) = pair else { return Vec::new() };
    let name = name.replacen(code, vars, 1);
    // `OVMF_VARS_4M.secboot.fd` is `OVMF_VARS_4M.fd`.
    let mut parts = name.split('.');
    let plain = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(stem), Some(_), Some(extension), None) => Some(format!("{stem}.{extension}")),
        _ => None,
    };
    std::iter::once(name.clone()).chain(plain).map(|name| path.with_file_name(name)).collect()
}

/// Variables of one machine.
#[derive(Debug)]
pub(super) struct Variables {
    path: PathBuf,
    file: File,
    size_bytes: u64,
    is_kept: bool,
}

impl Variables {
    /// The file at `path`, made from `template` if it does not exist. `code` is the firmware that they belong to.
    pub(super) fn open(path: &Path, template: Option<&Template>, code: &Path) -> Result<Self, FirmwareError> {
        let error = |problem| FirmwareError::Variables { path: path.to_owned(), problem };
        let missing = std::fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        if missing {
            let tried = || names(code).into_iter().next();
            let template = template.ok_or_else(|| error(VariablesProblem::NoTemplate { tried: tried() }))?;
            make(path, template).map_err(|source| error(VariablesProblem::Create(source)))?;
        }
        let file = open_regular(path, OpenOptions::new().read(true).write(true)).map_err(|problem| {
            error(match problem {
                VariablesProblem::Read(source)
                    if matches!(
                        source.kind(),
                        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
                    ) && File::open(path).is_ok() =>
                {
                    VariablesProblem::ReadOnly(source)
                }
                other => other,
            })
        })?;
        match try_lock(&file, LockKind::Exclusive) {
            Ok(true) => {}
            Ok(false) => return Err(error(VariablesProblem::InUse { holder: holder(&file) })),
            Err(source) => return Err(error(VariablesProblem::Lock(source))),
        }
        let size_bytes = file.metadata().map_err(|source| error(VariablesProblem::Read(source)))?.len();
        if let Some(template) = template
            && template.size_bytes != size_bytes
        {
            return Err(error(VariablesProblem::Size { size_bytes, expected_bytes: template.size_bytes }));
        }
        check(&file, size_bytes).map_err(error)?;
        Ok(Self { path: path.to_owned(), file, size_bytes, is_kept: true })
    }

    /// Variables as in `template`, which lies at `path`; what the guest changes is gone with the machine.
    pub(super) fn of_this_run(template: Template, path: &Path) -> Self {
        Self { path: path.to_owned(), file: template.file, size_bytes: template.size_bytes, is_kept: false }
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// What the flash holds at first, and keeps.
    pub(super) fn image(&self) -> Result<Image, FirmwareError> {
        let error = |source| FirmwareError::Copy { path: self.path.clone(), source };
        let image = Image::copy(&self.file, 0, self.size_bytes).map_err(error)?;
        // The descriptor shares its open file, and so the lock.
        Ok(if self.is_kept { image.kept_in(self.file.try_clone().map_err(error)?) } else { image })
    }
}

/// The type is looked at before the file is opened: opening a FIFO would wait for its writer.
fn open_regular(path: &Path, options: &OpenOptions) -> Result<File, VariablesProblem> {
    if !std::fs::metadata(path).map_err(VariablesProblem::Read)?.is_file() {
        return Err(VariablesProblem::NotAFile);
    }
    options.open(path).map_err(VariablesProblem::Read)
}

/// Whether `file` is a whole store of variables.
fn check(file: &File, size_bytes: u64) -> Result<(), VariablesProblem> {
    let mut head = [0; HEAD_BYTES];
    let count = usize::try_from(size_bytes).unwrap_or(HEAD_BYTES).min(HEAD_BYTES);
    let head = head.get_mut(..count).unwrap_or_default();
    file.read_exact_at(head, 0).map_err(VariablesProblem::Read)?;
    let header = Header::parse(head).map_err(VariablesProblem::Corrupt)?;
    if !header.holds_variables() {
        return Err(VariablesProblem::NotVariables);
    }
    let room = layout::FLASH.end - layout::FLASH.start;
    let expected_bytes = header.length_bytes;
    if expected_bytes != size_bytes || !size_bytes.is_multiple_of(PAGE) || size_bytes >= room {
        return Err(VariablesProblem::Size { size_bytes, expected_bytes });
    }
    Ok(())
}

/// Puts a copy of `template` at `path`, whole or not at all; a file that another process put there meanwhile stays.
fn make(path: &Path, template: &Template) -> io::Result<()> {
    let content = template.content()?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let fresh = tempfile::NamedTempFile::new_in(directory)?;
    fresh.as_file().write_all_at(&content, 0)?;
    fresh.as_file().sync_all()?;
    match fresh.persist_noclobber(path) {
        Err(error) if error.error.kind() != ErrorKind::AlreadyExists => Err(error.error),
        _ => Ok(()),
    }
}
