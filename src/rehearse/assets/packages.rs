//! Finding programs, and getting what is missing from the distribution through apt.
//!
//! QEMU must be 8.2 or later (its `igb` has SR-IOV). Debian 12 has that only in its backports suite, an ordinary
//! suite of the same mirror that apt prefers for nothing unless it is named; a sources file for it is derived from
//! the mirror that the running suite comes from, as apt itself states it. The kernel and busybox are downloaded by
//! `apt-get download`, which checks them against the signed index, and unpacked into the cache.
//!
//! Spec: `apt-get(8)`, `--print-uris` and download; `sources.list(5)`, deb822 format.

use std::cmp::Reverse;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{AssetsError, Cache, Kernel, command_line, find_program, is_executable, run, tail};
use crate::rehearse::progress::{Progress, during};

/// The oldest QEMU that will do.
const OLDEST_QEMU: (u32, u32) = (8, 2);
/// The series of kernels that emulated hosts are proved with.
const KERNEL_SERIES: &str = "6.12";
const QEMU_PACKAGES: [&str; 2] = ["qemu-system-x86", "seabios"];
const SOURCES_FILE: &str = "/etc/apt/sources.list.d/thruway-backports.sources";
const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Programs, and the package of each: to build the parts of emulated hosts, and to look around in them.
const PROGRAMS: [(&str, &str); 5] =
    [("xz", "xz-utils"), ("zstd", "zstd"), ("depmod", "kmod"), ("lspci", "pciutils"), ("nvme", "nvme-cli")];

/// Something that an emulated host needs and this machine does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// QEMU, or a QEMU that is new enough.
    Qemu {
        /// The version that is there and too old, as it says itself.
        found: Option<String>,
    },
    /// A program of a package.
    Program {
        /// Its name.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// A static busybox.
    Busybox,
    /// A kernel of the series.
    Kernel,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = OLDEST_QEMU;
        match self {
            Self::Qemu { found: None } => write!(f, "QEMU {major}.{minor} or later"),
            Self::Qemu { found: Some(found) } => write!(f, "QEMU {major}.{minor} or later (here: {found})"),
            Self::Program { program, .. } => f.write_str(program),
            Self::Busybox => f.write_str("a static busybox"),
            Self::Kernel => write!(f, "a kernel {KERNEL_SERIES}"),
        }
    }
}

/// What is missing, and the commands that bring it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What is missing.
    pub missing: Vec<Missing>,
    /// Shell commands, in order; with `sudo` where this process is not root.
    pub commands: Vec<String>,
    steps: Vec<Step>,
}

impl Plan {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// What is missing, in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let names: Vec<String> = self.missing.iter().map(Missing::to_string).collect();
        names.join(", ")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    AddSource(String),
    Root(Vec<String>),
    FetchBusybox,
    FetchKernel,
}

/// What was found, without what is missing.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) qemu: Option<PathBuf>,
    pub(super) kernel: Option<Kernel>,
    pub(super) busybox: Option<PathBuf>,
}

/// Looks for what an emulated host cannot start without.
pub(super) fn find(cache: &Cache) -> Result<Found, AssetsError> {
    Ok(Found { qemu: qemu().ok(), kernel: Kernel::newest(cache)?, busybox: busybox(cache) })
}

