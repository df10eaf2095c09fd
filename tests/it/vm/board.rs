//! The board's devices as guests meet them: consoles at every place, the keyboard controller, timers, the power button, the
//! test port; and kernels that come by multiboot.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::hostile::survive;
use super::{ENTRY, Guest, Lab, profile_of};
use crate::support::{program, run};

const LONG: Duration = Duration::from_secs(60);

impl Guest {
    /// Prints AL, and goes on only if it was `expected`.
    fn expect_al(self, expected: u8) -> Self {
        // cmp al, expected; je over `cli; hlt; jmp`
        self.bytes(&[0x3C, expected, 0x74, 0x04]).hang()
    }

    /// Prints on COM2.
    fn print_second(self, text: &str) -> Self {
        text.bytes().fold(self, |guest, byte| guest.out8(0x2F8, byte))
    }

    /// Waits for a byte on COM1, prints it plus one, until 'c'; then powers off.
    fn echo() -> Self {
        let wait = [0x66, 0xBA, 0xFD, 0x03, 0xEC, 0xA8, 1, 0x74, 0xF7];
        let echo = [0x66, 0xBA, 0xF8, 0x03, 0xEC, 0xFE, 0xC0, 0xEE];
        // cmp al, 'd'; jne back to the start
        Self::default().bytes(&wait).bytes(&echo).bytes(&[0x3C, b'd', 0x75, 0xEB]).power_off()
    }
}

/// Asks until there is an answer.
fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < LONG, "nothing for a long time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn each_serial_port_prints_at_its_own_place() {
    let guest = Guest::default().print("one").print_second("two").power_off();
    let Some(lab) = Lab::new(&guest) else { return };
    let file = lab.path("second");
    let place = format!("file={}", file.display());
    let run = lab.run(&["--serial", "stdio", "--serial", &place]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "one"), "{}", run.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), "two");
    let run = lab.run(&["--serial", "none", "--serial", &place]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), ""), "{}", run.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), "twotwo", "appended");
}

#[test]
fn two_consoles_at_one_place_are_refused() {
    for arguments in [["--serial", "stdio", "--serial", "stdio"], ["--serial", "stdio", "--console", "stdio"]]
    {
        let run = run(program().args(["run", "--kernel", "k"]).args(arguments), b"");
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        assert!(
            run.stderr.contains("`stdio` is machine.serial.0's already")
                || run.stderr.contains("`stdio` is serial.0's already"),
            "{}",
            run.stderr
        );
    }
}

/// Resident memory of process `id` in KiB.
fn resident_kib(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_guest_that_floods_a_file_fills_it_to_its_limit_and_no_memory() {
    // mov dx, 0x3F8; L: out dx, al; jmp L
    let Some(lab) = Lab::new(&Guest::default().bytes(&[0x66, 0xBA, 0xF8, 0x03, 0xEE, 0xEB, 0xFD])) else {
        return;
    };
    let file = lab.path("flood");
    let mut child = lab.spawn(&["--serial", &format!("file={},limit=128KiB", file.display())]);
    let size = || fs::metadata(&file).map_or(0, |metadata| metadata.len());
    eventually(|| (size() == 128 << 10).then_some(()));
    let before = resident_kib(child.id());
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(size(), 128 << 10);
    }
    let after = resident_kib(child.id());
    assert!(after < before + 1024, "{before} KiB, then {after} KiB");
    let process = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(process, nix::sys::signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

/// Talks to the guest of [`Guest::echo`] by `stream`.
fn talk(stream: &mut (impl Read + Write)) {
    stream.write_all(b"aac").unwrap();
    let mut answer = [0; 3];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"bbd");
}

#[test]
fn a_serial_port_on_a_socket_is_talked_to_and_the_socket_goes_with_the_machine() {
    let Some(lab) = Lab::new(&Guest::echo()) else { return };
    let path = lab.path("socket");
    let mut child = lab.spawn(&["--serial", &format!("socket={}", path.display())]);
    let mut stream = eventually(|| UnixStream::connect(&path).ok());
    talk(&mut stream);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn a_serial_port_on_a_pseudo_terminal_is_found_by_its_link() {
    let Some(lab) = Lab::new(&Guest::echo()) else { return };
    let link = lab.path("terminal");
    let mut child = lab.spawn(&["--serial", &format!("pty,link={}", link.display())]);
    let mut terminal = eventually(|| fs::File::options().read(true).write(true).open(&link).ok());
    terminal.write_all(b"aa").unwrap();
    let mut answer = [0; 2];
    terminal.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"bb");
    // What nobody has read by then goes with the terminal.
    terminal.write_all(b"c").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(fs::symlink_metadata(&link).is_err());
}

#[test]
fn the_keyboard_controller_passes_its_test_and_the_timers_say_what_they_are() {
    let guest = Guest::default()
        .out8(0x64, 0xAA)
        .in8(0x64)
        .bytes(&[0x24, 1])
        .expect_al(1)
        .in8(0x60)
        .print_al()
        // The identity of the timers: mov eax, [..]; cmp eax, ..; je
        .load(0xFED0_0000)
        .bytes(&[0x3D])
        .bytes(&0x8086_A201u32.to_le_bytes())
        .bytes(&[0x74, 0x04])
        .hang()
        .print("H")
        .power_off();
    let Some(lab) = Lab::new(&guest) else { return };
    let run = run(program().arg("run").arg(profile_of(&lab, "  hpet: present\n")), b"");
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "UH"), "{}", run.stderr);
}

