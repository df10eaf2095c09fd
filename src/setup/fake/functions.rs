//! The functions that hosts for tests have, each with the driver that takes it.

/// A function of the host.
#[derive(Debug, Clone, Copy)]
pub(in crate::setup) struct Function {
    pub(in crate::setup) address: &'static str,
    /// `8086:10c9`
    pub(in crate::setup) ids: (u16, u16),
    pub(in crate::setup) class: u32,
    pub(in crate::setup) driver: Option<&'static str>,
    pub(in crate::setup) group: u32,
    pub(in crate::setup) total_vfs: Option<u16>,
    /// Name of its network interface and whether it is up.
    pub(in crate::setup) interface: Option<(&'static str, bool)>,
}

pub(in crate::setup) const NIC: Function = Function {
    address: "0000:01:00.0",
    ids: (0x8086, 0x10C9),
    class: 0x02_0000,
    driver: Some("igb"),
    group: 1,
    total_vfs: Some(7),
    interface: Some(("eth0", false)),
};
pub(in crate::setup) const NVME: Function = Function {
    address: "0000:02:00.0",
    ids: (0x1B36, 0x0010),
    class: 0x01_0802,
    driver: Some("nvme"),
    group: 2,
    total_vfs: None,
    interface: None,
};
/// Carries the default route.
pub(in crate::setup) const UPLINK: Function = Function {
    address: "0000:03:00.0",
    ids: (0x8086, 0x10D3),
    class: 0x02_0000,
    driver: Some("e1000e"),
    group: 3,
    total_vfs: None,
    interface: Some(("eth1", true)),
};
pub(in crate::setup) const BRIDGE: Function = Function {
    address: "0000:00:02.0",
    ids: (0x1B36, 0x000C),
    class: 0x06_0400,
    driver: Some("pcieport"),
    group: 4,
    total_vfs: None,
    interface: None,
};

/// The driver that the kernel chooses.
pub(super) fn natural(ids: (u16, u16)) -> Option<&'static str> {
    Some(match ids {
        (0x8086, 0x10C9) => "igb",
        (0x8086, 0x10CA) => "igbvf",
        (0x8086, 0x10D3) => "e1000e",
        (0x1B36, 0x0010) => "nvme",
        (0x1B36, 0x000C) => "pcieport",
        _ => return None,
    })
}
