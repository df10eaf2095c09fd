//! The guest: some instructions in real mode with data segments of 4 GiB, a table of interrupts, and what it leaves in its
//! memory. Real mode, because a KVM in software knows how to return from an interrupt there, and nowhere else (Linux:
//! arch/x86/kvm/emulate.c, `em_iret`).
//!
//! Instructions: Intel SDM vol. 2. PIC: Intel 8259A data sheet. I/O APIC: Intel 82093AA data sheet, 3.2. Local APIC: Intel SDM
//! vol. 3, 11.4 and 11.9.

use std::io;
use std::sync::Arc;

use kvm_bindings::{CpuId, kvm_regs, kvm_segment};

use crate::sys::kvm::{Exit, Vcpu};
use crate::vmm::config::InterruptMode;
use crate::vmm::kvm::{SlotGuard, Vm};
use crate::vmm::memory::GuestMemory;

/// Guest RAM.
const RAM_BYTES: u64 = 1 << 20;
const ENTRY: u16 = 0x2000;
const HANDLER_OF_PIC: u16 = 0x3000;
const HANDLER_OF_APIC: u16 = 0x3100;
/// Set by a handler, cleared by the guest's loop.
const FLAG: u16 = 0x4000;
const STACK: u16 = 0x9000;
/// Where the guest leaves what it counted, four bytes each.
const COUNTS: u32 = 0x1_0000;
/// Most counts.
pub(super) const MOST_COUNTS: u32 = 0x1_0000;

/// A port and an address at which nothing is.
pub(super) const PORT: u8 = 0xE0;
pub(super) const MMIO: u32 = 0xD000_0000;
/// A write here ends what the guest counts.
pub(super) const COUNTED: u8 = 0xE1;
/// A handler has begun.
pub(super) const HANDLED: u8 = 0xE2;
/// The guest is back from a handler, and about to wait for the next interrupt.
pub(super) const READY: u8 = 0xE3;
/// A port behind which an eventfd stands.
pub(super) const EVENT_PORT: u8 = 0xE4;

/// The input of PIC and I/O APIC that is used: one of the ISA bus, whose edges count.
pub(super) const GSI: u32 = 3;
/// What the PIC adds to its input, and the vectors of the others.
const PIC_BASE: u8 = 0x20;
const PIC_VECTOR: u8 = PIC_BASE + 3;
const IOAPIC_VECTOR: u8 = 0x43;
/// The vector of messages.
pub(super) const MSI_VECTOR: u8 = 0x46;

const IOAPIC_SELECT: u32 = 0xFEC0_0000;
const IOAPIC_WINDOW: u32 = 0xFEC0_0010;
const LOCAL_APIC: u32 = 0xFEE0_0000;
const SPURIOUS: u32 = LOCAL_APIC + 0xF0;
const END_OF_INTERRUPT: u32 = LOCAL_APIC + 0xB0;

/// Which controller takes the interrupts that a guest waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    Pic,
    IoApic,
    /// Messages come straight to the local APIC.
    LocalApic,
}

/// What the guest does between interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Between {
    Spins,
    Halts,
}

/// What the guest counts cycles of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// A write to [`EVENT_PORT`].
    Ioeventfd,
    /// A hypercall that KVM answers by itself (Linux: Documentation/virt/kvm/x86/hypercalls.rst, KVM_HC_VAPIC_POLL_IRQ).
    Hypercall,
}

/// What the guest is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    /// Writes to [`PORT`], for ever.
    PortExits,
    /// Writes to [`MMIO`], for ever.
    MmioExits,
    /// Counts the cycles of so many of something, then writes to [`COUNTED`].
    Count(Counted, u32),
    /// Waits for interrupts; says [`HANDLED`] in each, and [`READY`] before each wait.
    Wait(Controller, Between),
}

/// Instructions, one behind the other.
#[derive(Debug, Default)]
struct Code(Vec<u8>);

impl Code {
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// `mov al, value; out port, al`
    fn out(self, port: u8, value: u8) -> Self {
        self.raw(&[0xB0, value, 0xE6, port])
    }

    /// `mov dword [address], value`
    fn store(self, address: u32, value: u32) -> Self {
        self.raw(&[0x67, 0x66, 0xC7, 0x05]).raw(&address.to_le_bytes()).raw(&value.to_le_bytes())
    }

    /// `jmp` to `target`, as an offset from the beginning; within 128 bytes.
    fn jump(self, target: usize) -> Self {
        let at = self.0.len();
        self.raw(&[0xEB, displacement(at, target)])
    }

    /// Both PICs at [`PIC_BASE`], with these inputs of the first one masked and all of the second.
    fn pic(self, mask: u8) -> Self {
        // ICW1 to ICW4: edges, cascade, 8086 mode; then OCW1.
        [(0x20, 0x11), (0x21, PIC_BASE), (0x21, 0x04), (0x21, 0x01), (0x21, mask)]
            .into_iter()
            .chain([(0xA0, 0x11), (0xA1, PIC_BASE + 8), (0xA1, 0x02), (0xA1, 0x01), (0xA1, 0xFF)])
            .fold(self, |code, (port, value)| code.out(port, value))
    }
}

