//! A host for tests: a directory tree that behaves like a kernel, and breaks when told to.
//!
//! Reads go through the inspector's own [`TreeSource`]; a write does what Linux does with that attribute (6.12, tried in
//! the emulated host): an unset `driver_override` reads `(null)` and is unset by a newline; `drivers_probe` succeeds when no
//! driver takes the function; while autoprobe is off no virtual function is probed without an override; `sriov_numvfs`
//! answers EBUSY between two counts that are not 0, ERANGE above the total, and blocks at 0 while a function is open.

mod control;
mod frequency;
mod functions;
mod groups;
mod huge_pages;
mod interrupts;
mod modules;
mod network;
mod nodes;
mod once;
mod system;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::host::fact::Fact;
pub(super) use crate::host::source::fake::memory_dir;
use crate::host::source::{CpuidLeaf, DeviceNode, KvmAnswer, Route, Source, TreeSource, VfLink, VfLinks};
use crate::setup::control::ControlError;
use crate::spec::ethernet::MacAddress;
use crate::spec::pci::PciAddress;
use crate::sys::system_file::{SystemFileError, SystemTree};
use functions::natural;
pub(super) use functions::{BRIDGE, Function, NIC, NVME, UPLINK};
pub(super) use huge_pages::Node;
pub(super) use trouble::{Fault, Killed, Trouble};

#[derive(Debug, Default)]
struct Inner {
    writes: usize,
    log: Vec<String>,
    pauses: usize,
    /// A driver that is done with being loaded at the next pause.
    loading: Option<String>,
    trouble: Option<Trouble>,
    /// Virtual functions that a guest has open.
    open: BTreeSet<PciAddress>,
    /// Memory for huge pages, by node.
    nodes: Vec<Node>,
    /// Virtual functions whose address was set, by their physical function's interface and index.
    pinned: BTreeSet<(String, u16)>,
}

/// The host.
#[derive(Debug)]
pub(super) struct FakeKernel {
    root: tempfile::TempDir,
    source: FreshTree,
    files: SystemTree,
    inner: Mutex<Inner>,
}

/// A tree that changes: [`TreeSource`] remembers the directory that it listed last.
#[derive(Debug)]
struct FreshTree(PathBuf);

impl FreshTree {
    fn now(&self) -> TreeSource {
        TreeSource::open(&self.0).unwrap()
    }
}

impl Source for FreshTree {
    fn read_limited(&self, path: &str, limit_bytes: u64) -> Fact<Vec<u8>> {
        self.now().read_limited(path, limit_bytes)
    }

    fn list(&self, path: &str) -> Fact<Vec<String>> {
        self.now().list(path)
    }

    fn link(&self, path: &str) -> Fact<String> {
        self.now().link(path)
    }

    fn cpuid(&self, _leaf: u32, _subleaf: u32) -> Fact<CpuidLeaf> {
        Fact::NotPresent
    }

    fn msr(&self, _cpu: u32, _register: u32) -> Fact<u64> {
        Fact::NotPresent
    }

    fn kvm(&self) -> Fact<KvmAnswer> {
        Fact::NotPresent
    }

    fn kernel_log(&self) -> Fact<Vec<String>> {
        self.now().kernel_log()
    }

    fn vf_links(&self) -> Fact<Vec<VfLinks>> {
        let text = fs::read_to_string(self.0.join(VF_LINKS)).unwrap();
        Fact::Known(serde_json::from_str(&text).unwrap())
    }

    fn routes(&self) -> Fact<Vec<Route>> {
        self.now().routes()
    }

    fn device_node(&self, path: &str) -> Fact<DeviceNode> {
        nodes::node(&self.0, path)
    }
}

pub(super) const BOOT: &str = "6f1b2c3d-0000-4000-8000-000000000001";
/// What rtnetlink answers. Not the tree's own file of answers, which is read anew with each attribute.
const VF_LINKS: &str = "vf_links.json";
const DEVICES: &str = "/sys/bus/pci/devices";

/// What the kernel makes for a driver once that took its first functions.
fn unbind_of(driver: &str) -> String {
    format!("/sys/bus/pci/drivers/{driver}/unbind")
}

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