/// QEMU, or what is wrong with the one that is there.
fn qemu() -> Result<PathBuf, Missing> {
    let path = find_program("qemu-system-x86_64").ok_or(Missing::Qemu { found: None })?;
    let text = run(Command::new(&path).arg("--version")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let version = qemu_version(&text);
    if version.is_some_and(|version| version >= OLDEST_QEMU) {
        return Ok(path);
    }
    Err(Missing::Qemu { found: Some(text.lines().next().unwrap_or("no version").to_owned()) })
}

fn qemu_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("QEMU emulator version ")?.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn busybox(cache: &Cache) -> Option<PathBuf> {
    find_program("busybox")
        .into_iter()
        .chain([cache.path("bin/busybox")])
        .find(|path| is_executable(path) && fs::read(path).is_ok_and(|image| is_static(&image)))
}

/// Whether an ELF executable needs no interpreter. Spec: ELF-64 object file format 1.5, program headers; `PT_INTERP`
/// is 3.
fn is_static(image: &[u8]) -> bool {
    let word = |at: usize, length: usize| -> Option<u64> {
        let mut bytes = [0; 8];
        bytes.get_mut(..length)?.copy_from_slice(image.get(at..at.checked_add(length)?)?);
        Some(u64::from_le_bytes(bytes))
    };
    let interpreters = || {
        let start = usize::try_from(word(0x20, 8)?).ok()?;
        let size = usize::try_from(word(0x36, 2)?).ok()?;
        let count = usize::try_from(word(0x38, 2)?).ok()?;
        (0..count)
            .map(|index| word(start.checked_add(index.checked_mul(size)?)?, 4))
            .try_fold(0, |sum, kind| kind.map(|kind| sum + usize::from(kind == 3)))
    };
    image.starts_with(b"\x7fELF\x02\x01") && interpreters() == Some(0)
}

/// What is missing and how it would come. Changes nothing.
pub(super) fn plan(cache: &Cache) -> Result<Plan, AssetsError> {
    let mut missing = Vec::new();
    missing.extend(qemu().err());
    missing.extend(
        PROGRAMS
            .iter()
            .filter(|(program, _)| find_program(program).is_none())
            .map(|(program, package)| Missing::Program { program, package }),
    );
    let found = find(cache)?;
    missing.extend(found.busybox.is_none().then_some(Missing::Busybox));
    missing.extend(found.kernel.is_none().then_some(Missing::Kernel));
    if missing.is_empty() {
        return Ok(Plan::default());
    }
    let summary = Plan { missing: missing.clone(), ..Plan::default() }.summary();
    let unsupported =
        |reason: &str| AssetsError::Unsupported { missing: summary.clone(), reason: reason.to_owned() };
    if find_program("apt-get").is_none() || find_program("dpkg-deb").is_none() {
        return Err(unsupported(
            "this is no Debian or a distribution derived from it (no apt-get); install it by hand",
        ));
    }
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    // Unlike indextargets, this lists the suites before their indexes were ever fetched.
    let uris = run(Command::new("apt-get").args(["update", "--print-uris"]))?;
    let keyring = Path::new(DEBIAN_KEYRING).exists();
    let steps = steps(&missing, &release, &String::from_utf8_lossy(&uris), keyring)
        .map_err(|reason| unsupported(&reason))?;
    let prefix = if nix::unistd::geteuid().is_root() { "" } else { "sudo " };
    let commands = steps.iter().map(|step| step.describe(prefix, cache)).collect();
    Ok(Plan { missing, commands, steps })
}

impl Step {
    fn describe(&self, prefix: &str, cache: &Cache) -> String {
        let into_cache = |package: &str| {
            let directory = cache.path("").display().to_string();
            format!("apt-get download {package} && dpkg-deb --extract {package}_*.deb {directory}")
        };
        match self {
            Self::AddSource(text) => {
                format!("printf '{}' | {prefix}tee {SOURCES_FILE}", text.replace('\n', "\\n"))
            }
            Self::Root(words) => format!("{prefix}{}", words.join(" ")),
            Self::FetchBusybox => into_cache("busybox-static"),
            Self::FetchKernel => into_cache(&format!("linux-image-{KERNEL_SERIES}.*-amd64")),
        }
    }
}

/// The steps for what is missing: a pure function of what the system said.
fn steps(missing: &[Missing], os_release: &str, uris: &str, keyring: bool) -> Result<Vec<Step>, String> {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut steps = Vec::new();
    let mut installs = Vec::new();
    if missing.iter().any(|missing| matches!(missing, Missing::Qemu { .. })) {
        let mut install = words("apt-get install --yes --no-install-recommends");
        if let Some(codename) = old_debian(os_release) {
            let backports = format!("{codename}-backports");
            if mirror(uris, &backports).is_none() {
                let mirror = mirror(uris, codename).ok_or_else(|| {
                    format!("apt has no source for {codename}, so no mirror for {backports} is known")
                })?;
                steps.push(Step::AddSource(source_text(&backports, mirror, keyring)));
            }
            install.extend(["--target-release".to_owned(), backports]);
        }
        install.extend(QEMU_PACKAGES.map(str::to_owned));
        installs.push(Step::Root(install));
    }
    let packages: Vec<String> = missing
        .iter()
        .filter_map(|missing| match missing {
            Missing::Program { package, .. } => Some((*package).to_owned()),
            _ => None,
        })
        .collect();
    if !packages.is_empty() {
        let mut install = words("apt-get install --yes --no-install-recommends");
        install.extend(packages);
        installs.push(Step::Root(install));
    }
    steps.push(Step::Root(words("apt-get update")));
    steps.extend(installs);
    steps.extend(missing.contains(&Missing::Busybox).then_some(Step::FetchBusybox));
    steps.extend(missing.contains(&Missing::Kernel).then_some(Step::FetchKernel));
    Ok(steps)
}

/// The code name of a Debian whose own QEMU is too old and whose backports have a newer one.
fn old_debian(os_release: &str) -> Option<&str> {
    let value = |key: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim_matches('"'))
    };
    let version: u32 = value("VERSION_ID")?.parse().ok()?;
    (value("ID") == Some("debian") && version == 12).then(|| value("VERSION_CODENAME"))?
}