/// The operand of a short jump at `at`.
fn displacement(at: usize, target: usize) -> u8 {
    let [low, ..] = target.wrapping_sub(at + 2).to_le_bytes();
    low
}

/// The instruction of a hypercall, which differs by vendor (Intel SDM vol. 3, 31.3; AMD APM vol. 3, VMMCALL).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Vmcall,
    Vmmcall,
}

impl Call {
    fn of(cpuid: &CpuId) -> Self {
        // The vendor's first four letters, in EBX of leaf 0.
        let vendor =
            cpuid.as_slice().iter().find(|leaf| leaf.function == 0).map(|leaf| leaf.ebx.to_le_bytes());
        match vendor.as_ref() {
            Some(b"Auth" | b"Hygo") => Self::Vmmcall,
            _ => Self::Vmcall,
        }
    }

    fn code(self) -> [u8; 3] {
        match self {
            Self::Vmcall => [0x0F, 0x01, 0xC1],
            Self::Vmmcall => [0x0F, 0x01, 0xD9],
        }
    }
}

impl Program {
    fn code(self, call: Call) -> Vec<u8> {
        match self {
            // out PORT, al; jmp
            Self::PortExits => Code::default().raw(&[0xE6, PORT]).jump(0).0,
            // mov [MMIO], eax; jmp
            Self::MmioExits => Code::default().raw(&[0x67, 0x66, 0xA3]).raw(&MMIO.to_le_bytes()).jump(0).0,
            Self::Count(what, times) => {
                let [first, second, third] = call.code();
                let operation = match what {
                    Counted::Ioeventfd => vec![0xE6, EVENT_PORT],
                    // mov eax, 1; vmcall
                    Counted::Hypercall => vec![0x66, 0xB8, 1, 0, 0, 0, first, second, third],
                };
                // mov ecx, times; mov edi, COUNTS; cld
                let before = Code::default()
                    .raw(&[0x66, 0xB9])
                    .raw(&times.to_le_bytes())
                    .raw(&[0x66, 0xBF])
                    .raw(&COUNTS.to_le_bytes())
                    .raw(&[0xFC]);
                let begin = before.0.len();
                // rdtsc; mov esi, eax; ..; rdtsc; sub eax, esi; stosd to [edi]; loop by ecx
                let code = before
                    .raw(&[0x0F, 0x31, 0x66, 0x89, 0xC6])
                    .raw(&operation)
                    .raw(&[0x0F, 0x31, 0x66, 0x29, 0xF0, 0x67, 0x66, 0xAB, 0x67]);
                let at = code.0.len();
                let again = code.raw(&[0xE2, displacement(at, begin)]).out(COUNTED, 0);
                let end = again.0.len();
                again.raw(&[0xF4]).jump(end).0
            }
            Self::Wait(controller, between) => {
                let pic_mask = if controller == Controller::Pic { !(1 << GSI) } else { 0xFF };
                let mut code = Code::default().pic(pic_mask);
                if controller != Controller::Pic {
                    // Software enable, spurious vector FFh.
                    code = code.store(SPURIOUS, 0x1FF);
                }
                if controller == Controller::IoApic {
                    // Edge, physical, fixed, for local APIC 0.
                    let entry = 0x10 + 2 * GSI;
                    code = code
                        .store(IOAPIC_SELECT, entry + 1)
                        .store(IOAPIC_WINDOW, 0)
                        .store(IOAPIC_SELECT, entry)
                        .store(IOAPIC_WINDOW, IOAPIC_VECTOR.into());
                }
                // loop: out READY; wait: cli; cmp byte [FLAG], 0; jne handled; sti; hlt or pause; jmp wait
                let begin = code.0.len();
                let code = code.out(READY, 0);
                let wait = code.0.len();
                let code = code.raw(&[0xFA, 0x80, 0x3E]).raw(&FLAG.to_le_bytes()).raw(&[0]);
                let test = code.0.len();
                let rest: &[u8] = match between {
                    Between::Halts => &[0xFB, 0xF4],
                    // The instruction behind sti still runs without interrupts: pause twice.
                    Between::Spins => &[0xFB, 0xF3, 0x90, 0xF3, 0x90],
                };
                let handled = test + 2 + rest.len() + 2;
                code.raw(&[0x75, displacement(test, handled)])
                    .raw(rest)
                    .jump(wait)
                    .store(FLAG.into(), 0)
                    .jump(begin)
                    .0
            }
        }
    }
}

/// `push ax; out HANDLED, al; mov dword [FLAG], 1; end of interrupt; pop ax; iret`
fn handler(of: Controller) -> Vec<u8> {
    let code = Code::default().raw(&[0x50]).out(HANDLED, 0).store(FLAG.into(), 1);
    let code = match of {
        // Non-specific end of interrupt (OCW2).
        Controller::Pic => code.out(0x20, 0x20),
        Controller::IoApic | Controller::LocalApic => code.store(END_OF_INTERRUPT, 0),
    };
    code.raw(&[0x58, 0xCF]).0
}

