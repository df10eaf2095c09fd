//! Machines that run: tiny guests, assembled here, on this machine's KVM, real or in software.
//!
//! Each guest is an ELF file with a PVH entry point: 32-bit protected mode, flat segments, no stack. Linux guests are
//! started in the emulated host; see `lab`.

mod board;
mod firmware;
mod hostile;
pub(crate) mod interrupts;
mod memory;
mod processor;
mod stats;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{Run, program, run, skip};

const ENTRY: u32 = 0x10_0000;

/// Machine code, byte by byte.
#[derive(Default)]
pub(crate) struct Guest(pub(crate) Vec<u8>);

impl Guest {
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// `mov dx, port; mov al, value; out dx, al`
    pub(crate) fn out8(self, port: u16, value: u8) -> Self {
        let [low, high] = port.to_le_bytes();
        self.bytes(&[0x66, 0xBA, low, high, 0xB0, value, 0xEE])
    }

    /// `mov dx, port; mov ax, value; out dx, ax`
    fn out16(self, port: u16, value: u16) -> Self {
        let ([low, high], [value_low, value_high]) = (port.to_le_bytes(), value.to_le_bytes());
        self.bytes(&[0x66, 0xBA, low, high, 0x66, 0xB8, value_low, value_high, 0x66, 0xEF])
    }

    /// `mov dx, port; in al, dx`
    fn in8(self, port: u16) -> Self {
        let [low, high] = port.to_le_bytes();
        self.bytes(&[0x66, 0xBA, low, high, 0xEC])
    }

    /// `mov eax, [address]`
    pub(crate) fn load(self, address: u32) -> Self {
        self.bytes(&[0xA1]).bytes(&address.to_le_bytes())
    }

    /// Prints AL on the serial port.
    fn print_al(self) -> Self {
        self.bytes(&[0x66, 0xBA, 0xF8, 0x03, 0xEE])
    }

    pub(crate) fn print(self, text: &str) -> Self {
        text.bytes().fold(self, |guest, byte| guest.out8(0x3F8, byte))
    }

    /// SLP_TYP 5 with SLP_EN in PM1a control.
    pub(crate) fn power_off(self) -> Self {
        self.out16(0x604, 5 << 10 | 1 << 13).hang()
    }

    /// `cli; hlt; jmp` back
    fn hang(self) -> Self {
        self.bytes(&[0xFA, 0xF4, 0xEB, 0xFD])
    }

    /// A kernel file: ELF header, one segment, one note.
    pub(crate) fn elf(&self) -> Vec<u8> {
        let mut image = vec![0; 0x1000];
        let mut put = |offset: usize, data: &[u8]| image[offset..offset + data.len()].copy_from_slice(data);
        put(0, b"\x7FELF\x02\x01\x01");
        put(0x12, &62u16.to_le_bytes());
        put(0x20, &64u64.to_le_bytes());
        put(0x36, &56u16.to_le_bytes());
        put(0x38, &2u16.to_le_bytes());
        let mut header = |index: usize, kind: u32, values: [u64; 5]| {
            let at = 64 + 56 * index;
            put(at, &kind.to_le_bytes());
            for (i, value) in values.into_iter().enumerate() {
                put(at + 8 * (i + 1), &value.to_le_bytes());
            }
        };
        header(0, 1, [0x800, 0, ENTRY.into(), 0x800, 0x800]);
        header(1, 4, [0x200, 0, 0, 0x14, 0x14]);
        put(0x200, &[4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0, b'X', b'e', b'n', 0]);
        put(0x210, &ENTRY.to_le_bytes());
        put(0x800, &self.0);
        image
    }
}

/// A directory with a kernel in it, or none (said so) where this host has no KVM.
struct Lab {
    directory: TempDir,
}

impl Lab {
    fn new(guest: &Guest) -> Option<Self> {
        if let Err(error) = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
            skip(&format!("/dev/kvm: {error}"));
            return None;
        }
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("kernel"), guest.elf()).unwrap();
        Some(Self { directory })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Run {
        run(&mut self.command(arguments), b"")
    }

    /// The machine, which ends when its guest reboots or faults.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.args(["run", "--memory", "16MiB", "--on-reboot", "exit", "--kernel"]);
        command.arg(self.path("kernel")).args(arguments);
        command
    }

    /// Starts the machine with pipes and does not wait.
    fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// A machine from a profile with these lines in `machine:`.
fn profile_of(lab: &Lab, machine: &str) -> PathBuf {
    let path = lab.path("machine.yaml");
    let text =
        format!("schema: 1\nname: tiny\nmachine:\n  memory: 16MiB\n  boot: {{kernel: kernel}}\n{machine}");
    fs::write(&path, text).unwrap();
    path
}