/// The mirror that `suite` comes from: lines are `'MIRROR/dists/SUITE/InRelease' FILE SIZE`.
fn mirror<'a>(uris: &'a str, suite: &str) -> Option<&'a str> {
    let release = format!("dists/{suite}/InRelease");
    uris.lines().find_map(|line| line.strip_prefix('\'')?.split('\'').next()?.strip_suffix(release.as_str()))
}

fn source_text(suite: &str, mirror: &str, keyring: bool) -> String {
    let signed = if keyring { format!("Signed-By: {DEBIAN_KEYRING}\n") } else { String::new() };
    format!("Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\n{signed}")
}

/// Carries out a plan. The caller holds the cache's lock.
pub(super) fn install(cache: &Cache, plan: &Plan, progress: &dyn Progress) -> Result<(), AssetsError> {
    for step in &plan.steps {
        match step {
            Step::AddSource(text) => during(progress, &format!("adding {SOURCES_FILE}"), || {
                let mut command = as_root(&["tee", SOURCES_FILE].map(str::to_owned))?;
                watched(&mut command, text, &|_| ())
            })?,
            Step::Root(words) => during(progress, &words.join(" "), || {
                let mut command = as_root(words)?;
                command.env("DEBIAN_FRONTEND", "noninteractive");
                watched(&mut command, "", &|line| progress.detail(line))
            })?,
            Step::FetchBusybox => {
                during(progress, "fetching busybox-static", || fetch_busybox(cache, progress))?;
            }
            Step::FetchKernel => fetch_kernel(cache, progress)?,
        }
    }
    Ok(())
}

fn as_root(words: &[String]) -> Result<Command, AssetsError> {
    let mut words = words.to_vec();
    if !nix::unistd::geteuid().is_root() {
        if find_program("sudo").is_none() {
            return Err(AssetsError::Unsupported {
                missing: words.join(" "),
                reason: "this needs root, and there is no sudo".to_owned(),
            });
        }
        words.insert(0, "sudo".to_owned());
    }
    if let Some(at) = words.iter().position(|word| word == "apt-get") {
        // Another apt may be at work: wait for it.
        words.insert(at + 1, "-oDPkg::Lock::Timeout=300".to_owned());
    }
    let program = words.remove(0);
    let mut command = Command::new(program);
    command.args(words);
    Ok(command)
}

fn fetch_busybox(cache: &Cache, progress: &dyn Progress) -> Result<(), AssetsError> {
    let scratch = download(cache, "busybox-static", progress)?;
    let unpacked = scratch.path().join("unpacked");
    let package = package_file(scratch.path())?;
    run(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&unpacked))?;
    let image = ["bin/busybox", "usr/bin/busybox"]
        .iter()
        .find_map(|path| fs::read(unpacked.join(path)).ok())
        .ok_or_else(|| AssetsError::Unsupported {
            missing: "a static busybox".to_owned(),
            reason: "the package busybox-static holds none".to_owned(),
        })?;
    cache.publish("bin/busybox", 0o755, &image)?;
    Ok(())
}

fn fetch_kernel(cache: &Cache, progress: &dyn Progress) -> Result<(), AssetsError> {
    let name = newest_kernel_package()?;
    let scratch = during(progress, &format!("fetching {name}"), || download(cache, &name, progress))?;
    during(progress, &format!("unpacking {name}"), || Kernel::unpack(cache, &package_file(scratch.path())?))?;
    Ok(())
}

