//! A guest that accesses everything in every width with every value that comes to mind: ports, configuration space, firmware's
//! selectors, flash, timers, the BARs wherever it just put them, across resets. Nothing panics, hangs or grows.
//!
//! The guest is a stream of bytes ([`sweep`]): from a seed in the test, sixty times as many with `THRUWAY_TEST_SOAK=1`
//! (`tests/run --soak`); from a fuzzer in `tests/fuzz`.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::spec::units::ByteSize;
use crate::vmm::backend::console::{NoSettings, Target};
use crate::vmm::boot::firmware::testing::pair;
use crate::vmm::bus::Effects;
use crate::vmm::chipset::debug_exit::DebugExitConfig;
use crate::vmm::chipset::hpet::{self, Hpet};
use crate::vmm::chipset::pvpanic::PvpanicConfig;
use crate::vmm::chipset::vmgenid::VmGenIdConfig;
use crate::vmm::config::{
    BootConfig, CpuConfig, HotplugConfig, InterruptMode, MemoryConfig, SerialConfig, ShortForm, SlotPower,
    SmbiosConfig,
};
use crate::vmm::virtio::devices::block::{BlockConfig, ImageFormat};
use crate::vmm::virtio::devices::rng::RngConfig;

const RAM_BYTES: u64 = 16 << 20;
/// Ports that begin a device, and one that begins none.
const PORTS: [u64; 17] = [
    0x20, 0x40, 0x60, 0x64, 0x70, 0x92, 0xA0, 0xCF8, 0x2F8, 0x3F8, 0x402, 0x4D0, 0x500, 0x510, 0x600, 0x6000,
    0xFFF8,
];
/// Slots of bus 0 with a function, and one without.
const SLOTS: [u64; 5] = [0, 1, 2, 3, 31];
/// The flash chip with the variables: below the code.
const FLASH: u64 = layout::FLASH.end - 0x2_0000 - 0x8_4000;
const VALUES: [u64; 8] = [0, 1, 0x80, 0xFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, u64::MAX];

fn config(directory: &TempDir, interrupts: InterruptMode) -> MachineConfig {
    let path = |name: &str| directory.path().join(name);
    fs::write(path("disk"), [0; 1 << 16]).unwrap();
    let (firmware, firmware_vars) = match interrupts {
        InterruptMode::Kernel | InterruptMode::Split => ("OVMF_CODE_4M.fd", Some(path("variables"))),
        InterruptMode::Userspace => {
            // No volume is in it, so it is taken for something that needs no APIC.
            fs::write(path("firmware"), [[0xF4; 4096]; 16].concat()).unwrap();
            ("firmware", None)
        }
    };
    let none = || Target::None { none: NoSettings {} };
    let limited = Target::File { file: path("log"), limit: Some(ByteSize::from_bytes(4096)) };
    let disk = BlockConfig { path: path("disk"), format: ImageFormat::Raw, readonly: false, serial: None };
    MachineConfig {
        name: "sweep".to_owned(),
        cpus: CpuConfig::from_value(1),
        interrupts,
        memory: MemoryConfig::from_value(ByteSize::from_bytes(RAM_BYTES)),
        numa: Vec::new(),
        boot: BootConfig { firmware: Some(path(firmware)), firmware_vars, ..BootConfig::default() },
        serial: vec![SerialConfig(limited), SerialConfig(none())],
        hpet: Hpet::Present,
        smbios: SmbiosConfig::default(),
        on_reboot: OnReboot::Reset,
        hotplug: Some(HotplugConfig { socket: path("socket"), spare_slots: 1, power: SlotPower::Switched }),
        devices: vec![
            DeviceConfig::VirtioBlock(disk.into()),
            DeviceConfig::VirtioRng(RngConfig {}.into()),
            DeviceConfig::VirtioConsole(none().into()),
            DeviceConfig::Pvpanic(PvpanicConfig {}),
            DeviceConfig::Vmgenid(VmGenIdConfig {}),
            DeviceConfig::IsaDebugExit(DebugExitConfig {}),
        ],
    }
}

/// One access: which bus, where, how wide, and what is written there, if anything is.
struct Access<'a> {
    bus: &'a Bus,
    address: u64,
    size: usize,
    value: Option<u64>,
}

fn pick<const N: usize>(values: [u64; N], byte: u8) -> u64 {
    values[usize::from(byte) % N]
}

