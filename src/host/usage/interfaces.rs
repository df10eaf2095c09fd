//! Network interfaces of functions: whether they are up, what stands above them, and whether the host's way out leads
//! over them.
//!
//! Linux: Documentation/ABI/testing/sysfs-class-net; route tables as in proc_pid_net(5). A bond, bridge or VLAN above an
//! interface lends it its own importance: the physical function under `bond0` carries the default route of `bond0`.
//! Routes of all tables come over rtnetlink. Where that does not answer, procfs shows IPv6 routes of all tables, and IPv4
//! routes of the main table only.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::owner;
use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::source::Source;
use crate::spec::pci::PciAddress;

const CLASS: &str = "/sys/class/net";

/// A network interface of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// Whether it is administratively up (IFF_UP).
    pub up: Fact<bool>,
    /// Operational state: `up`, `down`, `dormant`, ...
    pub state: Fact<String>,
    /// Speed of its link in Mbit/s; absent where the link is down or the driver does not say.
    #[serde(skip_serializing_if = "is_absent")]
    pub speed_mbps: Fact<u32>,
    /// Interfaces above it, nearest first: bonds, bridges, VLANs.
    pub uppers: Vec<String>,
    /// Whether a default route leads over it or over one of its uppers.
    pub default_route: Fact<bool>,
    /// Whether any route leads over it or over one of its uppers.
    pub routes: Fact<bool>,
}

fn is_absent<T>(fact: &Fact<T>) -> bool {
    matches!(fact, Fact::NotPresent)
}

/// Interfaces by the function that each belongs to.
pub(super) fn collect(source: &dyn Source) -> Fact<BTreeMap<PciAddress, Vec<Interface>>> {
    super::super::list_or_empty(source, CLASS, "/sys/class").map(|names| {
        let routes = routes(source);
        let mut found = BTreeMap::<_, Vec<_>>::new();
        for name in &names {
            let Some(address) = owner_of(source, name) else { continue };
            found.entry(address).or_default().push(interface(source, name, &routes));
        }
        found
    })
}

/// The function at the end of the interface's own path, or behind its `device` link.
fn owner_of(source: &dyn Source, name: &str) -> Option<PciAddress> {
    let at = |path: String| source.link(&path).known().and_then(|target| owner(target));
    at(format!("{CLASS}/{name}")).or_else(|| at(format!("{CLASS}/{name}/device")))
}

fn interface(source: &dyn Source, name: &str, routes: &Fact<Routes>) -> Interface {
    let (flags, state) = (format!("{CLASS}/{name}/flags"), format!("{CLASS}/{name}/operstate"));
    let uppers = uppers(source, name);
    let state = parse::required(source.text(&state), &state);
    let speed_mbps = match &state {
        Fact::Known(state) if state == "up" => speed(source, name),
        _ => Fact::NotPresent,
    };
    let over = |interfaces: &dyn Fn(&Routes) -> &BTreeSet<String>| {
        routes.as_ref().map(|routes| {
            let interfaces = interfaces(routes);
            interfaces.contains(name) || uppers.iter().any(|upper| interfaces.contains(upper))
        })
    };
    Interface {
        name: name.to_owned(),
        up: parse::required(parse::number::<u32>(source, &flags, 16), &flags).map(|flags| flags & 1 != 0),
        state,
        speed_mbps,
        default_route: over(&|routes| &routes.default),
        routes: over(&|routes| &routes.any),
        uppers,
    }
}

/// A driver that does not say answers with an error, or with -1 (Linux: net/core/net-sysfs.c, `speed_show`).
fn speed(source: &dyn Source, name: &str) -> Fact<u32> {
    let text = source.text(&format!("{CLASS}/{name}/speed"));
    let speed = text.known().and_then(|text| text.trim().parse().ok()).filter(|speed| *speed > 0);
    speed.map_or(Fact::NotPresent, Fact::Known)
}

/// Everything above interface `name`, nearest first; each once, however the links are laid.
fn uppers(source: &dyn Source, name: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut next = 0;
    let mut current = name.to_owned();
    loop {
        let directory = format!("{CLASS}/{current}");
        let entries = source.list(&directory);
        let mut above: Vec<String> =
            source.link_name(&format!("{directory}/master")).known().cloned().into_iter().collect();
        let named = entries.known().into_iter().flatten().filter_map(|entry| entry.strip_prefix("upper_"));
        above.extend(named.map(str::to_owned));
        for upper in above {
            if upper != name && !found.contains(&upper) {
                found.push(upper);
            }
        }
        let Some(upper) = found.get(next) else { return found };
        current.clone_from(upper);
        next += 1;
    }
}

/// The interfaces that routes lead over.
#[derive(Debug, Default)]
struct Routes {
    default: BTreeSet<String>,
    any: BTreeSet<String>,
}

/// The routes of all tables, or else what procfs shows of them.
fn routes(source: &dyn Source) -> Fact<Routes> {
    let Fact::Known(all) = source.routes() else { return routes_of_procfs(source) };
    let mut routes = Routes::default();
    for route in all {
        routes.add(&route.interface, route.default);
    }
    Fact::Known(routes)
}

/// Both protocols' routes. One that has no table here (IPv6 off) adds none; one that cannot be read makes all unknown.
fn routes_of_procfs(source: &dyn Source) -> Fact<Routes> {
    let v4 = source.text("/proc/net/route");
    let v6 = source.text("/proc/net/ipv6_route");
    if v4 == Fact::NotPresent && v6 == Fact::NotPresent {
        return Fact::Unreadable {
            source: "/proc/net/route".to_owned(),
            reason: "no route table is shown here".to_owned(),
        };
    }
    let mut routes = Routes::default();
    for (text, read) in [(v4, read_v4 as fn(&str, &mut Routes)), (v6, read_v6)] {
        match text {
            Fact::Known(text) => text.lines().for_each(|line| read(line, &mut routes)),
            Fact::NotPresent => {}
            unread => return unread.map(|_| Routes::default()),
        }
    }
    Fact::Known(routes)
}

impl Routes {
    fn add(&mut self, interface: &str, is_default: bool) {
        self.any.insert(interface.to_owned());
        if is_default {
            self.default.insert(interface.to_owned());
        }
    }
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask ...`
fn read_v4(line: &str, routes: &mut Routes) {
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    if let [interface, destination, _, _, _, _, _, mask, ..] = words[..]
        && destination.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        routes.add(interface, destination == "00000000" && mask == "00000000");
    }
}

/// `destination length source length next-hop metric references use flags interface`; routes of lo and those that
/// every interface has by itself (link-local, multicast) are none that somebody set.
fn read_v6(line: &str, routes: &mut Routes) {
    const RTF_REJECT: u32 = 0x0200;
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    if let [destination, length, _, _, _, _, _, _, flags, interface] = words[..] {
        let rejects = u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & RTF_REJECT != 0);
        let own = destination.starts_with("fe80") || destination.starts_with("ff");
        if !rejects && !own && interface != "lo" {
            routes.add(interface, length == "00");
        }
    }
}