fn newest_kernel_package() -> Result<String, AssetsError> {
    let prefix = format!("linux-image-{KERNEL_SERIES}.");
    let names = run(Command::new("apt-cache").args(["pkgnames", &prefix]))?;
    let names = String::from_utf8_lossy(&names);
    // A name may be known only from another package's dependencies: take the newest that can be downloaded.
    kernels_by_age(&names)
        .into_iter()
        .find(|name| run(Command::new("apt-get").args(["download", "--print-uris", name])).is_ok())
        .map(str::to_owned)
        .ok_or(AssetsError::NoKernelPackage { series: KERNEL_SERIES })
}

/// Packages of full, signed kernels among `names`, newest first.
fn kernels_by_age(names: &str) -> Vec<&str> {
    let abi = |name: &str| {
        let abi = name.strip_prefix("linux-image-")?.strip_suffix("-amd64")?.to_owned();
        // `-cloud-amd64`, `-rt-amd64` and the metapackage `6.12` are something else.
        let numbered =
            abi.strip_prefix(KERNEL_SERIES)?.strip_prefix('.')?.starts_with(|c: char| c.is_ascii_digit());
        (numbered && !abi.contains('-')).then_some(abi)
    };
    let mut kernels: Vec<(String, &str)> =
        names.lines().filter_map(|name| Some((abi(name.trim())?, name.trim()))).collect();
    kernels.sort_by_key(|(abi, _)| Reverse(version_key(abi)));
    kernels.into_iter().map(|(_, name)| name).collect()
}

/// One piece of a version: numbers are compared as numbers, other text as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum VersionPiece {
    Text(String),
    Number(u64),
}

/// A key that orders versions such as `6.12.90+deb12.1` and `6.12.117+deb12`. A version that another begins with
/// is the older one (deb-version(7), without its rule for `~`, which kernel releases do not have).
pub(super) fn version_key(version: &str) -> Vec<VersionPiece> {
    let mut pieces: Vec<VersionPiece> = Vec::new();
    for c in version.chars() {
        match (pieces.last_mut(), c.to_digit(10)) {
            (Some(VersionPiece::Number(number)), Some(digit)) => {
                *number = number.saturating_mul(10).saturating_add(u64::from(digit));
            }
            (_, Some(digit)) => pieces.push(VersionPiece::Number(u64::from(digit))),
            (Some(VersionPiece::Text(text)), None) => text.push(c),
            (_, None) => pieces.push(VersionPiece::Text(c.to_string())),
        }
    }
    pieces
}

fn download(cache: &Cache, package: &str, progress: &dyn Progress) -> Result<tempfile::TempDir, AssetsError> {
    let root = cache.directory("")?;
    let scratch = tempfile::Builder::new()
        .prefix(".download-")
        .tempdir_in(&root)
        .map_err(|source| AssetsError::Io { path: root, source })?;
    let mut command = Command::new("apt-get");
    // apt's own user cannot write here.
    command.args(["-oAPT::Sandbox::User=root", "download", package]).current_dir(scratch.path());
    watched(&mut command, "", &|line| progress.detail(line))?;
    Ok(scratch)
}

fn package_file(directory: &Path) -> Result<PathBuf, AssetsError> {
    let io = |source| AssetsError::Io { path: directory.to_owned(), source };
    fs::read_dir(directory)
        .map_err(io)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or_else(|| io(std::io::ErrorKind::NotFound.into()))
}

