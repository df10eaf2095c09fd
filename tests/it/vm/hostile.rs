//! Guests that do to their processor whatever comes to mind: the machine ends or goes on, and can always be stopped.

use std::fs;
use std::io::Read;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Guest, Lab};

/// Longest stay of a guest that does not end by itself.
const PATIENCE: Duration = Duration::from_secs(8);
/// Most that the program may be resident with, a guest of 16 MiB and a debug build in it.
const MOST_RESIDENT_KIB: u64 = 120 << 10;
/// Longest log.
const MOST_LOG_BYTES: usize = 16 << 10;

/// Runs `guest` until it ends or patience does; its exit code. Whatever it was, memory and log stayed small.
pub(super) fn survive(guest: &Guest, arguments: &[&str]) -> Option<i32> {
    let lab = Lab::new(guest)?;
    let mut child = lab.spawn(arguments);
    let (start, mut resident) = (Instant::now(), 0);
    let mut stopped = false;
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        resident = kib.and_then(|kib| kib.parse().ok()).unwrap_or(0).max(resident);
        if start.elapsed() > PATIENCE && !stopped {
            kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
            stopped = true;
        }
        assert!(start.elapsed() < 2 * PATIENCE, "it cannot be stopped");
        std::thread::sleep(Duration::from_millis(10));
    };
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.len() < MOST_LOG_BYTES, "{log}");
    assert!(!log.contains("panicked"), "{log}");
    assert!(resident < MOST_RESIDENT_KIB, "{resident} KiB");
    // Powered off, reset, failed with registers, or stopped.
    assert!(matches!(code, Some(0 | 10 | 12 | 130)), "{code:?}: {log}");
    assert_eq!(code == Some(130), stopped, "{log}");
    code
}

impl Guest {
    /// `mov eax, value`
    fn eax(self, value: u32) -> Self {
        self.bytes(&[0xB8]).bytes(&value.to_le_bytes())
    }

    /// `body` so many times, counted in EBP, which it leaves alone.
    fn repeat(self, times: u32, body: &[u8]) -> Self {
        let back = -(i32::try_from(body.len()).unwrap() + 7);
        // mov ebp, times; body; dec ebp; jnz body
        self.bytes(&[0xBD])
            .bytes(&times.to_le_bytes())
            .bytes(body)
            .bytes(&[0x4D, 0x0F, 0x85])
            .bytes(&back.to_le_bytes())
    }

    /// Interrupts with an error code skip two bytes: what RDMSR and WRMSR have.
    fn skipping_faults(self) -> Self {
        // jmp over the handler: add dword [esp+4], 2; add esp, 4; iret
        let handler = [0x83, 0x44, 0x24, 4, 2, 0x83, 0xC4, 4, 0xCF];
        let address = super::ENTRY + u32::try_from(self.0.len()).unwrap() + 2;
        let [a, b, c, d] = address.to_le_bytes();
        self.bytes(&[0xEB, 9])
            .bytes(&handler)
            // mov esp, 0x90000
            .bytes(&[0xBC, 0, 0, 9, 0])
            // Entry 13 of the table at 0x200000: selector 8, interrupt gate
            .bytes(&[0xC7, 0x05, 0x68, 0, 0x20, 0, a, b, 8, 0])
            .bytes(&[0xC7, 0x05, 0x6C, 0, 0x20, 0, 0, 0x8E, c, d])
            // Limit and base at 0x200800; lidt
            .bytes(&[0x66, 0xC7, 0x05, 0, 8, 0x20, 0, 0xFF, 7])
            .bytes(&[0xC7, 0x05, 2, 8, 0x20, 0, 0, 0, 0x20, 0])
            .bytes(&[0x0F, 0x01, 0x1D, 0, 8, 0x20, 0])
    }
}

#[test]
fn control_registers_take_garbage() {
    for register in [0, 3, 4] {
        for value in [0, u32::MAX, 0x8000_0001, 0x2000_0001, 0x20, 0x55AA_55AA] {
            // mov cr, eax
            let guest = Guest::default().eax(value).bytes(&[0x0F, 0x22, 0xC0 | register << 3]).power_off();
            if survive(&guest, &[]).is_none() {
                return;
            }
        }
    }
}

#[test]
fn model_specific_registers_take_garbage() {
    // EFER: mov ecx, 0xC0000080; xor edx, edx; wrmsr
    for value in [0, 0x100, 0x500, u32::MAX] {
        let write = [0xB9, 0x80, 0, 0, 0xC0, 0x31, 0xD2, 0x0F, 0x30];
        if survive(&Guest::default().eax(value).bytes(&write).power_off(), &[]).is_none() {
            return;
        }
    }
    for base in [0u32, 0xC000_0000, 0xC001_0000, 0x4000_0000, 0x4B56_4D00] {
        let [a, b, c, d] = base.to_le_bytes();
        let body = [
            &[0x69, 0xDB, 0x0D, 0x66, 0x19, 0x00][..], // imul ebx, ebx, 1664525
            &[0x81, 0xC3, 0x5F, 0xF3, 0x6E, 0x3C],     // add ebx, 1013904223
            &[0x89, 0xD9, 0xC1, 0xE9, 0x13],           // mov ecx, ebx; shr ecx, 19
            &[0x81, 0xC9, a, b, c, d],                 // or ecx, base
            &[0x0F, 0x32],                             // rdmsr
            &[0x89, 0xD8, 0x89, 0xDA],                 // mov eax, ebx; mov edx, ebx
            &[0x0F, 0x30],                             // wrmsr
        ]
        .concat();
        let guest = Guest::default().skipping_faults().repeat(20_000, &body).power_off();
        survive(&guest, &["--cpus", "2"]);
    }
}

#[test]
fn a_storm_of_interprocessor_interrupts_ends() {
    // Interrupt command register, low half: fixed to itself; INIT, start-up, NMI and fixed to all others.
    let commands = [0x4_0040u32, 0xC_4500, 0xC_4610, 0xC_0400, 0xC_0041];
    let body: Vec<u8> = commands
        .iter()
        .flat_map(|command| [&[0xC7, 0x05, 0x00, 0x03, 0xE0, 0xFE][..], &command.to_le_bytes()].concat())
        .collect();
    let guest = Guest::default().repeat(200_000, &body).power_off();
    survive(&guest, &["--cpus", "4"]);
}

#[test]
fn triple_faults_again_and_again_end_when_somebody_ends_them() {
    // lidt of zeros, ud2
    let guest = Guest::default().bytes(&[0x0F, 0x01, 0x1D, 0, 0, 0x20, 0, 0x0F, 0x0B]);
    let Some(lab) = Lab::new(&guest) else { return };
    let profile = super::profile_of(&lab, "  on_reboot: reset\n  cpus: 2\n");
    let mut command = crate::support::program();
    command.arg("run").arg(profile).stdin(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.len() < MOST_LOG_BYTES, "{log}");
}
