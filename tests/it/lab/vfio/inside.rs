//! Run in the emulated host, as root, on functions that are bound to vfio-pci.

use std::fs;
use std::sync::Arc;

use thruway::spec::pci::PciAddress;
use thruway::vmm::bus::{AccessSize, Effects};
use thruway::vmm::config::InterruptMode;
use thruway::vmm::interrupt::{InterruptLine, LineController};
use thruway::vmm::kvm::Vm;
use thruway::vmm::memory::GuestMemory;
use thruway::vmm::pci::rom::Rom;
use thruway::vmm::pci::{Backing, FunctionContext, PciFunction};
use thruway::vmm::vfio::{self, Container, VfioConfig, VfioError};

const RAM_BYTES: u64 = 64 << 20;

fn address(variable: &str) -> PciAddress {
    std::env::var(variable).unwrap().parse().unwrap()
}

struct Machine {
    vm: Arc<Vm>,
    memory: Arc<GuestMemory>,
    container: Arc<Container>,
}

impl Machine {
    fn new() -> Self {
        let vm = Vm::new(InterruptMode::Kernel).unwrap();
        let memory = Arc::new(GuestMemory::new(RAM_BYTES).unwrap());
        let container = Container::new(Some(vm.vfio_device().unwrap()), Arc::clone(&memory)).unwrap();
        Self { vm, memory, container }
    }

    fn open(&self, address: PciAddress) -> Result<Arc<dyn PciFunction>, VfioError> {
        let chip = Arc::new(self.vm.irqchip().clone());
        let context = FunctionContext {
            memory: Arc::clone(&self.memory),
            msi: Arc::clone(&chip) as _,
            intx: InterruptLine::new(16, chip as Arc<dyn LineController>),
            rom: Rom::Own,
        };
        vfio::open(&VfioConfig { address }, &self.container, context)
    }
}

/// Memory that this process has locked, in bytes.
fn locked() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
    1024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
}

/// The VFIO interrupts of the host, without their function's address.
fn interrupts(address: PciAddress) -> Vec<String> {
    let text = fs::read_to_string("/proc/interrupts").unwrap();
    let names = text.lines().filter_map(|line| line.split_whitespace().last());
    names.filter_map(|name| name.strip_suffix(&format!("({address})")).map(str::to_owned)).collect()
}

/// Where a capability is in the guest's view.
fn capability(function: &dyn PciFunction, id: u32) -> Option<u16> {
    let mut at = function.config_read(0x34, AccessSize::Byte);
    for _ in 0..48 {
        let offset = u16::try_from(at).ok().filter(|offset| *offset != 0)?;
        if function.config_read(offset, AccessSize::Byte) == id {
            return Some(offset);
        }
        at = function.config_read(offset + 1, AccessSize::Byte);
    }
    None
}

/// Writes vector control of MSI-X entry `vector`.
fn mask(function: &dyn PciFunction, msix: u16, vector: u64, masked: bool) {
    let place = function.config_read(msix + 4, AccessSize::Dword);
    let at = u64::from(place & !7) + 16 * vector + 12;
    let segments = function.bar(usize::try_from(place & 7).unwrap()).unwrap().segments;
    let segment = segments.iter().find(|s| (s.offset..s.offset + s.size).contains(&at)).unwrap();
    let Backing::Trap(device) = &segment.backing else { panic!("the table is mapped into the guest") };
    let _ = device.write(at - segment.offset, AccessSize::Dword, u64::from(masked)).unwrap();
}