/// Runs `guest` to its end, unless there is no KVM.
fn outcome(guest: &Guest) -> Option<Run> {
    Lab::new(guest).map(|lab| lab.run(&[]))
}

#[test]
fn a_guest_prints_and_powers_off() {
    let Some(run) = outcome(&Guest::default().print("hello\n").power_off()) else { return };
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "hello\n"), "{}", run.stderr);
}

#[test]
fn every_way_to_reset_ends_with_its_exit_code() {
    let triple_fault = {
        // lidt [0x200000] (six zero bytes: an empty table), ud2
        Guest::default().bytes(&[0x0F, 0x01, 0x1D, 0, 0, 0x20, 0, 0x0F, 0x0B]).hang()
    };
    let guests =
        [Guest::default().out8(0xCF9, 6).hang(), Guest::default().out8(0x64, 0xFE).hang(), triple_fault];
    for guest in guests {
        let Some(run) = outcome(&guest) else { return };
        assert_eq!(run.code, Some(10), "{}", run.stderr);
    }
}

#[test]
fn a_panic_is_reported_by_the_exit_code_and_a_loaded_crash_kernel_goes_on() {
    let Some(run) = outcome(&Guest::default().out8(0x505, 2).out8(0x505, 1).print("lost").hang()) else {
        return;
    };
    assert_eq!((run.code, run.stdout.as_str()), (Some(11), ""), "{}", run.stderr);
}

#[test]
fn the_host_bridge_answers_in_the_ecam_window_and_at_the_ports() {
    // mov eax, 0x80000000; mov dx, 0xCF8; out dx, eax; mov dx, 0xCFC; in eax, dx
    let by_ports = [0xB8, 0, 0, 0, 0x80, 0x66, 0xBA, 0xF8, 0x0C, 0xEF, 0x66, 0xBA, 0xFC, 0x0C, 0xED];
    // mov ebx, eax; (load); cmp eax, ebx; je +7 over "out 'N'"
    let guest = Guest::default()
        .bytes(&by_ports)
        .bytes(&[0x89, 0xC3])
        .load(0xB000_0000)
        .bytes(&[0x39, 0xD8, 0x74, 0x07])
        .out8(0x3F8, b'N')
        .print("=")
        .power_off();
    let Some(run) = outcome(&guest) else { return };
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "="), "{}", run.stderr);
}

#[test]
fn string_output_keeps_every_byte() {
    // mov esi, ENTRY + 0x100; mov ecx, 6; mov dx, 0x3F8; cld; rep outsb
    let mut guest = Guest::default()
        .bytes(&[0xBE, 0, 1, 0x10, 0, 0xB9, 6, 0, 0, 0, 0x66, 0xBA, 0xF8, 0x03, 0xFC, 0xF3, 0x6E])
        .power_off();
    guest.0.resize(0x100, 0x90);
    let Some(run) = outcome(&guest.bytes(b"string")) else { return };
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "string"), "{}", run.stderr);
}

#[test]
fn what_nobody_answers_reads_as_ones() {
    // (al + 'A' + 1) is 'A' for 0xFF
    let guest = Guest::default()
        .in8(0x1234)
        .bytes(&[0x04, 0x42])
        .print_al()
        .load(0xFD00_0000)
        .bytes(&[0x04, 0x42])
        .print_al()
        .power_off();
    let Some(run) = outcome(&guest) else { return };
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "AA"), "{}", run.stderr);
}

#[test]
fn a_reset_in_place_clears_ram_and_keeps_the_clocks_memory() {
    // mov al, 0x40; out 0x70, al; in al, 0x71; mov bl, al
    let read_cmos = [0xB0, 0x40, 0xE6, 0x70, 0xE4, 0x71, 0x88, 0xC3];
    // mov al, 0x40; out 0x70, al; mov al, bl; inc al; out 0x71, al
    let count_up = [0xB0, 0x40, 0xE6, 0x70, 0x88, 0xD8, 0xFE, 0xC0, 0xE6, 0x71];
    // mov byte [0x200000], 7
    let dirty = [0xC6, 0x05, 0, 0, 0x20, 0, 7];
    // cmp bl, 3; jae over the reset
    let three_times = [0x80, 0xFB, 3, 0x73, 11];
    let guest = Guest::default()
        .bytes(&read_cmos)
        .load(0x20_0000)
        .bytes(&[0x04, b'0'])
        .print_al()
        .bytes(&dirty)
        .bytes(&count_up)
        .bytes(&three_times)
        .out8(0x64, 0xFE)
        .hang()
        .power_off();
    let Some(lab) = Lab::new(&guest) else { return };
    for memory in ["16MiB", "{size: 16MiB, shared: true}"] {
        let profile = format!(
            "schema: 1\nname: reset\nmachine:\n  memory: {memory}\n  cpus: 2\n  boot: {{kernel: kernel}}\n"
        );
        fs::write(lab.path("reset.yaml"), profile).unwrap();
        let run = run(program().arg("run").arg(lab.path("reset.yaml")), b"");
        assert_eq!((run.code, run.stdout.as_str()), (Some(0), "0000"), "{memory} {}", run.stderr);
    }
}

