//! What network cards of the host for tests keep of their virtual functions: as igb does, no link state and no minimum rate,
//! and an address that the function's driver chose is listed like one that was set.

use std::fs;
use std::io;

use super::{DEVICES, FakeKernel, VF_LINKS, errno};
use crate::host::source::{Source, VfLink, VfLinks};
use crate::setup::control::{InterfaceAddress, VfSetting};
use crate::spec::ethernet::MacAddress;
use crate::spec::pci::PciAddress;

/// Addresses of interfaces, as no file of a real host tells them.
const ADDRESSES: &str = "addresses";

impl FakeKernel {
    pub(in crate::setup) fn addresses_of(&self, interface: &str) -> Vec<InterfaceAddress> {
        let text = self.text(&format!("{ADDRESSES}/{interface}"));
        text.map_or_else(Vec::new, |text| serde_json::from_str(&text).unwrap())
    }

    pub(in crate::setup) fn give(&self, interface: &str, address: &InterfaceAddress) -> io::Result<()> {
        if !self.at(&format!("/sys/class/net/{interface}/flags")).exists() {
            return Err(errno(libc::ENODEV));
        }
        let mut all = self.addresses_of(interface);
        all.push(address.clone());
        self.put(&format!("{ADDRESSES}/{interface}"), &serde_json::to_string(&all).unwrap());
        Ok(())
    }

    /// The interface is gone, and its addresses with it.
    pub(super) fn forget_addresses(&self, interface: &str) {
        let _ = fs::remove_file(self.at(&format!("{ADDRESSES}/{interface}")));
    }

    pub(in crate::setup) fn attach(&self, interface: &str, controller: &str) -> io::Result<()> {
        let directory = format!("/sys/class/net/{interface}");
        if !self.at(&format!("{directory}/flags")).exists() {
            return Err(errno(libc::ENODEV));
        }
        self.link(&format!("{directory}/master"), &format!("../{controller}"));
        Ok(())
    }

    /// The interface that keeps the settings of a virtual function, and the function's index.
    pub(super) fn kept_by(&self, vf: PciAddress) -> Option<(String, u16)> {
        let pf: PciAddress = self.name_of_link(&format!("{DEVICES}/{vf}/physfn"))?.parse().unwrap();
        let index = (vf.requester_id() - pf.requester_id() - 128) / 2;
        Some((self.name_in(&format!("{DEVICES}/{pf}/net"))?, index))
    }

    pub(super) fn name_in(&self, directory: &str) -> Option<String> {
        let entry = fs::read_dir(self.at(directory)).ok()?.next()?;
        Some(entry.unwrap().file_name().into_string().unwrap())
    }

    /// The VF's driver takes the address that was set, or chooses one, which the PF's driver lists then.
    pub(super) fn choose_address(&self, vf: PciAddress, name: &str) {
        let Some((interface, index)) = self.kept_by(vf) else { return };
        let given = self.vf(&interface, index).unwrap().mac.unwrap();
        let is_set = self.inner.lock().unwrap().pinned.contains(&(interface.clone(), index));
        let (address, kind) =
            if is_set { (given, "0") } else { (format!("fe:00:00:00:00:{index:02x}"), "1") };
        self.put(&format!("{DEVICES}/{vf}/net/{name}/address"), &address);
        self.put(&format!("{DEVICES}/{vf}/net/{name}/addr_assign_type"), kind);
        self.with_vfs(&interface, |vfs| vfs[usize::from(index)].mac = Some(address));
    }

    /// What the driver of `interface` says of virtual function `index`.
    pub(in crate::setup) fn vf(&self, interface: &str, index: u16) -> Option<VfLink> {
        let links = self.source.vf_links().known().cloned()?;
        links.into_iter().find(|link| link.interface == interface)?.vfs.get(usize::from(index)).cloned()
    }

    /// Changes what the driver of `interface` keeps of its virtual functions.
    pub(in crate::setup) fn with_vfs<T>(
        &self,
        interface: &str,
        change: impl FnOnce(&mut Vec<VfLink>) -> T,
    ) -> T {
        let mut links = self.source.vf_links().known().cloned().unwrap();
        let at = links.iter().position(|link| link.interface == interface).unwrap_or_else(|| {
            links.push(VfLinks { interface: interface.to_owned(), vfs: Vec::new() });
            links.len() - 1
        });
        let result = change(&mut links[at].vfs);
        links.retain(|link| !link.vfs.is_empty());
        self.put(VF_LINKS, &serde_json::to_string(&links).unwrap());
        result
    }

    /// What the PF's driver does with a setting.
    pub(super) fn set(&self, interface: &str, index: u16, setting: VfSetting) -> io::Result<()> {
        if self.vf(interface, index).is_none() {
            return Err(errno(libc::EINVAL));
        }
        if let VfSetting::Mac(mac) = setting {
            let mut inner = self.inner.lock().unwrap();
            let function = (interface.to_owned(), index);
            if mac == MacAddress::ZERO {
                inner.pinned.remove(&function)
            } else {
                inner.pinned.insert(function)
            };
        }
        self.with_vfs(interface, |vfs| {
            let vf = &mut vfs[usize::from(index)];
            match setting {
                VfSetting::Mac(mac) => vf.mac = Some(mac.to_string()),
                VfSetting::Vlan { number, priority } => {
                    (vf.vlan, vf.vlan_priority) = (Some(number), Some(priority));
                }
                VfSetting::Trust(on) => vf.trusted = Some(on),
                VfSetting::SpoofCheck(on) => vf.spoof_check = Some(on),
                VfSetting::TxRate { min_mbps: 0, max_mbps } => vf.max_tx_rate_mbps = Some(max_mbps),
                VfSetting::TxRate { .. } => return Err(errno(libc::EINVAL)),
                VfSetting::LinkState(_) => return Err(errno(libc::EOPNOTSUPP)),
            }
            Ok(())
        })
    }
}
