//! Vectors of a real function that a guest masks and unmasks: none of its interrupts is lost.

use std::time::Duration;

use super::SHELL;
use crate::lab::Lab;
use crate::vm::Guest;
use crate::vm::interrupts::COUNT;
use thruway::rehearse::Options;

/// Rounds of each kind in each mode; with `THRUWAY_TEST_SOAK=1` (`tests/run --soak`) a hundred thousand of both, which takes
/// many minutes.
fn wanted() -> u32 {
    if std::env::var_os("THRUWAY_TEST_SOAK").is_some() { 50_000 } else { 1_000 }
}

/// Configuration space of root port 2, behind that of the source of random numbers that every machine has without a profile.
const PORT: u32 = 0x8000_0000 | 2 << 11;
/// That of the function behind it.
const FUNCTION: u32 = 0x8000_0000 | 2 << 16;
/// Its MSI-X capability (Intel 82576 data sheet, 9.5).
const MSIX: u32 = 0x70;
/// Where this guest puts BAR 3, in which the table is; the pending bits lie 2000h behind it.
const TABLE: u32 = 0xC800_0000;
/// Registers of the 82576 (8.8): interrupts by MSI-X; cause set; mask set; auto clear.
const GPIE: u32 = 0x1514;
const EICS: u32 = 0x1520;
const EIMS: u32 = 0x1524;
const EIAC: u32 = 0x152C;

impl Guest {
    /// Writes or reads the configuration register at `address`: EAX.
    fn config(self, address: u32) -> Self {
        // mov eax, address; mov dx, 0xCF8; out dx, eax; mov dx, 0xCFC
        self.bytes(&[0xB8])
            .bytes(&address.to_le_bytes())
            .bytes(&[0x66, 0xBA, 0xF8, 0x0C, 0xEF, 0x66, 0xBA, 0xFC, 0x0C])
    }

    fn config_write(self, address: u32, value: u32) -> Self {
        // mov eax, value; out dx, eax
        self.config(address).bytes(&[0xB8]).bytes(&value.to_le_bytes()).bytes(&[0xEF])
    }

    /// `mov dword [esi + register], value`: BAR 0.
    fn write_register(self, register: u32, value: u32) -> Self {
        self.bytes(&[0xC7, 0x86]).bytes(&register.to_le_bytes()).bytes(&value.to_le_bytes())
    }

    /// `mov dword [edi + offset], value`: entry 0 of the table.
    fn write_entry(self, offset: u8, value: u32) -> Self {
        self.bytes(&[0xC7, 0x47, offset]).bytes(&value.to_le_bytes())
    }

    /// [`wanted`] times: mask, cause, what `between` adds, unmask, wait for the interrupt. EBX counts.
    fn rounds(self, between: impl FnOnce(Self) -> Self) -> Self {
        // mov ebp, wanted
        let guest = self.bytes(&[0xBD]).bytes(&wanted().to_le_bytes());
        let start = guest.0.len();
        let guest = between(guest.write_entry(12, 1).write_register(EICS, 1))
            .write_entry(12, 0)
            // inc ebx; L: pause; cmp [COUNT], ebx; jb L; dec ebp
            .bytes(&[0x43, 0xF3, 0x90, 0x39, 0x1D])
            .bytes(&COUNT.to_le_bytes())
            .bytes(&[0x72, 0xF6, 0x4D]);
        let length = i32::try_from(guest.0.len() - start).unwrap() + 6;
        // jnz start
        guest.bytes(&[0x0F, 0x85]).bytes(&(-length).to_le_bytes())
    }
}

#[test]
fn no_interrupt_of_a_masked_vector_is_lost() {
    let Some(lab) = Lab::open() else { return };
    // What was masked is pending before it is unmasked (test dword [edi + 0x2000], 1; jz back), and then whichever comes first.
    let pending = |guest: Guest| guest.bytes(&[0xF7, 0x87, 0, 0x20, 0, 0, 1, 0, 0, 0, 0x74, 0xF4]);
    let guest = Guest::default()
        .with_gates()
        .out8(0x21, 0xFF)
        .store(0xFEE0_00F0, 0x1FF)
        // BAR 3 is placed above 4 GiB, which this guest cannot reach.
        .config_write(FUNCTION | 0x1C, TABLE)
        .config_write(FUNCTION | 0x20, 0)
        // The port's second window follows it there.
        .config_write(PORT | 0x24, TABLE | TABLE >> 16)
        .config_write(PORT | 0x28, 0)
        .config_write(PORT | 0x2C, 0)
        .config_write(FUNCTION | 4, 6)
        // mov edi, TABLE; in eax, dx; and al, 0xF0; mov esi, eax
        .bytes(&[0xBF])
        .bytes(&TABLE.to_le_bytes())
        .config(FUNCTION | 0x10)
        .bytes(&[0xED, 0x24, 0xF0, 0x89, 0xC6])
        .write_entry(0, 0xFEE0_0000)
        .write_entry(4, 0)
        .write_entry(8, 0x50)
        .write_entry(12, 0)
        .config_write(FUNCTION | MSIX, 0x8000_0000)
        .write_register(GPIE, 1 << 4)
        .write_register(EIAC, 1)
        .write_register(EIMS, 1)
        // xor ebx, ebx
        .bytes(&[0x31, 0xDB])
        .sti()
        .rounds(pending)
        .print("pending ")
        .rounds(|guest| guest)
        .cli();
    // mov eax, [COUNT]; rol eax, 16, 24 or not at all: bytes from the highest.
    let guest = [16, 24, 0]
        .into_iter()
        .fold(guest, |guest, shift| guest.load(COUNT).bytes(&[0xC1, 0xC0, shift]).print_hex());
    let guest = guest.power_off().counted_by(|guest| guest.store(0xFEE0_00B0, 0));
    let files = vec![("kernel".to_owned(), guest.elf())];
    let script = format!(
        "{SHELL}
        bind 0000:01:00.0
        for chips in kernel split; do
            start=$(date +%s)
            thruway run --kernel $LAB_IN/kernel --memory 64MiB --interrupts $chips --vfio 0000:01:00.0 </dev/null
            echo \" $chips\"
            echo \"$chips: $(($(date +%s) - start)) s\" >&2
        done"
    );

    let run = lab.run_with(
        "vtd-igb",
        Options { files, limit: Some(Duration::from_secs(1800)), ..Options::default() },
        &script,
    );

    run.succeeded();
    println!("{}", run.stderr());
    let count = format!("{:06X}", 2 * wanted());
    assert_eq!(run.stdout(), format!("pending {count} kernel\npending {count} split\n"), "{}", run.stderr());
}