#[test]
fn an_instruction_in_nowhere_is_a_fault_of_the_machine_with_registers() {
    // mov eax, 0xFD000000; jmp eax
    let Some(run) = outcome(&Guest::default().bytes(&[0xB8, 0, 0, 0, 0xFD, 0xFF, 0xE0])) else { return };
    assert_eq!(run.code, Some(12), "{}", run.stderr);
    assert!(run.stderr.contains("rip=0xfd000000"), "{}", run.stderr);
}

#[test]
fn input_reaches_the_guest_and_its_end_is_no_error() {
    // Wait for data ready, read, print it plus one, until 'c'; then power off.
    let wait = [0x66, 0xBA, 0xFD, 0x03, 0xEC, 0xA8, 1, 0x74, 0xF7];
    let echo = [0x66, 0xBA, 0xF8, 0x03, 0xEC, 0xFE, 0xC0, 0xEE];
    // cmp al, 'd'; jne back to the start
    let guest = Guest::default().bytes(&wait).bytes(&echo).bytes(&[0x3C, b'd', 0x75, 0xEB]).power_off();
    let Some(lab) = Lab::new(&guest) else { return };
    let mut command = program();
    command.args(["run", "--memory", "16MiB", "--kernel"]).arg(lab.path("kernel"));
    let long = "a".repeat(500) + "c";
    let run = run(&mut command, long.as_bytes());
    assert_eq!((run.code, run.stdout), (Some(0), "b".repeat(500) + "d"), "{}", run.stderr);
}

#[test]
fn termination_signals_end_the_machine() {
    for signal in [nix::sys::signal::SIGTERM, nix::sys::signal::SIGINT] {
        let Some(lab) = Lab::new(&Guest::default().print("up").hang()) else { return };
        let mut child = lab.spawn(&["--cpus", "4"]);
        let mut seen = [0; 2];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut seen).unwrap();
        let process = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(process, signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
    }
}

/// The settings of the terminal behind `master`.
fn settings(master: &std::os::fd::OwnedFd) -> nix::sys::termios::Termios {
    nix::sys::termios::tcgetattr(master).unwrap()
}

#[test]
fn a_terminal_is_raw_while_the_guest_runs_and_as_before_afterwards() {
    use nix::sys::termios::LocalFlags;
    let Some(lab) = Lab::new(&Guest::default().print("up").hang()) else { return };
    for leave in ["\x01x", "signal"] {
        let pty = nix::pty::openpty(None, None).unwrap();
        let before = settings(&pty.master);
        assert!(before.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO));
        // The terminal has to be the controlling one, of a session of its own.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", crate::support::PROGRAM, "run", "--memory", "16MiB", "--kernel"]);
        command.arg(lab.path("kernel")).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut child = command.stdin(end()).stdout(end()).stderr(Stdio::null()).spawn().unwrap();
        let mut master = fs::File::from(pty.master.try_clone().unwrap());
        let mut seen = [0; 2];
        std::io::Read::read_exact(&mut master, &mut seen).unwrap();
        assert_eq!(&seen, b"up");
        let during = settings(&pty.master);
        assert!(!during.local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG));
        if leave == "signal" {
            // Asked through the master, the kernel names the foreground group of the terminal's session.
            let group = nix::unistd::tcgetpgrp(&pty.master).unwrap();
            nix::sys::signal::killpg(group, nix::sys::signal::SIGTERM).unwrap();
        } else {
            master.write_all(leave.as_bytes()).unwrap();
        }
        assert_eq!(child.wait().unwrap().code(), Some(130));
        let after = settings(&pty.master);
        assert_eq!(
            (after.local_flags, after.input_flags, after.output_flags),
            (before.local_flags, before.input_flags, before.output_flags)
        );
    }
}