/// What the next four to seven bytes of a guest mean to `machine`; missing ones are 0.
fn access<'a>(machine: &'a Machine, bytes: &mut impl Iterator<Item = u8>) -> Option<Access<'a>> {
    let (pio, mmio) = (&*machine.shared.pio, &*machine.shared.mmio);
    let kind = bytes.next()?;
    let mut next = || bytes.next().unwrap_or(0);
    let [at, fine] = [next(), next()];
    let (at, fine) = (u64::from(at), u64::from(fine));
    let word = at << 8 | fine;
    let (bus, address) = match kind % 8 {
        0 => (pio, word),
        1 | 2 => (pio, pick(PORTS, kind / 8) + at % 16),
        3 | 4 => {
            let (bus, slot) = if kind & 0x80 == 0 { (0, pick(SLOTS, kind >> 4)) } else { (at % 5, 0) };
            // What is written most is the header.
            let register = if fine % 2 == 0 { fine / 2 } else { word % 0x1000 };
            (mmio, layout::ECAM.start + (bus << 20) + (slot << 15) + register)
        }
        5 => {
            let bases = [hpet::BASE, layout::IOAPIC, FLASH, layout::ECAM.end - 8];
            (mmio, pick(bases, kind >> 4) + word % 0x400)
        }
        6 => (mmio, word << 16 | at),
        _ => {
            let functions = machine.shared.root.functions();
            let function = &functions[usize::from(kind >> 3) % functions.len()].1;
            let bar = function.bar_address(usize::try_from(at % 6).unwrap());
            (if at & 0x40 == 0 { mmio } else { pio }, bar.wrapping_add(word % 0x4000))
        }
    };
    let choice = next();
    let size = 1 << (choice % if std::ptr::eq(bus, pio) { 3 } else { 4 });
    let value = match choice >> 2 & 7 {
        0 | 1 => None,
        2..=4 => Some(pick(VALUES, next())),
        5 => Some(u64::from(next()) << (8 * (choice >> 5))),
        _ => Some(u64::from_le_bytes([next(), next(), next(), choice, 0, 0, 0, 0])),
    };
    Some(Access { bus, address, size, value })
}

/// Has a guest access `machine` as its bytes say, and restarts it where the guest asks for it.
fn sweep(machine: &Machine, mut guest: impl Iterator<Item = u8>) {
    while let Some(Access { bus, address, size, value }) = access(machine, &mut guest) {
        let Some(value) = value else {
            bus.read(address, &mut [0; 8][..size]);
            continue;
        };
        let effects = bus.write(address, &value.to_le_bytes()[..size]);
        if effects.contains(Effects::REMAP_BARS) {
            machine.shared.root.remap();
        }
        if effects.contains(Effects::RESET) {
            restart(machine);
        }
    }
}

fn restart(machine: &Machine) {
    machine.shared.root.reset();
    machine.chipset.reset();
    let power_on = machine.power_on.as_ref().unwrap();
    machine.vm.irqchip().restore(&power_on.chips).unwrap();
}

/// A guest whose accesses are `bytes`, on a machine that is built once for each thread and begins anew. Needs KVM.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8]) {
    thread_local! {
        static MACHINE: (TempDir, Machine) = {
            let directory = pair();
            let machine = Machine::build(&config(&directory, InterruptMode::Split)).unwrap();
            (directory, machine)
        };
    }
    MACHINE.with(|(_, machine)| {
        restart(machine);
        sweep(machine, bytes.iter().copied());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// About 50,000 accesses.
    const ROUND_BYTES: usize = 250_000;

    /// Bytes that look drawn by lot (Marsaglia, "Xorshift RNGs", 2003).
    fn drawn(seed: u64) -> impl Iterator<Item = u8> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        std::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[5]
        })
    }

    #[test]
    fn a_guest_that_accesses_everything_with_everything_ends_nothing() {
        let rounds = if std::env::var_os("THRUWAY_TEST_SOAK").is_some() { 60 } else { 1 };
        for (mode, seed) in
            [InterruptMode::Kernel, InterruptMode::Split, InterruptMode::Userspace].into_iter().zip(1..)
        {
            let directory = pair();
            let machine = match Machine::build(&config(&directory, mode)) {
                Ok(machine) => machine,
                Err(BuildError::Kvm(error)) => return eprintln!("SKIP: {error}"),
                Err(error) => panic!("{error}"),
            };
            sweep(&machine, drawn(seed).take(rounds * ROUND_BYTES));
            let log = fs::metadata(directory.path().join("log")).map_or(0, |file| file.len());
            assert!(log <= 4096, "{log}");
        }
    }
}