#[test]
fn the_power_button_is_pressed_by_a_signal() {
    // L: mov dx, 0x601; in al, dx; test al, 1; jz L
    let wait = [0x66, 0xBA, 0x01, 0x06, 0xEC, 0xA8, 1, 0x74, 0xF7];
    let Some(lab) = Lab::new(&Guest::default().print("up").bytes(&wait).print("pressed").power_off()) else {
        return;
    };
    let mut child = lab.spawn(&[]);
    let mut seen = [0; 2];
    let stdout = child.stdout.as_mut().unwrap();
    stdout.read_exact(&mut seen).unwrap();
    let process = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(process, nix::sys::signal::SIGUSR2).unwrap();
    let mut rest = String::new();
    child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!((child.wait().unwrap().code(), rest.as_str()), (Some(0), "pressed"));
}

#[test]
fn the_test_port_ends_a_machine_that_has_it() {
    let Some(lab) = Lab::new(&Guest::default().out8(0x501, 0x10).print("on").power_off()) else { return };
    let profile = profile_of(&lab, "  devices: [isa-debug-exit: {}, vmgenid: {}]\n");
    let ended = run(program().arg("run").arg(&profile), b"");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0x21), ""), "{}", ended.stderr);
    let went_on = lab.run(&[]);
    assert_eq!((went_on.code, went_on.stdout.as_str()), (Some(0), "on"), "{}", went_on.stderr);
}

/// `code` in a file of 32-bit ELF, or of no format but the multiboot header's.
fn multiboot(code: &[u8], is_elf: bool) -> Vec<u8> {
    let mut image = vec![0; 0x1000];
    let mut put = |offset: usize, values: &[u32]| {
        for (index, value) in values.iter().enumerate() {
            image[offset + 4 * index..offset + 4 * index + 4].copy_from_slice(&value.to_le_bytes());
        }
    };
    let magic = 0x1BAD_B002u32;
    let header = |flags: u32| [magic, flags, 0u32.wrapping_sub(magic).wrapping_sub(flags)];
    if is_elf {
        put(0, &[u32::from_le_bytes(*b"\x7FELF"), 0x0001_0101]);
        put(0x10, &[0x0003_0002, 1, ENTRY, 52]);
        put(0x28, &[0x0020_0034, 1]);
        put(52, &[1, 0x800, ENTRY, ENTRY, 0x800, 0x800]);
        put(0x100, &header(2));
    } else {
        put(0x100, &header(0x1_0002));
        put(0x10C, &[ENTRY, ENTRY, 0, 0, ENTRY + 0x700]);
    }
    image[0x800..0x800 + code.len()].copy_from_slice(code);
    image
}

#[test]
fn multiboot_kernels_find_their_number_modules_and_command_line() {
    // cmp eax, 0x2BADB002; je; then "=" and modules as a digit; then the command line's first four bytes behind its name.
    let guest = Guest::default()
        .bytes(&[0x3D])
        .bytes(&0x2BAD_B002u32.to_le_bytes())
        .bytes(&[0x74, 0x04])
        .hang()
        .print("=")
        // mov eax, [ebx + 20]; add al, '0'
        .bytes(&[0x8B, 0x43, 20, 0x04, b'0'])
        .print_al()
        // mov esi, [ebx + 24]; mov esi, [esi]; mov ecx, 6; mov dx, 0x3F8; cld; rep outsb: the first module
        .bytes(&[0x8B, 0x73, 24, 0x8B, 0x36, 0xB9, 6, 0, 0, 0, 0x66, 0xBA, 0xF8, 0x03, 0xFC, 0xF3, 0x6E])
        .power_off();
    let Some(lab) = Lab::new(&guest) else { return };
    fs::write(lab.path("initrd"), "INITRD").unwrap();
    fs::write(lab.path("module"), "module").unwrap();
    for is_elf in [true, false] {
        fs::write(lab.path("kernel"), multiboot(&guest.0, is_elf)).unwrap();
        let path = |path: &Path| path.display().to_string();
        let module = format!("{},cmdline=one two", path(&lab.path("module")));
        let run = lab.run(&["-v", "--initrd", &path(&lab.path("initrd")), "--module", &module]);
        assert_eq!((run.code, run.stdout.as_str()), (Some(0), "=2INITRD"), "{}", run.stderr);
        assert!(run.stderr.contains("multiboot"), "it says what it picked: {}", run.stderr);
    }
}