/// Runs a program whose lines are passed on as they come.
fn watched(command: &mut Command, input: &str, line: &dyn Fn(&str)) -> Result<(), AssetsError> {
    use std::io::Write;
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let not_run = |command: &Command, source| AssetsError::NotRun { program: command_line(command), source };
    let mut child = command.spawn().map_err(|source| not_run(command, source))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early closes its end; its status says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let stderr = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut stderr) = stderr {
            let _ = stderr.read_to_string(&mut text);
        }
        text
    });
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).lines().map_while(Result::ok).for_each(|text| line(&text));
    }
    let status = child.wait().map_err(|source| not_run(command, source))?;
    let stderr = reader.join().unwrap_or_default();
    if status.success() {
        return Ok(());
    }
    Err(AssetsError::Failed { program: command_line(command), status, stderr: tail(&stderr) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOKWORM: &str = "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n";
    const URIS: &str = "'http://mirror.example/security/dists/bookworm-security/InRelease' mirror_security 0 \n\
                        'http://mirror.example/debian/dists/bookworm/InRelease' mirror_debian 0 \n";

    fn commands(missing: &[Missing], os_release: &str, uris: &str) -> Vec<String> {
        let cache = Cache::at(Path::new("/cache"));
        steps(missing, os_release, uris, true)
            .unwrap()
            .iter()
            .map(|step| step.describe("sudo ", &cache))
            .collect()
    }

    #[test]
    fn old_debian_gets_qemu_from_the_backports_of_its_own_mirror() {
        let commands = commands(&[Missing::Qemu { found: None }], BOOKWORM, URIS);

        assert_eq!(
            commands,
            [
                "printf 'Types: deb\\nURIs: http://mirror.example/debian/\\nSuites: bookworm-backports\\nComponents: main\\n\
                 Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\\n' \
                 | sudo tee /etc/apt/sources.list.d/thruway-backports.sources",
                "sudo apt-get update",
                "sudo apt-get install --yes --no-install-recommends --target-release bookworm-backports qemu-system-x86 seabios",
            ]
        );
    }

    #[test]
    fn a_suite_that_is_there_is_not_added_again() {
        let uris = format!("{URIS}'http://mirror.example/debian/dists/bookworm-backports/InRelease' x 0 \n");

        let commands = commands(&[Missing::Qemu { found: None }], BOOKWORM, &uris);

        assert_eq!(commands.first().map(String::as_str), Some("sudo apt-get update"));
    }

    #[test]
    fn newer_debian_has_a_qemu_that_will_do() {
        let trixie = "ID=debian\nVERSION_ID=\"13\"\nVERSION_CODENAME=trixie\n";

        let commands = commands(&[Missing::Qemu { found: None }], trixie, "");

        assert_eq!(
            commands.last().map(String::as_str),
            Some("sudo apt-get install --yes --no-install-recommends qemu-system-x86 seabios")
        );
    }

    #[test]
    fn without_a_source_for_the_running_suite_no_mirror_is_guessed() {
        let error = steps(&[Missing::Qemu { found: None }], BOOKWORM, "", true).unwrap_err();

        assert!(error.contains("no source for bookworm"), "{error}");
    }

    #[test]
    fn programs_are_installed_and_the_kernel_only_unpacked() {
        let missing =
            [Missing::Program { program: "nvme", package: "nvme-cli" }, Missing::Busybox, Missing::Kernel];

        let commands = commands(&missing, BOOKWORM, URIS);

        assert_eq!(
            commands,
            [
                "sudo apt-get update",
                "sudo apt-get install --yes --no-install-recommends nvme-cli",
                "apt-get download busybox-static && dpkg-deb --extract busybox-static_*.deb /cache/",
                "apt-get download linux-image-6.12.*-amd64 && dpkg-deb --extract linux-image-6.12.*-amd64_*.deb /cache/",
            ]
        );
    }

    #[test]
    fn the_newest_full_kernel_is_taken_by_version() {
        let names = "linux-image-6.12.90+deb12-amd64\nlinux-image-6.12.117+deb12-amd64\nlinux-image-6.12-amd64\n\
                     linux-image-6.12.90+deb12.1-amd64\nlinux-image-6.12.118+deb12-cloud-amd64\n\
                     linux-image-6.12.118+deb12-amd64-unsigned\nlinux-image-6.12.9+deb12-amd64\n";

        assert_eq!(
            kernels_by_age(names),
            [
                "linux-image-6.12.117+deb12-amd64",
                "linux-image-6.12.90+deb12.1-amd64",
                "linux-image-6.12.90+deb12-amd64",
                "linux-image-6.12.9+deb12-amd64"
            ]
        );
    }

    #[test]
    fn qemu_states_its_version() {
        assert_eq!(qemu_version("QEMU emulator version 10.0.2 (Debian 1:10.0.2)\nCopyright"), Some((10, 0)));
        assert_eq!(qemu_version("QEMU emulator version 7.2.17"), Some((7, 2)));
        assert_eq!(qemu_version("something else"), None);
    }

    #[test]
    fn an_interpreter_makes_a_program_dynamic() {
        let elf = |kind: u8| {
            let mut image = vec![0; 0x78];
            image[..6].copy_from_slice(b"\x7fELF\x02\x01");
            image[0x20] = 0x40;
            image[0x36] = 0x38;
            image[0x38] = 1;
            image[0x40] = kind;
            image
        };

        assert!(is_static(&elf(1)));
        assert!(!is_static(&elf(3)));
        assert!(!is_static(b"#!/bin/sh"));
        assert!(!is_static(&elf(1)[..0x40]));
    }
}
