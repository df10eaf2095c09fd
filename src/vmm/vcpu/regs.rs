//! General, segment and control registers at a payload's first instruction, and the whole state of a vCPU at power-on, to
//! come back to at a reset.

use std::io;

use kvm_bindings::{
    Msrs, kvm_debugregs, kvm_fpu, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_segment,
    kvm_sregs, kvm_vcpu_events, kvm_xcrs,
};
use kvm_ioctls::VcpuFd;

use crate::spec::msr;
use crate::vmm::boot::{self, Entry, multiboot};

/// Bit 1 of RFLAGS is always set; interrupts are off (Intel SDM vol. 1, 3.4.3).
const RFLAGS: u64 = 1 << 1;
/// CR0: protected mode, x87 present, paging.
const CR0_PE: u64 = 1 << 0;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
/// CR4: physical address extension.
const CR4_PAE: u64 = 1 << 5;
/// EFER: long mode enabled and active.
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

/// A flat segment from the GDT entry that `selector` names (descriptor layout: Intel SDM vol. 3, 3.4.5).
fn segment(selector: u16) -> kvm_segment {
    let descriptor = boot::GDT_ENTRIES.get(usize::from(selector >> 3)).copied().unwrap_or(0);
    let field = |shift: u32, bits: u32| descriptor >> shift & ((1 << bits) - 1);
    let byte = |shift, bits| u8::try_from(field(shift, bits)).unwrap_or(0);
    let granular = byte(55, 1);
    let limit = field(0, 16) | field(48, 4) << 16;
    let limit = if granular == 1 { limit << 12 | 0xFFF } else { limit };
    kvm_segment {
        base: field(16, 24) | field(56, 8) << 24,
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
        selector,
        type_: byte(40, 4),
        s: byte(44, 1),
        dpl: byte(45, 2),
        present: byte(47, 1),
        avl: byte(52, 1),
        l: byte(53, 1),
        db: byte(54, 1),
        g: granular,
        ..Default::default()
    }
}

const CODE_32: u16 = 0x08;
const CODE_64: u16 = 0x10;
const DATA: u16 = 0x18;
const TASK: u16 = 0x20;

/// Changes the power-on registers `sregs` into those of `entry`; returns the general ones.
fn registers(entry: Entry, sregs: &mut kvm_sregs) -> kvm_regs {
    let data = segment(DATA);
    [sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss] = [data; 5];
    sregs.tr = segment(TASK);
    sregs.gdt.base = boot::GDT;
    sregs.gdt.limit = u16::try_from(size_of_val(&boot::GDT_ENTRIES) - 1).unwrap_or(0);
    match entry {
        // Not called for it.
        Entry::PowerOn => kvm_regs::default(),
        Entry::Long { rip, rsi } => {
            sregs.cs = segment(CODE_64);
            sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
            sregs.cr3 = boot::PAGE_TABLES;
            sregs.cr4 = CR4_PAE;
            sregs.efer = EFER_LME | EFER_LMA;
            kvm_regs { rip, rsi, rflags: RFLAGS, ..Default::default() }
        }
        Entry::Protected { eip, ebx, esi } => {
            sregs.cs = segment(CODE_32);
            sregs.cr0 = CR0_PE | CR0_ET;
            sregs.cr4 = 0;
            sregs.efer = 0;
            let (rip, rbx, rsi) = (eip.into(), ebx.into(), esi.into());
            kvm_regs { rip, rbx, rsi, rflags: RFLAGS, ..Default::default() }
        }
        Entry::Multiboot { eip, info } => {
            let regs = registers(Entry::Protected { eip, ebx: info, esi: 0 }, sregs);
            kvm_regs { rax: multiboot::BOOTED.into(), ..regs }
        }
    }
}

/// Puts a vCPU in power-on state at the payload's first instruction.
pub(super) fn enter(vcpu: &VcpuFd, entry: Entry) -> io::Result<()> {
    if entry == Entry::PowerOn {
        // KVM makes vCPUs like this, and a reset brings them back to it.
        return Ok(());
    }
    let mut sregs = vcpu.get_sregs()?;
    let regs = registers(entry, &mut sregs);
    vcpu.set_sregs(&sregs)?;
    Ok(vcpu.set_regs(&regs)?)
}

/// Whether a vCPU has a local APIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LocalApic {
    /// In the kernel.
    Kernel,
    /// No.
    None,
}

/// What KVM keeps of a vCPU, as far as a reset defines it: vector registers beyond SSE keep their content, as they do over
/// INIT (Intel SDM vol. 3, table 11-1).
pub(super) struct PowerOnState {
    regs: kvm_regs,
    sregs: kvm_sregs,
    fpu: kvm_fpu,
    xcrs: kvm_xcrs,
    debug: kvm_debugregs,
    /// None where the machine has no local APIC.
    lapic: Option<Box<kvm_lapic_state>>,
    msrs: Vec<kvm_msr_entry>,
    events: kvm_vcpu_events,
    mp_state: kvm_mp_state,
}

