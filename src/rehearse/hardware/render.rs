//! From a description of hardware to QEMU's command line: a pure function.
//!
//! Only the machine itself comes from here. The kernel, the channel and the shares of the emulated host are added by
//! `rehearse::host`. Paths of images are relative to QEMU's working directory.
//!
//! Written for QEMU 8.2 and later; proved with 10.0.2.

use std::net::Ipv4Addr;

use super::device::{Device, Network, Node, Nvme, Slot, UsbDevice};
use super::{Amdvi, Clock, Hardware, Iommu, Vtd, dmar};
use crate::spec::units::ByteSize;

/// What executes the emulated host's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// QEMU's own translator. It has SVM with nested paging, on any machine.
    Tcg,
    /// KVM with real nested virtualization.
    Kvm,
}

/// A scratch image, to be created with zeroes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// File name below `images/`.
    pub name: String,
    /// Its size.
    pub size: ByteSize,
}

/// An ACPI table that takes the place of one that QEMU made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcpiTable {
    /// File name below `kernel/firmware/acpi/` in the initial RAM file system.
    pub name: String,
    /// The table.
    pub bytes: Vec<u8>,
}

/// The NIC that the emulated host configures at start, with its default route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// The NIC's address, `52:54:00:..`.
    pub mac: String,
    /// The emulated host's address on that /24 network.
    pub address: Ipv4Addr,
    /// The gateway.
    pub gateway: Ipv4Addr,
}

/// A machine as QEMU takes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    /// Arguments.
    pub arguments: Vec<String>,
    /// Images that the arguments name.
    pub images: Vec<Image>,
    /// The NIC with the default route.
    pub uplink: Option<Uplink>,
    /// What is plugged into USB.
    pub usb_devices: u32,
    /// How many of these are disks.
    pub usb_disks: u32,
    /// Modules that the emulated host must load before it sees any virtio device.
    pub early_modules: Vec<String>,
    /// Tables that its kernel takes in the place of QEMU's.
    pub acpi_tables: Vec<AcpiTable>,
}

/// Room for translated code. QEMU's default of 1 GiB would be half as much again as the emulated host's memory.
const TRANSLATION_CACHE_MIB: u32 = 512;

/// Four nanoseconds an instruction, about as fast as the translator is.
const INSTRUCTION_CLOCK: &str = "shift=2,sleep=off";

/// Above this much memory the firmware puts 64-bit BARs close to the top of the CPU's physical address space. With
/// the 40 bits that `qemu64` reports, a function passed through there moves no data; 36 bits are sound.
const LOW_MEMORY_MIB: u64 = 2816;

/// Turns `hardware` into QEMU's arguments.
#[must_use]
pub fn render(hardware: &Hardware, accelerator: Accelerator) -> Rendered {
    let mut renderer = Renderer::default();
    // VT-d's interrupt remapping needs the IOAPIC in user space where KVM has the local APICs.
    renderer.option("-machine", "q35,kernel-irqchip=split,usb=off,vmport=off");
    match accelerator {
        Accelerator::Tcg => {
            let threads = match hardware.cpu.clock {
                Clock::Wall => "multi",
                Clock::Instructions => "single",
            };
            renderer.option("-accel", &format!("tcg,thread={threads},tb-size={TRANSLATION_CACHE_MIB}"));
            if hardware.cpu.clock == Clock::Instructions {
                renderer.option("-icount", INSTRUCTION_CLOCK);
            }
        }
        Accelerator::Kvm => renderer.option("-accel", "kvm"),
    }
    renderer.option("-cpu", &cpu(hardware, accelerator));
    renderer.option("-smp", &hardware.cpu.count.to_string());
    renderer.option("-m", &format!("{}M", hardware.memory.bytes() >> 20));
    renderer.iommu(&hardware.iommu);
    renderer.bus(&hardware.pci, "pcie.0");
    renderer.rendered
}

