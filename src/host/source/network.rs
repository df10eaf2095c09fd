//! What the kernel says about its network over rtnetlink, as facts keep it.

use serde::{Deserialize, Serialize};

/// A network interface with virtual functions below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VfLinks {
    /// Name of the physical function's interface.
    pub interface: String,
    /// Its virtual functions, as its driver tells them.
    pub vfs: Vec<VfLink>,
}

/// What the driver of a physical function says about one virtual function; what it does not say is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VfLink {
    /// Index, from 0.
    pub index: u16,
    /// Ethernet address; zeros where the function chooses its own at each start.
    pub mac: Option<String>,
    /// VLAN that the device adds and removes; 0 for none.
    pub vlan: Option<u32>,
    /// Priority of its frames in that VLAN, 0 to 7.
    pub vlan_priority: Option<u32>,
    /// Whether frames with another source address than its own are dropped.
    pub spoof_check: Option<bool>,
    /// Whether it may have what only trusted functions may: promiscuous mode, another address.
    pub trusted: Option<bool>,
    /// `auto` follows the physical function's link; `enable` and `disable` do not.
    pub link_state: Option<String>,
    /// What it may always send, in Mbit/s; 0 where nothing is promised.
    pub min_tx_rate_mbps: Option<u32>,
    /// What it may send at most, in Mbit/s; 0 for as much as the port can.
    pub max_tx_rate_mbps: Option<u32>,
}

/// A route over an interface, of whatever table and protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Name of the interface.
    pub interface: String,
    /// Number of the table; 254 is `main`.
    pub table: u32,
    /// Whether it leads everywhere.
    pub default: bool,
}