fn vf(machine: &Machine) {
    let address = address("VF");
    let function = machine.open(address).unwrap();
    assert_eq!(locked(), RAM_BYTES, "all RAM is mapped for DMA");
    assert_eq!(function.config_read(0, AccessSize::Dword), 0x10CA_8086);
    assert_eq!(function.config_read(8, AccessSize::Dword) >> 8, 0x02_0000);
    assert_eq!(function.config_read(0x3D, AccessSize::Byte), 0, "a virtual function has no pin");
    let msix = capability(&*function, 0x11).unwrap();
    assert_eq!(function.config_write(4, AccessSize::Word, 6), Effects::REMAP_BARS);
    assert_eq!(function.config_read(4, AccessSize::Word), 6);
    let _ = function.config_write(msix + 2, AccessSize::Word, 0x8000);
    for vector in [0, 2] {
        mask(&*function, msix, vector, false);
    }
    assert_eq!(interrupts(address), ["vfio-msix[0]", "vfio-msix[2]"]);
    let _ = function.config_write(msix + 2, AccessSize::Word, 0);
    assert_eq!(interrupts(address), [] as [&str; 0]);
    drop(function);
    assert_eq!(locked(), 0, "nothing stays mapped");
}

fn nvme(machine: &Machine) {
    let address = address("NVME");
    let function = machine.open(address).unwrap();
    assert_eq!(function.config_read(8, AccessSize::Dword) >> 8, 0x01_0802);
    assert_eq!(interrupts(address), ["vfio-intx"]);
    let msix = capability(&*function, 0x11).unwrap();
    for _ in 0..20 {
        let _ = function.config_write(msix + 2, AccessSize::Word, 0x8000);
        mask(&*function, msix, 1, false);
        assert_eq!(interrupts(address), ["vfio-msix[1]"]);
        mask(&*function, msix, 1, true);
        let _ = function.config_write(msix + 2, AccessSize::Word, 0);
        assert_eq!(interrupts(address), ["vfio-intx"]);
    }
    let express = capability(&*function, 0x10).unwrap();
    let _ = function.config_write(4, AccessSize::Word, 6);
    let _ = function.config_write(msix + 2, AccessSize::Word, 0x8000);
    let effects = function.config_write(express + 8, AccessSize::Word, 0x8000);
    assert!(effects.contains(Effects::REMAP_BARS), "function level reset");
    assert_eq!(function.config_read(4, AccessSize::Word), 0);
    assert_eq!(interrupts(address), ["vfio-intx"]);
    function.reset();
    assert_eq!(interrupts(address), ["vfio-intx"]);
}

#[test]
#[ignore = "runs in the emulated host"]
fn functions_open_and_are_given_back() {
    let machine = Machine::new();
    vf(&machine);
    nvme(&machine);
    let both = [address("VF"), address("NVME")].map(|address| machine.open(address).unwrap());
    let second = Machine::new();
    let error = second.open(address("VF")).err().unwrap().to_string();
    assert!(error.ends_with(&format!("is in use by process {}", std::process::id())), "{error}");
    assert_eq!(locked(), RAM_BYTES, "one container, mapped once");
    drop(both);
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    for _ in 0..10 {
        drop(machine.open(address("NVME")).unwrap());
        assert_eq!(locked(), 0);
    }
    assert_eq!(descriptors(), before);
    println!("passthrough: done");
}

#[test]
#[ignore = "runs in the emulated host"]
fn refusal() {
    let memory = Arc::new(GuestMemory::new(RAM_BYTES).unwrap());
    let vm = Vm::new(InterruptMode::Kernel);
    let kvm = vm.as_ref().ok().and_then(|vm| vm.vfio_device().ok());
    let container = Container::new(kvm, Arc::clone(&memory)).unwrap();
    let lines = vm.map_or_else(|error| panic!("{error}"), |vm| Arc::new(vm.irqchip().clone()));
    let context = FunctionContext {
        memory,
        msi: Arc::clone(&lines) as _,
        intx: InterruptLine::new(16, lines as Arc<dyn LineController>),
        rom: Rom::Own,
    };
    let config = VfioConfig { address: address("ADDRESS") };
    let error = vfio::open(&config, &container, context).err().expect("it was not refused");
    println!("\nrefused: {error}");
}