impl FakeKernel {
    pub(super) fn new(functions: &[Function]) -> Self {
        let root = memory_dir();
        let source = FreshTree(root.path().to_owned());
        let files = SystemTree::new(root.path());
        let kernel = Self { root, source, files, inner: Mutex::new(Inner::default()) };
        for (path, text) in [
            ("/proc/sys/kernel/random/boot_id", BOOT),
            ("/proc/cmdline", "console=ttyS0"),
            ("/proc/interrupts", " 1: 5 IR-IO-APIC 1-edge\n 2: 9 IR-PCI-MSI 2-edge"),
            ("/proc/self/mountinfo", "1 0 0:1 / / rw - tmpfs tmpfs rw"),
            ("/proc/swaps", "Filename Type Size Used Priority"),
            (
                "/proc/net/route",
                "Iface Destination Gateway Flags RefCnt Use Metric Mask\neth1 00000000 0202000A 0003 0 0 0 00000000",
            ),
            ("/sys/bus/pci/drivers_probe", ""),
            ("/proc/sys/kernel/osrelease", modules::RELEASE),
            ("/sys/class/iommu/dmar0/name", "dmar0"),
            ("/dev/vfio/vfio", ""),
        ] {
            kernel.put(path, text);
        }
        for directory in ["/sys/class/block", "/sys/class/net", "/sys/kernel/iommu_groups", "/sys/module"] {
            fs::create_dir_all(kernel.at(directory)).unwrap();
        }
        for driver in ["igb", "igbvf", "e1000e", "nvme", "pcieport"] {
            kernel.put(&unbind_of(driver), "");
        }
        kernel.put(VF_LINKS, "[]");
        kernel.put(nodes::OWNERS, "{}");
        for function in functions {
            kernel.add(function);
        }
        kernel
    }

    /// A host with [`NIC`], [`NVME`], [`UPLINK`] and [`BRIDGE`].
    pub(super) fn usual() -> Self {
        Self::new(&[NIC, NVME, UPLINK, BRIDGE])
    }

    pub(super) fn add(&self, function: &Function) {
        let address = function.address;
        self.create(address, function.ids, function.class, function.group);
        if let Some(total) = function.total_vfs {
            for (name, value) in [
                ("sriov_totalvfs", total.to_string()),
                ("sriov_numvfs", "0".to_owned()),
                ("sriov_drivers_autoprobe", "1".to_owned()),
                ("sriov_offset", "128".to_owned()),
                ("sriov_stride", "2".to_owned()),
                ("sriov_vf_device", "10ca".to_owned()),
            ] {
                self.put(&format!("{DEVICES}/{address}/{name}"), &value);
            }
        }
        if let Some(driver) = function.driver {
            self.bind(address.parse().unwrap(), driver);
        }
        if let Some((name, up)) = function.interface {
            let net = self.at(&format!("{DEVICES}/{address}/net"));
            let _ = fs::remove_dir_all(&net);
            self.interface(address, name, up);
        }
    }

    fn create(&self, address: &str, ids: (u16, u16), class: u32, group: u32) {
        for (name, value) in [
            ("vendor", format!("{:#06x}", ids.0)),
            ("device", format!("{:#06x}", ids.1)),
            ("class", format!("{class:#08x}")),
            ("driver_override", "(null)".to_owned()),
            ("modalias", format!("pci:v{:08X}d{:08X}", ids.0, ids.1)),
            ("numa_node", "-1".to_owned()),
            ("reset_method", "flr".to_owned()),
        ] {
            self.put(&format!("{DEVICES}/{address}/{name}"), &value);
        }
        let group_path = format!("/sys/kernel/iommu_groups/{group}");
        if !self.at(&group_path).exists() {
            self.put(&format!("{group_path}/type"), "DMA");
            self.put(&format!("{group_path}/reserved_regions"), "0x00000000fee00000 0x00000000feefffff msi");
        }
        fs::create_dir_all(self.at(&format!("{group_path}/devices"))).unwrap();
        self.link(
            &format!("{group_path}/devices/{address}"),
            &format!("../../../../bus/pci/devices/{address}"),
        );
        self.link(
            &format!("{DEVICES}/{address}/iommu_group"),
            &format!("../../../../kernel/iommu_groups/{group}"),
        );
    }