impl PowerOnState {
    /// The state now; `indexes` are the model-specific registers to include.
    pub(super) fn capture(vcpu: &VcpuFd, indexes: &[u32], local_apic: LocalApic) -> io::Result<Self> {
        Ok(Self {
            regs: vcpu.get_regs()?,
            sregs: vcpu.get_sregs()?,
            fpu: vcpu.get_fpu()?,
            xcrs: vcpu.get_xcrs()?,
            debug: vcpu.get_debug_regs()?,
            lapic: match local_apic {
                LocalApic::Kernel => Some(Box::new(vcpu.get_lapic()?)),
                LocalApic::None => None,
            },
            msrs: read_msrs(vcpu, indexes),
            events: vcpu.get_vcpu_events()?,
            mp_state: vcpu.get_mp_state()?,
        })
    }

    /// Back to the captured state. The order is that of KVM's own documentation: what later calls depend on first.
    pub(super) fn restore(&self, vcpu: &VcpuFd) -> io::Result<()> {
        vcpu.set_mp_state(self.mp_state)?;
        vcpu.set_regs(&self.regs)?;
        vcpu.set_sregs(&self.sregs)?;
        // A processor without XSAVE has none, and KVM takes none there.
        if self.xcrs.nr_xcrs > 0 {
            vcpu.set_xcrs(&self.xcrs)?;
        }
        vcpu.set_fpu(&self.fpu)?;
        if let Some(lapic) = &self.lapic {
            vcpu.set_lapic(lapic)?;
        }
        for entry in &self.msrs {
            if let Ok(msrs) = Msrs::from_entries(std::slice::from_ref(entry)) {
                // Some can be read but not written; they cannot have changed then.
                vcpu.set_msrs(&msrs)?;
            }
        }
        vcpu.set_debug_regs(&self.debug)?;
        Ok(vcpu.set_vcpu_events(&self.events)?)
    }
}

/// The values of those of `indexes` that can be read. Time keeps running over a reset, so its registers are left out.
fn read_msrs(vcpu: &VcpuFd, indexes: &[u32]) -> Vec<kvm_msr_entry> {
    let wanted = indexes.iter().filter(|index| !matches!(**index, msr::TSC | msr::TSC_ADJUST));
    wanted
        .filter_map(|index| {
            let mut msrs =
                Msrs::from_entries(&[kvm_msr_entry { index: *index, ..Default::default() }]).ok()?;
            let read = vcpu.get_msrs(&mut msrs).ok()?;
            msrs.as_slice().first().filter(|_| read == 1).copied()
        })
        .collect()
}

/// General and control registers for the log, when a vCPU cannot go on.
pub(super) fn dump(vcpu: &VcpuFd) -> String {
    match (vcpu.get_regs(), vcpu.get_sregs()) {
        (Ok(r), Ok(s)) => format!(
            "rip={:#x} rsp={:#x} rflags={:#x} cs={:#x} cr0={:#x} cr2={:#x} cr3={:#x} cr4={:#x} efer={:#x} \
             rax={:#x} rbx={:#x} rcx={:#x} rdx={:#x} rsi={:#x} rdi={:#x} rbp={:#x}",
            r.rip,
            r.rsp,
            r.rflags,
            s.cs.selector,
            s.cr0,
            s.cr2,
            s.cr3,
            s.cr4,
            s.efer,
            r.rax,
            r.rbx,
            r.rcx,
            r.rdx,
            r.rsi,
            r.rdi,
            r.rbp
        ),
        _ => "registers cannot be read".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_follow_their_descriptors() {
        let code = segment(CODE_64);
        assert_eq!((code.base, code.limit, code.type_, code.l, code.db, code.g), (0, u32::MAX, 0xB, 1, 0, 1));
        let code = segment(CODE_32);
        assert_eq!((code.limit, code.type_, code.l, code.db, code.s), (u32::MAX, 0xB, 0, 1, 1));
        let data = segment(DATA);
        assert_eq!((data.limit, data.type_, data.db, data.present), (u32::MAX, 3, 1, 1));
        let task = segment(TASK);
        assert_eq!((task.limit, task.type_, task.s, task.g), (0x67, 0xB, 0, 0));
    }

    #[test]
    fn both_protocols_find_the_registers_that_they_document() {
        let mut sregs = kvm_sregs::default();
        let regs = registers(Entry::Long { rip: 0x10_0200, rsi: 0x7000 }, &mut sregs);
        assert_eq!((regs.rip, regs.rsi, regs.rflags), (0x10_0200, 0x7000, 2));
        assert_eq!((sregs.cr0, sregs.cr4, sregs.efer, sregs.cs.selector), (0x8000_0011, 0x20, 0x500, 0x10));
        let mut sregs = kvm_sregs::default();
        let regs = registers(Entry::Protected { eip: 0x100_0000, ebx: 0x6000, esi: 0 }, &mut sregs);
        assert_eq!((regs.rip, regs.rbx), (0x100_0000, 0x6000));
        assert_eq!((sregs.cr0, sregs.cr4, sregs.efer, sregs.cs.db), (0x11, 0, 0, 1));
    }
}