/// A machine for one guest.
pub(super) fn machine(interrupts: InterruptMode) -> io::Result<Arc<Vm>> {
    Vm::new(interrupts).map_err(io::Error::other)
}

/// For an exit that no program has.
pub(super) fn unexpected(exit: &Exit<'_>) -> io::Error {
    io::Error::other(format!("the guest ended with {exit:?}"))
}

/// One guest with one vCPU.
#[derive(Debug)]
pub(super) struct Guest {
    memory: GuestMemory,
    _slots: Vec<SlotGuard>,
    /// Its vCPU.
    pub(super) vcpu: Vcpu,
}

impl Guest {
    /// A guest in `vm`, which has no vCPU yet, that runs `program`.
    pub(super) fn new(vm: &Arc<Vm>, program: Program) -> io::Result<Self> {
        let memory = GuestMemory::new(RAM_BYTES).map_err(io::Error::other)?;
        let slots = vm.map_ram(&memory)?;
        let write =
            |address: u16, bytes: &[u8]| memory.write(address.into(), bytes).map_err(io::Error::other);
        // The table of interrupts: offset and segment of each handler, from address 0 on.
        for (vector, handler) in
            [(PIC_VECTOR, HANDLER_OF_PIC), (IOAPIC_VECTOR, HANDLER_OF_APIC), (MSI_VECTOR, HANDLER_OF_APIC)]
        {
            write(4 * u16::from(vector), &u32::from(handler).to_le_bytes())?;
        }
        write(HANDLER_OF_PIC, &handler(Controller::Pic))?;
        write(HANDLER_OF_APIC, &handler(Controller::LocalApic))?;
        let cpuid = vm.supported_cpuid()?;
        write(ENTRY, &program.code(Call::of(&cpuid)))?;
        let vcpu = vm.vcpu(0)?;
        vcpu.fd().set_cpuid2(&cpuid)?;
        enter(&vcpu)?;
        Ok(Self { memory, _slots: slots, vcpu })
    }

    /// The first `times` of what it counted.
    pub(super) fn counts(&self, times: u32) -> io::Result<Vec<u32>> {
        let mut bytes = vec![0; 4 * times as usize];
        self.memory.read(COUNTS.into(), &mut bytes).map_err(io::Error::other)?;
        let words = bytes.chunks_exact(4).filter_map(|bytes| bytes.try_into().ok().map(u32::from_le_bytes));
        Ok(words.collect())
    }
}

/// A segment from address 0 on (Intel SDM vol. 3, 3.4.5).
fn segment(type_: u8, limit: u32) -> kvm_segment {
    let g = u8::from(limit > 0xFFFF);
    kvm_segment { limit, type_, present: 1, s: 1, g, ..Default::default() }
}

fn enter(vcpu: &Vcpu) -> io::Result<()> {
    /// Accessed code to be read, accessed data to be written (Intel SDM vol. 3, 3.4.5.1).
    const CODE: u8 = 0xB;
    const DATA: u8 = 0x3;
    let mut sregs = vcpu.fd().get_sregs()?;
    sregs.cs = segment(CODE, 0xFFFF);
    let data = segment(DATA, u32::MAX);
    [sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss] = [data; 5];
    sregs.idt.base = 0;
    sregs.idt.limit = 0x3FF;
    vcpu.fd().set_sregs(&sregs)?;
    let regs = kvm_regs { rip: ENTRY.into(), rsp: STACK.into(), rflags: 1 << 1, ..Default::default() };
    Ok(vcpu.fd().set_regs(&regs)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_lead_where_they_should() {
        assert_eq!(Program::PortExits.code(Call::Vmcall), [0xE6, PORT, 0xEB, 0xFC]);
        let code = Program::Wait(Controller::LocalApic, Between::Halts).code(Call::Vmcall);
        let test = code.windows(2).position(|pair| pair[0] == 0x75).unwrap();
        let handled = test + 2 + usize::from(code[test + 1]);
        assert_eq!(code[handled..handled + 4], [0x67, 0x66, 0xC7, 0x05], "the flag is cleared there");
        let back = code.len() - 2;
        let begin = (back + 2).wrapping_add_signed(isize::from(code[back + 1].cast_signed()));
        assert_eq!(code[begin..begin + 4], [0xB0, 0, 0xE6, READY]);
    }

    #[test]
    fn no_code_reaches_into_the_next() {
        for between in [Between::Spins, Between::Halts] {
            for controller in [Controller::Pic, Controller::IoApic, Controller::LocalApic] {
                assert!(Program::Wait(controller, between).code(Call::Vmmcall).len() < 0x1000);
            }
        }
        assert!(handler(Controller::Pic).len() < 0x100);
        const { assert!(COUNTS + 4 * MOST_COUNTS <= 0x8_0000) };
    }
}
