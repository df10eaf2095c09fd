//! The kernel of emulated hosts and their guests: unpacked from a distribution's package, never installed.
//!
//! Two forms are kept: the bzImage (`vmlinuz`) and the ELF image inside it (`vmlinux`), which boots by PVH without
//! unpacking itself first. Spec: Linux, Documentation/arch/x86/boot.rst, fields `setup_sects`, `payload_offset` and
//! `payload_length` (protocol 2.08).

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::packages::version_key;
use super::{AssetsError, Cache, run};

/// A kernel in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// What `uname -r` says in it.
    pub release: String,
    /// The bzImage.
    pub bzimage: PathBuf,
    /// The ELF image with a PVH note.
    pub vmlinux: PathBuf,
    /// Its modules, as under `/lib/modules/RELEASE`.
    pub modules: PathBuf,
}

impl Kernel {
    fn at(directory: &Path, release: &str) -> Self {
        Self {
            release: release.to_owned(),
            bzimage: directory.join("vmlinuz"),
            vmlinux: directory.join("vmlinux"),
            modules: directory.join("modules"),
        }
    }

    /// The newest kernel in the cache.
    pub(super) fn newest(cache: &Cache) -> Result<Option<Self>, AssetsError> {
        let path = cache.path("kernel");
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            entries => entries.map_err(|source| AssetsError::Io { path: path.clone(), source })?,
        };
        Ok(entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.'))
            .max_by_key(|name| version_key(name))
            .map(|release| Self::at(&path.join(&release), &release)))
    }

    /// Adds the kernel of the package file `package` to the cache.
    pub(super) fn unpack(cache: &Cache, package: &Path) -> Result<Self, AssetsError> {
        let scratch = tempfile::Builder::new()
            .prefix(".unpack-")
            .tempdir_in(cache.directory("")?)
            .map_err(|source| AssetsError::Io { path: cache.path(""), source })?;
        let root = scratch.path();
        run(Command::new("dpkg-deb").arg("--extract").arg(package).arg(root))?;
        // Since Debian 13 everything is under /usr.
        let base = if root.join("usr/lib/modules").is_dir() { root.join("usr") } else { root.to_owned() };
        let release = only_entry(&base.join("lib/modules"))?;
        let modules = base.join("lib/modules").join(&release);
        let bzimage = [root.join("boot").join(format!("vmlinuz-{release}")), modules.join("vmlinuz")]
            .into_iter()
            .find(|path| path.exists())
            .ok_or_else(|| bad(package, "the package holds no vmlinuz"))?;
        run(Command::new("depmod").arg("-b").arg(&base).arg(&release))?;
        let image = fs::read(&bzimage).map_err(|source| AssetsError::Io { path: bzimage.clone(), source })?;
        let vmlinux = inner_image(&image, &bzimage)?;
        let directory = cache.publish_directory(&format!("kernel/{release}"), |fresh| {
            let kernel = Self::at(fresh, &release);
            let fill = || {
                fs::rename(&modules, &kernel.modules)?;
                fs::rename(&bzimage, &kernel.bzimage)?;
                fs::write(&kernel.vmlinux, &vmlinux)
            };
            fill().map_err(|source| AssetsError::Io { path: fresh.to_owned(), source })
        })?;
        Ok(Self::at(&directory, &release))
    }
}

fn bad(path: &Path, reason: &str) -> AssetsError {
    AssetsError::BadKernel { path: path.to_owned(), reason: reason.to_owned() }
}

fn only_entry(directory: &Path) -> Result<String, AssetsError> {
    let io = |source| AssetsError::Io { path: directory.to_owned(), source };
    let mut entries = fs::read_dir(directory).map_err(io)?;
    let first = entries.next().transpose().map_err(io)?;
    let name = first.and_then(|entry| entry.file_name().into_string().ok());
    match (name, entries.next()) {
        (Some(name), None) => Ok(name),
        _ => Err(bad(directory, "expected the modules of one kernel")),
    }
}

/// The ELF image that a bzImage unpacks when it boots.
fn inner_image(bzimage: &[u8], path: &Path) -> Result<Vec<u8>, AssetsError> {
    let payload = payload(bzimage).ok_or_else(|| bad(path, "no bzImage of protocol 2.08 or later"))?;
    let (compressed, size) = payload
        .split_last_chunk::<4>()
        .map(|(rest, size)| (rest, u32::from_le_bytes(*size)))
        .ok_or_else(|| bad(path, "its payload is empty"))?;
    // The build appends the unpacked size where the format has no such field; gzip ends with it by itself.
    let (program, input) = match compressed.get(..4) {
        Some([0x28, 0xb5, 0x2f, 0xfd]) => ("zstd", compressed),
        Some([0xfd, b'7', b'z', b'X']) => ("xz", compressed),
        Some([0x1f, 0x8b, ..]) => ("gzip", payload),
        _ => {
            return Err(bad(path, "its payload is compressed by a method that is none of zstd, xz and gzip"));
        }
    };
    let image = filter(Command::new(program).arg("-dc"), input)?;
    if !image.starts_with(b"\x7fELF") || u32::try_from(image.len()) != Ok(size) {
        return Err(bad(path, "its payload did not unpack to an ELF image of the size that it states"));
    }
    Ok(image)
}

fn payload(bzimage: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| {
        let bytes = bzimage.get(at..at.checked_add(4)?)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    let version = u16::from_le_bytes(bzimage.get(0x206..0x208)?.try_into().ok()?);
    if bzimage.get(0x202..0x206)? != b"HdrS" || version < 0x208 {
        return None;
    }
    let setup_sectors = match *bzimage.get(0x1f1)? {
        0 => 4,
        count => usize::from(count),
    };
    let start = (setup_sectors + 1).checked_mul(512)?.checked_add(word(0x248)?)?;
    bzimage.get(start..start.checked_add(word(0x24c)?)?)
}

/// Runs a program with `input` on its standard input.
fn filter(command: &mut Command, input: &[u8]) -> Result<Vec<u8>, AssetsError> {
    let not_run =
        |command: &Command, source| AssetsError::NotRun { program: super::command_line(command), source };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| not_run(command, source))?;
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that ends early closes its end; its status says why.
            stdin.map(|mut stdin| stdin.write_all(input))
        });
        child.wait_with_output()
    })
    .map_err(|source| not_run(command, source))?;
    if !output.status.success() {
        return Err(AssetsError::Failed {
            program: super::command_line(command),
            status: output.status,
            stderr: super::tail(&String::from_utf8_lossy(&output.stderr)),
        });
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bzimage(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 2048];
        image[0x1f1] = 2;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image.truncate(3 * 512);
        image.resize(3 * 512 + 16, 0);
        image.extend_from_slice(payload);
        image
    }

    #[test]
    fn payload_is_found_behind_the_set_up_sectors() {
        assert_eq!(payload(&bzimage(b"payload")), Some(&b"payload"[..]));
    }

    #[test]
    fn truncated_and_foreign_files_are_no_bzimage() {
        let whole = bzimage(b"payload");

        assert_eq!(payload(&whole[..whole.len() - 1]), None);
        assert_eq!(payload(&[0; 4096]), None);
        assert_eq!(payload(b""), None);
    }

    #[test]
    fn unknown_compression_is_named() {
        let error = inner_image(&bzimage(b"LZ4 or so 1234"), Path::new("vmlinuz")).unwrap_err();

        assert!(error.to_string().contains("none of zstd, xz and gzip"), "{error}");
    }
}