fn cpu(hardware: &Hardware, accelerator: Accelerator) -> String {
    let cpu = &hardware.cpu;
    let mut text = match accelerator {
        Accelerator::Kvm if cpu.virtualization => "host".to_owned(),
        Accelerator::Kvm => "host,vmx=off,svm=off".to_owned(),
        Accelerator::Tcg if cpu.virtualization => {
            format!("{},svm=on,npt={}", cpu.model, on(cpu.nested_paging))
        }
        Accelerator::Tcg => format!("{},svm=off", cpu.model),
    };
    if cpu.x2apic {
        text.push_str(",x2apic=on");
    }
    if accelerator == Accelerator::Tcg && hardware.memory.bytes() >> 20 > LOW_MEMORY_MIB {
        text.push_str(",phys-bits=36");
    }
    text
}

fn on(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

#[derive(Default)]
struct Renderer {
    rendered: Rendered,
    next_id: u32,
    next_mac: u8,
    remaps_dma: bool,
}

impl Renderer {
    fn option(&mut self, name: &str, value: &str) {
        self.rendered.arguments.push(name.to_owned());
        self.rendered.arguments.push(value.to_owned());
    }

    fn device(&mut self, text: &str) {
        self.option("-device", text);
    }

    fn id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    fn iommu(&mut self, iommu: &Iommu) {
        self.remaps_dma = !matches!(iommu, Iommu::None(_));
        match iommu {
            Iommu::None(_) => {}
            Iommu::Vtd(vtd) => {
                self.device(&vtd_text(vtd));
                if !vtd.reserved_memory.is_empty() {
                    let table = AcpiTable { name: "dmar.aml".to_owned(), bytes: dmar::table(vtd) };
                    self.rendered.acpi_tables.push(table);
                }
            }
            Iommu::Amdvi(amdvi) => self.device(&amdvi_text(amdvi)),
            Iommu::Virtio(_) => {
                self.device("virtio-iommu-pci,addr=1d.0");
                self.rendered.early_modules.push("virtio-iommu".to_owned());
            }
        }
    }

    fn bus(&mut self, nodes: &[Node], bus: &str) {
        for node in nodes {
            let at = node.at().unwrap_or_default();
            let shared = at.function == 0
                && nodes.iter().any(|other| {
                    let other = other.at().unwrap_or_default();
                    other.device == at.device && other.function != 0
                });
            self.node(node, &place(bus, at, shared));
        }
    }

    fn node(&mut self, node: &Node, place: &str) {
        let id = self.id();
        match node {
            Node::RootPort(port) => {
                let acs = if port.acs { "" } else { ",disable-acs=on" };
                self.device(&format!("pcie-root-port,id=port{id},chassis={id},slot={id}{acs}{place}"));
                self.bus(&port.devices, &format!("port{id}"));
            }
            Node::Switch(switch) => {
                self.device(&format!("x3130-upstream,id=up{id}{place}"));
                for (index, devices) in switch.downstream.iter().enumerate() {
                    let down = self.id();
                    self.device(&format!(
                        "xio3130-downstream,id=port{down},chassis={down},slot={down},bus=up{id},addr={index:02x}.0"
                    ));
                    self.bus(devices, &format!("port{down}"));
                }
            }
            Node::PciBridge(bridge) => {
                self.device(&format!("pcie-pci-bridge,id=bridge{id}{place}"));
                self.bus(&bridge.devices, &format!("bridge{id}"));
            }
            Node::Igb(nic) => self.nic("igb", nic.network.as_ref(), place, id),
            Node::E1000e(nic) => self.nic("e1000e", nic.network.as_ref(), place, id),
            Node::E1000(nic) => self.nic("e1000", nic.network.as_ref(), place, id),
            Node::VirtioNet(nic) => {
                let model = format!("virtio-net-pci{}", self.platform_access());
                self.nic(&model, nic.network.as_ref(), place, id);
            }
            Node::VirtioRng(_) => {
                let access = self.platform_access();
                self.device(&format!("virtio-rng-pci,id=rng{id}{access}{place}"));
            }
            Node::Nvme(nvme) => self.nvme(nvme, place, id),
            Node::Xhci(xhci) => {
                self.device(&format!("qemu-xhci,id=usb{id}{place}"));
                for device in &xhci.devices {
                    self.rendered.usb_devices += 1;
                    match device {
                        UsbDevice::Keyboard(_) => self.device(&format!("usb-kbd,bus=usb{id}.0")),
                        UsbDevice::Storage(storage) => {
                            self.rendered.usb_disks += 1;
                            let drive = self.image(&format!("{}.img", storage.serial), storage.size);
                            self.device(&format!(
                                "usb-storage,bus=usb{id}.0,drive={drive},serial={}",
                                storage.serial
                            ));
                        }
                    }
                }
            }
        }
    }

    /// A virtio device behind an IOMMU must use it, or nothing that remaps DMA holds for it (VIRTIO 1.3, 6.5).
    fn platform_access(&self) -> &'static str {
        if self.remaps_dma { ",disable-legacy=on,iommu_platform=on" } else { "" }
    }

    fn nic(&mut self, model: &str, network: Option<&Network>, place: &str, id: u32) {
        self.next_mac += 1;
        let mac = format!("52:54:00:6c:61:{:02x}", self.next_mac);
        let Some(network) = network else {
            self.device(&format!("{model},id=nic{id},mac={mac}{place}"));
            return;
        };
        let restrict = on(!network.outside);
        self.option("-netdev", &format!("user,id=net{id},net={}/24,restrict={restrict}", network.address));
        self.device(&format!("{model},id=nic{id},netdev=net{id},mac={mac}{place}"));
        if network.default_route {
            self.rendered.uplink = Some(Uplink { mac, address: network.host(15), gateway: network.host(2) });
        }
    }

    fn nvme(&mut self, nvme: &Nvme, place: &str, id: u32) {
        let serial = &nvme.serial;
        let sriov = nvme.sriov.as_ref().map_or_else(String::new, |sriov| {
            // Resources that are not flexible stay with the physical function: 8 queue pairs, 12 vectors.
            let pairs = u32::from(sriov.flexible_queues) + 8;
            let vectors = u32::from(sriov.flexible_interrupts) + 12;
            format!(
                ",sriov_max_vfs={},sriov_vq_flexible={},sriov_vi_flexible={},max_ioqpairs={pairs},msix_qsize={vectors}",
                sriov.max_vfs, sriov.flexible_queues, sriov.flexible_interrupts
            )
        });
        // Only functions that share namespaces need a subsystem that is said to be shared.
        let (subsystem, shared) = if nvme.sriov.is_some() {
            self.device(&format!("nvme-subsys,id=subsystem{id},nqn={serial}"));
            (format!(",subsys=subsystem{id}"), ",shared=on")
        } else {
            (String::new(), "")
        };
        self.device(&format!("nvme,id=nvme{id},serial={serial}{subsystem}{sriov}{place}"));
        for (number, namespace) in (1..).zip(&nvme.namespaces) {
            let drive = self.image(&format!("{serial}-ns{number}.img"), namespace.size);
            self.device(&format!("nvme-ns,drive={drive},bus=nvme{id},nsid={number}{shared}"));
        }
    }

    fn image(&mut self, name: &str, size: ByteSize) -> String {
        let id = self.id();
        self.option("-drive", &format!("file=images/{name},format=raw,if=none,id=drive{id}"));
        self.rendered.images.push(Image { name: name.to_owned(), size });
        format!("drive{id}")
    }
}

fn place(bus: &str, at: Slot, multifunction: bool) -> String {
    let multifunction = if multifunction { ",multifunction=on" } else { "" };
    format!(",bus={bus},addr={at}{multifunction}")
}

fn vtd_text(vtd: &Vtd) -> String {
    let mut text = format!(
        "intel-iommu,intremap={},caching-mode={},aw-bits={}",
        on(vtd.interrupt_remapping),
        on(vtd.caching_mode),
        vtd.address_width_bits
    );
    for (set, option) in [
        (vtd.scalable_mode, ",x-scalable-mode=on"),
        (vtd.device_iotlb, ",device-iotlb=on"),
        (!vtd.dma_translation, ",dma-translation=off"),
        (vtd.extended_interrupt_mode, ",eim=on"),
    ] {
        if set {
            text.push_str(option);
        }
    }
    text
}

fn amdvi_text(amdvi: &Amdvi) -> String {
    let mut text = format!("amd-iommu,intremap={}", on(amdvi.interrupt_remapping));
    for (set, option) in [(amdvi.x2apic, ",xtsup=on"), (amdvi.device_iotlb, ",device-iotlb=on")] {
        if set {
            text.push_str(option);
        }
    }
    text
}