#[test]
fn a_closed_standard_output_does_not_stop_the_guest() {
    let guest = (0..64).fold(Guest::default(), |guest, _| guest.print("x")).power_off();
    let Some(lab) = Lab::new(&guest) else { return };
    let mut child = lab.spawn(&[]);
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_reader_that_never_reads_delays_the_guest_by_a_bounded_time() {
    // mov ecx, 300000; mov dx, 0x3F8; L: out dx, al; loop L
    let guest = Guest::default()
        .bytes(&[0xB9, 0xE0, 0x93, 4, 0, 0x66, 0xBA, 0xF8, 0x03, 0xEE, 0xE2, 0xFD])
        .power_off();
    let Some(lab) = Lab::new(&guest) else { return };
    let mut child = lab.spawn(&[]);
    let start = Instant::now();
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        assert!(start.elapsed() < Duration::from_secs(60), "the guest is stuck");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(code, Some(0));
}

#[test]
fn files_that_are_no_kernel_are_usage_errors_that_name_them() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("kernel");
    let mut file = fs::File::create(&path).unwrap();
    for (content, expected) in [("", "is empty"), ("hello, world", "is not a kernel"), ("\x7FELF", "damaged")]
    {
        file.set_len(0).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, content.as_bytes(), 0).unwrap();
        file.flush().unwrap();
        let run = run(program().args(["run", "--kernel"]).arg(&path), b"");
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        assert!(run.stderr.contains(expected) && run.stderr.contains("kernel"), "{}", run.stderr);
    }
    let run = run(program().args(["run", "--kernel", "/nonexistent/vmlinuz"]), b"");
    assert_eq!(run.code, Some(2), "{}", run.stderr);
}

#[test]
fn sizes_and_counts_out_of_range_are_usage_errors() {
    for arguments in [
        ["--memory", "0"],
        ["--memory", "-1"],
        ["--memory", "1EiB"],
        ["--memory", "17000001"],
        ["--cpus", "0"],
        ["--cpus", "65"],
        ["--cpus", "-1"],
        ["--vfio", "0000:00:20.0"],
        ["--disk", "a.img,format=qcow2"],
    ] {
        let run = run(program().args(["run", "--kernel", "k"]).args(arguments), b"");
        assert_eq!(run.code, Some(2), "{arguments:?}: {}", run.stderr);
    }
}

#[test]
fn a_dry_run_prints_the_machine_and_starts_nothing() {
    let arguments = ["run", "--kernel", "/k", "--cpus", "2", "--dry-run", "--format", "json"];
    let run = run(program().args(arguments), b"");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let document: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(document["data"]["cpus"], 2);
    assert_eq!(document["data"]["boot"]["kernel"], "/k");
}

/// Runs the program through `wrapper`, which takes away what it needs; none (said so) where that takes root.
fn deprived(wrapper: &[&str]) -> Option<Run> {
    use std::os::unix::fs::PermissionsExt;
    if !nix::unistd::geteuid().is_root() {
        skip("not root: cannot take /dev/kvm away");
        return None;
    }
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let kernel = directory.path().join("kernel");
    fs::write(&kernel, Guest::default().power_off().elf()).unwrap();
    // A copy that another user can run too, wherever the build directory is.
    let copy = directory.path().join("thruway");
    fs::copy(crate::support::PROGRAM, &copy).unwrap();
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(&copy).args(["run", "--memory", "16MiB", "--kernel"]).arg(&kernel);
    Some(run(command.current_dir("/").env("NO_COLOR", "1"), b""))
}

#[test]
fn a_host_without_kvm_is_told_what_to_do() {
    let hide = "mount -t tmpfs none /dev && exec \"$@\"";
    let Some(run) = deprived(&["unshare", "--mount", "sh", "-c", hide, "sh"]) else { return };
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    assert!(run.stderr.contains("there is no /dev/kvm"), "{}", run.stderr);
}

#[test]
fn a_user_without_permission_is_told_of_the_group() {
    let hide = "mount -t tmpfs -o mode=755 none /dev && mknod -m 600 /dev/kvm c 10 232 && exec \"$@\"";
    let drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let wrapper = [&["unshare", "--mount", "sh", "-c", hide, "sh"], &drop[..]].concat();
    let Some(run) = deprived(&wrapper) else { return };
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    assert!(run.stderr.contains("group kvm"), "{}", run.stderr);
}

#[test]
fn a_device_that_is_not_kvm_is_refused() {
    let replace = "mount --bind /dev/zero /dev/kvm && exec \"$@\"";
    if !std::path::Path::new("/dev/kvm").exists() {
        skip("no /dev/kvm to replace");
        return;
    }
    let Some(run) = deprived(&["unshare", "--mount", "sh", "-c", replace, "sh"]) else { return };
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    assert!(run.stderr.contains("cannot open /dev/kvm"), "{}", run.stderr);
}
