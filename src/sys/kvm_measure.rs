//! Guests of two instructions that tell how fast KVM runs guests here: how often one can be left, and how many
//! instructions it carries out in that time.
//!
//! Both run in 64-bit mode without an interrupt controller, so that nothing but the two instructions is measured. A kick
//! from another thread ends them, whatever they do.
#![expect(unsafe_code, reason = "a counted loop in machine code, for comparison")]

use std::arch::asm;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_segment};
use kvm_ioctls::{Kvm, VmFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::sys::kvm::{Exit, HostMemory, Kicker, MemorySlot, SlotAccess, Vcpu};
use crate::sys::signal;

/// How often something happened in a time.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    /// How often.
    pub count: u64,
    /// In which time.
    pub time: Duration,
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct Speeds {
    /// Returns from the guest to this process, each caused by an `OUT`.
    pub exits: Counted,
    /// Instructions of a loop in the guest.
    pub guest_instructions: Counted,
    /// Instructions of the same loop in this process.
    pub host_instructions: Counted,
}

/// Why nothing was measured; the words are about /dev/kvm.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// /dev/kvm cannot be opened.
    #[error("it cannot be opened")]
    Open(#[source] io::Error),
    /// The guest could not be made.
    #[error("it makes no guest")]
    Make(#[source] io::Error),
    /// The guest could not be run.
    #[error("it does not run the guest")]
    Run(#[source] io::Error),
    /// The guest came back for a reason that its instructions do not give.
    #[error("the guest ended with {0}")]
    Ended(String),
    /// The machine was too busy to run the guest.
    #[error("the guest did not get to run in its time")]
    Starved,
}

/// Runs each guest for `span`, and the loop in this process for a tenth of it.
///
/// # Errors
/// [`MeasureError`].
pub fn measure(span: Duration) -> Result<Speeds, MeasureError> {
    let kvm = Kvm::new().map_err(|error| MeasureError::Open(error.into()))?;
    signal::install_kick_handler().map_err(MeasureError::Make)?;
    Ok(Speeds {
        exits: exits(&kvm, span)?,
        guest_instructions: guest_instructions(&kvm, span)?,
        host_instructions: host_instructions(span / 10),
    })
}

/// `out 0x80, al; jmp` back to it.
const LEAVES: [u8; 4] = [0xE6, 0x80, 0xEB, 0xFC];
/// `out 0x80, al`, which says that the guest runs; then `dec rcx; jnz` back to it.
const COUNTS: [u8; 7] = [0xE6, 0x80, 0x48, 0xFF, 0xC9, 0x75, 0xFB];
/// How many instructions a round of [`COUNTS`] has.
const PER_ROUND: u64 = 2;
/// How long a guest may take to its first instruction.
const START_LIMIT: Duration = Duration::from_secs(2);

fn exits(kvm: &Kvm, span: Duration) -> Result<Counted, MeasureError> {
    let mut guest = Guest::new(kvm, &LEAVES).map_err(MeasureError::Make)?;
    counted(guest.run_for(span)?)
}

fn guest_instructions(kvm: &Kvm, span: Duration) -> Result<Counted, MeasureError> {
    let mut guest = Guest::new(kvm, &COUNTS).map_err(MeasureError::Make)?;
    let Counted { time, .. } = guest.run_for(span)?;
    let left = guest.vcpu.fd().get_regs().map_err(|error| MeasureError::Run(error.into()))?.rcx;
    counted(Counted { count: (u64::MAX - left).saturating_mul(PER_ROUND), time })
}

/// A guest that did nothing tells nothing of KVM.
fn counted(counted: Counted) -> Result<Counted, MeasureError> {
    if counted.count == 0 { Err(MeasureError::Starved) } else { Ok(counted) }
}

fn host_instructions(span: Duration) -> Counted {
    const ROUNDS: u64 = 200_000;
    let begin = Instant::now();
    let mut count = 0;
    loop {
        // SAFETY: counts a register down to 0 and touches nothing else.
        unsafe {
            asm!("2:", "dec {rounds}", "jnz 2b", rounds = inout(reg) ROUNDS => _, options(nomem, nostack));
        }
        count += ROUNDS * PER_ROUND;
        let time = begin.elapsed();
        if time >= span {
            return Counted { count, time };
        }
    }
}

/// Guest-physical addresses: page tables that map the first 2 MiB to themselves, and the code.
mod layout {
    pub(super) const PML4: u64 = 0x0000;
    pub(super) const POINTERS: u64 = 0x1000;
    pub(super) const DIRECTORY: u64 = 0x2000;
    pub(super) const CODE: u64 = 0x3000;
    pub(super) const BYTES: u16 = 0x4000;
    /// Where KVM may put pages of its own, on processors without unrestricted guests (Linux:
    /// Documentation/virt/kvm/api.rst, 4.35).
    pub(super) const KVM_TSS: usize = 0xFFFB_D000;
}

/// Page table entries (Intel SDM volume 3, tables 4-15 to 4-18): present and writable; a page of 2 MiB.
const TABLE: u64 = 0b11;
const PAGE_2MIB: u64 = TABLE | 1 << 7;
/// CR0: paging and protection, on a processor with a floating point unit (Intel SDM volume 3, 2.5).
const CR0: u64 = 1 << 31 | 1 << 4 | 1 << 0;
/// CR4: physical address extension, without which there is no 64-bit mode.
const CR4: u64 = 1 << 5;
/// EFER: 64-bit mode enabled and active (Intel SDM volume 3, table 2-8).
const EFER: u64 = 1 << 10 | 1 << 8;
/// RFLAGS: the bit that is always 1.
const RFLAGS: u64 = 1 << 1;

/// A machine of one vCPU and four pages.
struct Guest {
    vcpu: Vcpu,
    kicker: Kicker,
    _memory: MemorySlot,
}

impl Guest {
    fn new(kvm: &Kvm, code: &[u8]) -> io::Result<Self> {
        let vm = Arc::new(kvm.create_vm()?);
        // Without unrestricted guests KVM needs it to make a vCPU; elsewhere it does not care.
        vm.set_tss_address(layout::KVM_TSS)?;
        let memory = Self::memory(&vm, code)?;
        let vcpu = Vcpu::new(&vm, 0)?;
        vcpu.fd().set_cpuid2(&kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?)?;
        let mut sregs = vcpu.fd().get_sregs()?;
        let data = kvm_segment {
            limit: u32::MAX,
            selector: 8,
            type_: 3,
            s: 1,
            present: 1,
            db: 1,
            g: 1,
            ..Default::default()
        };
        [sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss] = [data; 5];
        sregs.cs = kvm_segment { selector: 16, type_: 11, db: 0, l: 1, ..data };
        (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (CR0, layout::PML4, CR4, EFER);
        vcpu.fd().set_sregs(&sregs)?;
        vcpu.fd().set_regs(&kvm_regs {
            rip: layout::CODE,
            rcx: u64::MAX,
            rflags: RFLAGS,
            ..Default::default()
        })?;
        let kicker = vcpu.kicker()?;
        Ok(Self { vcpu, kicker, _memory: memory })
    }

    fn memory(vm: &Arc<VmFd>, code: &[u8]) -> io::Result<MemorySlot> {
        let ram = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), layout::BYTES.into())])
            .map_err(io::Error::other)?;
        let entries = [
            (layout::PML4, layout::POINTERS | TABLE),
            (layout::POINTERS, layout::DIRECTORY | TABLE),
            (layout::DIRECTORY, PAGE_2MIB),
        ];
        for (address, entry) in entries {
            ram.write_slice(&entry.to_le_bytes(), GuestAddress(address)).map_err(io::Error::other)?;
        }
        ram.write_slice(code, GuestAddress(layout::CODE)).map_err(io::Error::other)?;
        let memory = HostMemory::Ram(Arc::new(ram), 0);
        MemorySlot::new(Arc::clone(vm), 0, 0, memory, layout::BYTES.into(), SlotAccess::ReadWrite)
    }

    /// Runs the guest until `span` after its first exit; how often it came back since, and how long that really took.
    fn run_for(&mut self, span: Duration) -> Result<Counted, MeasureError> {
        self.kicker.attach();
        let kicker = self.kicker.clone();
        let (tell, told) = channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || {
                let begun = told.recv_timeout(START_LIMIT);
                let ended = begun.and_then(|()| told.recv_timeout(span));
                if ended == Err(RecvTimeoutError::Timeout) {
                    kicker.kick();
                }
            });
            let (mut begin, mut count) = (None::<Instant>, 0);
            let ended = loop {
                match (self.vcpu.run(), begin) {
                    (Ok(Exit::PortWrite { .. }), Some(_)) => count += 1,
                    (Ok(Exit::PortWrite { .. }), None) => {
                        begin = Some(Instant::now());
                        let _ = tell.send(()); // the other thread waits for it, or has kicked this one
                    }
                    (Ok(Exit::Interrupted), Some(begin)) => {
                        break Ok(Counted { count, time: begin.elapsed() });
                    }
                    (Ok(Exit::Interrupted), None) => break Err(MeasureError::Starved),
                    (Ok(exit), _) => break Err(MeasureError::Ended(format!("{exit:?}"))),
                    (Err(error), _) => break Err(MeasureError::Run(error)),
                }
            };
            drop(tell); // lets the other thread end at once
            ended
        })
    }
}