    fn interface(&self, address: &str, name: &str, up: bool) {
        let flags = if up { "0x1003" } else { "0x1002" };
        self.put(&format!("{DEVICES}/{address}/net/{name}/flags"), flags);
        self.put(&format!("{DEVICES}/{address}/net/{name}/operstate"), if up { "up" } else { "down" });
        self.link(&format!("/sys/class/net/{name}"), &format!("../../bus/pci/devices/{address}/net/{name}"));
    }

    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    pub(super) fn put(&self, path: &str, text: &str) {
        let place = self.at(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, format!("{text}\n")).unwrap();
    }

    pub(super) fn link(&self, path: &str, target: &str) {
        let place = self.at(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&place);
        symlink(target, place).unwrap();
    }

    pub(super) fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at(path)).ok().map(|text| text.trim_end().to_owned())
    }

    fn name_of_link(&self, path: &str) -> Option<String> {
        Some(fs::read_link(self.at(path)).ok()?.file_name()?.to_str()?.to_owned())
    }

    pub(super) fn driver(&self, address: &str) -> Option<String> {
        self.name_of_link(&format!("{DEVICES}/{address}/driver"))
    }

    /// Makes writes fail from now on.
    pub(super) fn trouble(&self, trouble: Option<Trouble>) {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        inner.trouble = trouble;
        inner.writes = 0;
        inner.log.clear();
    }

    /// Writes since [`Self::trouble`] was last called.
    pub(super) fn writes(&self) -> usize {
        self.inner.lock().unwrap().writes
    }

    /// How often time was let pass.
    /// `driver` has its functions already and is loaded only at the next pause.
    pub(super) fn is_still_loading(&self, driver: &str) {
        fs::remove_file(self.at(&unbind_of(driver))).unwrap();
        self.inner.lock().unwrap().loading = Some(driver.to_owned());
    }

    pub(super) fn pauses(&self) -> usize {
        self.inner.lock().unwrap().pauses
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.inner.lock().unwrap().log.clone()
    }

    /// A guest opens `address`, as process 4711.
    pub(super) fn open(&self, address: &str) {
        let group = self.name_of_link(&format!("{DEVICES}/{address}/iommu_group")).unwrap();
        self.put("/proc/4711/comm", "qemu");
        self.link("/proc/4711/fd/9", &format!("/dev/vfio/{group}"));
        self.inner.lock().unwrap().open.insert(address.parse().unwrap());
    }

    /// It lets go.
    pub(super) fn close(&self, address: &str) {
        fs::remove_dir_all(self.at("/proc/4711")).unwrap();
        self.inner.lock().unwrap().open.remove(&address.parse().unwrap());
    }

    /// Everything that is on the host, but for modules that stay loaded.
    pub(super) fn snapshot(&self) -> BTreeMap<String, String> {
        fn walk(directory: &Path, root: &Path, found: &mut BTreeMap<String, String>) {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                if matches!(name.as_str(), "sys/bus/pci/drivers/vfio-pci" | "sys/module/vfio_pci") {
                    continue;
                }
                let kind = path.symlink_metadata().unwrap();
                if kind.is_symlink() {
                    found.insert(name, format!("-> {}", fs::read_link(&path).unwrap().display()));
                } else if kind.is_dir() {
                    found.insert(format!("{name}/"), String::new());
                    walk(&path, root, found);
                } else {
                    found.insert(name, fs::read_to_string(&path).unwrap());
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(self.root.path(), self.root.path(), &mut found);
        found
    }

    fn bind(&self, address: PciAddress, driver: &str) {
        self.link(&format!("{DEVICES}/{address}/driver"), &format!("../../drivers/{driver}"));
        if matches!(driver, "igb" | "igbvf" | "e1000e") {
            // Without udev the kernel gives the same name again.
            let name = match driver {
                "igb" => "eth0".to_owned(),
                "e1000e" => "eth1".to_owned(),
                _ => format!("vf{:02x}{}", address.device, address.function),
            };
            self.interface(&address.to_string(), &name, false);
            if driver == "igbvf" {
                self.choose_address(address, &name);
            }
        }
        if driver == "vfio-pci"
            && let Some(group) = self.name_of_link(&format!("{DEVICES}/{address}/iommu_group"))
        {
            self.put(&format!("/dev/vfio/{group}"), "");
        }
    }

    fn unbind(&self, address: PciAddress) {
        let directory = format!("{DEVICES}/{address}");
        // igb forgets what a VF chose as soon as that is reset.
        if let Some((interface, index)) = self.kept_by(address)
            && !self.inner.lock().unwrap().pinned.contains(&(interface.clone(), index))
        {
            self.with_vfs(&interface, |vfs| vfs[usize::from(index)].mac = Some(MacAddress::ZERO.to_string()));
        }
        if self.text(&format!("{directory}/sriov_numvfs")).is_some_and(|count| count != "0") {
            self.set_count(address, 0);
        }
        if let Ok(names) = fs::read_dir(self.at(&format!("{directory}/net"))) {
            for name in names {
                let name = name.unwrap().file_name().into_string().unwrap();
                self.forget_addresses(&name);
                let _ = fs::remove_file(self.at(&format!("/sys/class/net/{name}")));
            }
            fs::remove_dir_all(self.at(&format!("{directory}/net"))).unwrap();
        }
        fs::remove_file(self.at(&format!("{directory}/driver"))).unwrap();
        let Some(group) = self.name_of_link(&format!("{directory}/iommu_group")) else { return };
        let members = fs::read_dir(self.at(&format!("/sys/kernel/iommu_groups/{group}/devices"))).unwrap();
        let held = members.into_iter().any(|member| {
            self.driver(member.unwrap().file_name().to_str().unwrap()).as_deref() == Some("vfio-pci")
        });
        if !held {
            self.remove_node(&format!("/dev/vfio/{group}"));
        }
    }

    fn probe(&self, address: PciAddress) {
        let directory = format!("{DEVICES}/{address}");
        if self.driver(&address.to_string()).is_some() {
            return;
        }
        let named = self.text(&format!("{directory}/driver_override")).filter(|text| text != "(null)");
        if let Some(pf) = self.name_of_link(&format!("{directory}/physfn"))
            && self.text(&format!("{DEVICES}/{pf}/sriov_drivers_autoprobe")).as_deref() == Some("0")
            && named.is_none()
        {
            return;
        }
        let id = |name: &str| {
            let text = self.text(&format!("{directory}/{name}")).unwrap();
            u16::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
        };
        let driver = named.or_else(|| natural((id("vendor"), id("device"))).map(str::to_owned));
        if let Some(driver) =
            driver.filter(|driver| self.at(&format!("/sys/bus/pci/drivers/{driver}")).exists())
        {
            self.bind(address, &driver);
        }
    }

    fn set_count(&self, pf: PciAddress, count: u16) {
        let directory = format!("{DEVICES}/{pf}");
        let before: u16 = self.text(&format!("{directory}/sriov_numvfs")).unwrap().parse().unwrap();
        let interface = self.name_in(&format!("{directory}/net"));
        for index in 0..before {
            let link = format!("{directory}/virtfn{index}");
            let vf: PciAddress = self.name_of_link(&link).unwrap().parse().unwrap();
            if self.driver(&vf.to_string()).is_some() {
                self.unbind(vf);
            }
            let group = self.name_of_link(&format!("{DEVICES}/{vf}/iommu_group")).unwrap();
            fs::remove_dir_all(self.at(&format!("/sys/kernel/iommu_groups/{group}"))).unwrap();
            fs::remove_dir_all(self.at(&format!("{DEVICES}/{vf}"))).unwrap();
            fs::remove_file(self.at(&link)).unwrap();
        }
        if let Some(interface) = &interface {
            self.inner.lock().unwrap().pinned.retain(|(of, _)| of != interface);
            let fresh = |index| VfLink {
                index,
                mac: Some(MacAddress::ZERO.to_string()),
                vlan: Some(0),
                vlan_priority: Some(0),
                spoof_check: Some(true),
                trusted: Some(false),
                link_state: Some("auto".to_owned()),
                min_tx_rate_mbps: Some(0),
                max_tx_rate_mbps: Some(0),
            };
            self.with_vfs(interface, |vfs| *vfs = (0..count).map(fresh).collect());
        }
        self.put(&format!("{directory}/sriov_numvfs"), &count.to_string());
        for index in 0..count {
            let vf = PciAddress::from_requester_id(pf.domain, pf.requester_id() + 128 + 2 * index);
            let group = 100 + u32::from(index);
            self.create(&vf.to_string(), (0x8086, 0x10CA), 0x02_0000, group);
            self.link(&format!("{DEVICES}/{vf}/physfn"), &format!("../{pf}"));
            self.link(&format!("{directory}/virtfn{index}"), &format!("../{vf}"));
            self.probe(vf);
        }
    }

    /// What the kernel does with `value` written to `path`.
    fn effect(&self, path: &str, value: &str) -> io::Result<()> {
        let value = value.trim_end_matches('\n');
        if huge_pages::are_at(path) {
            return self.huge_pages_effect(path, value);
        }
        if interrupts::are_at(path) {
            return self.interrupts_effect(path, value);
        }
        if frequency::are_at(path) {
            return self.frequency_effect(path, value);
        }
        if groups::are_at(path) {
            return self.groups_effect(path, value);
        }
        if path == "/sys/bus/pci/drivers_probe" {
            let address: PciAddress = value.parse().map_err(|_| errno(libc::EINVAL))?;
            if !self.at(&format!("{DEVICES}/{address}")).exists() {
                return Err(errno(libc::ENODEV));
            }
            self.probe(address);
            return Ok(());
        }
        let (address, attribute) = path
            .strip_prefix(DEVICES)
            .and_then(|rest| rest.trim_start_matches('/').split_once('/'))
            .ok_or_else(|| errno(libc::ENOENT))?;
        if !self.at(&format!("{DEVICES}/{address}")).exists() {
            return Err(errno(libc::ENOENT));
        }
        let function: PciAddress = address.parse().unwrap();
        match attribute {
            "driver_override" => {
                self.put(path, if value.is_empty() { "(null)" } else { value });
                Ok(())
            }
            "driver/unbind" => {
                if !self.at(path).exists() {
                    return Err(errno(libc::ENOENT));
                }
                if value != address {
                    return Err(errno(libc::ENODEV));
                }
                self.unbind(function);
                Ok(())
            }
            "reset_method" => {
                let known = |method: &str| matches!(method, "flr" | "pm" | "bus");
                let shared = self.at(&format!("{DEVICES}/{address}/virtfn0")).exists();
                if !value.split_ascii_whitespace().all(known) || (shared && value.contains("bus")) {
                    return Err(errno(libc::EINVAL));
                }
                self.put(path, value);
                Ok(())
            }
            "sriov_drivers_autoprobe" if matches!(value, "0" | "1") => {
                self.put(path, value);
                Ok(())
            }
            "sriov_numvfs" => {
                let count: u16 = value.parse().map_err(|_| errno(libc::EINVAL))?;
                let now: u16 = self.text(path).unwrap().parse().unwrap();
                let total: u16 =
                    self.text(&format!("{DEVICES}/{address}/sriov_totalvfs")).unwrap().parse().unwrap();
                match self.driver(address).as_deref() {
                    _ if count > total => Err(errno(libc::ERANGE)),
                    _ if count == now => Ok(()),
                    None | Some("vfio-pci") => Err(errno(libc::ENOENT)),
                    _ if count != 0 && now != 0 => Err(errno(libc::EBUSY)),
                    _ => {
                        self.set_count(function, count);
                        Ok(())
                    }
                }
            }
            _ => Err(errno(libc::EACCES)),
        }
    }
}

fn file_error(path: &str) -> impl Fn(io::Error) -> ControlError {
    move |source| ControlError::File { path: path.to_owned(), source: SystemFileError::Io(source) }
}