/// Ports that end the machine or that interrupt it for good: the keyboard controller's command port, port 92h, the test and
/// panic ports, power management, PCI's and the reset port among them. Each has tests of its own.
const SKIPPED: [(u16, u16); 6] =
    [(0x64, 0x64), (0x92, 0x92), (0x501, 0x508), (0x510, 0x51F), (0x600, 0x60F), (0xCF8, 0xCFF)];

impl Guest {
    /// Writes `value` in all three widths to every port from `first` to `last`, and reads them.
    fn sweep_ports(self, first: u16, last: u16, value: u32) -> Self {
        let ([a, b], [c, d]) = (first.to_le_bytes(), last.to_le_bytes());
        // mov dx, first; L: mov eax, value; out dx, al; out dx, ax; out dx, eax; in al, dx; in ax, dx; in eax, dx;
        // cmp dx, last; je +4; inc dx; jmp L
        self.bytes(&[0x66, 0xBA, a, b, 0xB8])
            .bytes(&value.to_le_bytes())
            .bytes(&[0xEE, 0x66, 0xEF, 0xEF, 0xEC, 0x66, 0xED, 0xED])
            .bytes(&[0x66, 0x81, 0xFA, c, d, 0x74, 0x04, 0x66, 0x42, 0xEB, 0xE8])
    }
}

#[test]
fn every_port_and_every_register_of_the_timers_takes_every_width_and_edge_value() {
    for value in [0, u32::MAX, 0x8000_0001] {
        let mut guest = Guest::default();
        let mut first = 0;
        for (start, end) in SKIPPED {
            guest = guest.sweep_ports(first, start - 1, value);
            first = end + 1;
        }
        // mov eax, value; mov edi, 0xFED00000; L: mov [edi], eax; mov [edi], al; mov ecx, [edi]; add edi, 4; cmp edi, end; jb L
        let guest = guest
            .sweep_ports(first, u16::MAX, value)
            .bytes(&[0xB8])
            .bytes(&value.to_le_bytes())
            .bytes(&[0xBF, 0, 0, 0xD0, 0xFE])
            .bytes(&[
                0x89, 0x07, 0x88, 0x07, 0x8B, 0x0F, 0x83, 0xC7, 0x04, 0x81, 0xFF, 0, 4, 0xD0, 0xFE, 0x72,
                0xEF,
            ])
            .power_off();
        let Some(lab) = Lab::new(&guest) else { return };
        let profile = profile_of(&lab, "  hpet: present\n  serial: [none, none]\n");
        let run = run(program().arg("run").arg(profile), b"");
        assert_eq!(run.code, Some(0), "{value:#x}: {}", run.stderr);
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    }
}

impl Guest {
    /// Writes `value` in all three widths to every doubleword from `start` to before `end`, and reads them.
    fn sweep_memory(self, start: u32, end: u32, value: u32) -> Self {
        // mov edi, start; L: mov eax, value; mov [edi], al; mov [edi], ax; mov [edi], eax; mov cl, [edi]; mov cx, [edi];
        // mov ecx, [edi]; add edi, 4; cmp edi, end; jb L
        self.bytes(&[0xBF])
            .bytes(&start.to_le_bytes())
            .bytes(&[0xB8])
            .bytes(&value.to_le_bytes())
            .bytes(&[0x88, 0x07, 0x66, 0x89, 0x07, 0x89, 0x07])
            .bytes(&[0x8A, 0x0F, 0x66, 0x8B, 0x0F, 0x8B, 0x0F])
            .bytes(&[0x83, 0xC7, 0x04, 0x81, 0xFF])
            .bytes(&end.to_le_bytes())
            .bytes(&[0x72, 0xE2])
    }
}

#[test]
fn every_byte_of_configuration_space_takes_every_width_and_edge_value() {
    // Host bridge, root port, LPC bridge, and the function behind the port on bus 1.
    const FUNCTIONS: [u32; 4] = [0xB000_0000, 0xB000_8000, 0xB00F_8000, 0xB010_0000];
    for value in [0, u32::MAX, 0x8000_0001, 0x55AA_0107] {
        let sweep = |guest: Guest, start: u32| guest.sweep_memory(start, start + 0x1000, value);
        // What is behind the port first: it may have another number afterwards.
        let guest = FUNCTIONS.into_iter().rev().fold(Guest::default(), sweep).out8(0x64, 0xFE).hang();
        let Some(code) = survive(&guest, &[]) else { return };
        assert_eq!(code, 10, "it restarts itself");
    }
}
