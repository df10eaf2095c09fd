//! What the platform says about its IOMMU besides the tables: a chipset register, a flag of the DMAR table, Xen, the
//! extent of memory.

use super::TABLES;
use crate::host::fact::Fact;
use crate::host::kernel_log::KernelLog;
use crate::host::parse;
use crate::host::pci::config;
use crate::host::source::Source;
use crate::spec::pci::walk::{self, read_u16, read_u32};
use crate::spec::pci::{CapabilityId, header};

const HOST_BRIDGE: &str = "/sys/bus/pci/devices/0000:00:00.0/config";

/// Intel's vendor ID.
const INTEL: u16 = 0x8086;

/// The capability register of Intel's client host bridges: a vendor-specific capability at E0h of function 00:00.0,
/// whose first doubleword is CAPID0_A with VTDD (VT-d disabled) in bit 23 (Intel Core processor datasheets, volume 2,
/// `CAPID0_A`, since the second generation).
mod capid0 {
    /// Offset of the capability.
    pub const OFFSET: u16 = 0xE0;
    /// Offset of CAPID0_A.
    pub const A: u16 = 0xE4;
    /// VT-d is fused off.
    pub const VTDD: u32 = 1 << 23;
}

/// Whether the chipset has VT-d, where a register says so. Only the first 64 bytes can be read without privilege.
pub(super) fn chipset_has_vtd(source: &dyn Source) -> Fact<bool> {
    config::read(source, HOST_BRIDGE).and_then(|config| {
        if read_u16(&config, header::VENDOR_ID) != Some(INTEL) {
            return Fact::NotPresent;
        }
        if walk::has_capabilities(&config) == Some(true) && config.len() <= usize::from(header::END) {
            return Fact::Denied { source: HOST_BRIDGE.to_owned() };
        }
        let has_register = walk::capabilities(&config)
            .found
            .iter()
            .any(|found| found.id == CapabilityId::VENDOR && found.offset == capid0::OFFSET);
        match read_u32(&config, capid0::A).filter(|_| has_register) {
            Some(word) => Fact::Known(word & capid0::VTDD == 0),
            None => Fact::NotPresent,
        }
    })
}

/// `X2APIC_OPT_OUT`, bit 1 of the DMAR table's flags at offset 37 (Intel VT-d 4.1, 8.1). The table's content needs
/// privilege; the kernel's log may tell as well. A table that is not there is absent only where it can be seen which
/// `tables` there are.
pub(super) fn x2apic_opt_out(source: &dyn Source, tables: &Fact<Vec<String>>, log: &KernelLog) -> Fact<bool> {
    const FLAGS: usize = 37;
    const OPT_OUT: u8 = 1 << 1;
    let path = format!("{TABLES}/DMAR");
    let by_table = source.read(&path).parse(&path, |table| {
        table.get(FLAGS).map(|flags| flags & OPT_OUT != 0).ok_or("the table is too short to have flags")
    });
    match by_table {
        unread if unread.is_unread() && log.first(&["BIOS sets x2apic opt out bit"]).is_some() => {
            Fact::Known(true)
        }
        Fact::NotPresent => tables.as_ref().and_then(|_| Fact::NotPresent),
        fact => fact,
    }
}

/// Xen shows what its first domain may do (Xen: docs/misc/xen-command-line; Linux: drivers/xen/xenfs). Elsewhere the
/// files are missing, which is an answer.
pub(super) fn xen_initial_domain(source: &dyn Source) -> Fact<bool> {
    match source.text("/sys/hypervisor/type") {
        Fact::Known(kind) if kind.trim() == "xen" => source
            .text("/proc/xen/capabilities")
            .map(|capabilities| capabilities.split(',').any(|word| word.trim() == "control_d")),
        Fact::Known(_) | Fact::NotPresent => Fact::Known(false),
        unread => unread.map(|_| false),
    }
}

/// The end of the highest memory zone (proc(5), `zoneinfo`): `start_pfn` and `spanned` of each, in pages.
pub(super) fn end_of_memory(source: &dyn Source) -> Fact<u64> {
    const ZONES: &str = "/proc/zoneinfo";
    const PAGE_BYTES: u64 = 4096;
    parse::required(source.text(ZONES), ZONES).parse(ZONES, |text| {
        let (mut spanned, mut end) = (0, 0);
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match (words.next(), words.next()) {
                (Some("spanned"), Some(pages)) => spanned = pages.parse().unwrap_or(0),
                (Some("start_pfn:"), Some(first)) if spanned > 0 => {
                    let first: u64 = first.parse().map_err(|_| "`start_pfn` is not a number")?;
                    let zone_end = first.checked_add(spanned).ok_or("a zone has no end")?;
                    end = end.max(zone_end);
                }
                _ => {}
            }
        }
        if end == 0 {
            Err("it lists no memory")
        } else {
            end.checked_mul(PAGE_BYTES).ok_or("a zone has no end")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::source::fake::{Entry, FakeHost};

    /// Configuration space of an Intel client host bridge with CAPID0_A as `word`.
    fn host_bridge(word: u32) -> Vec<u8> {
        let mut config = vec![0; 256];
        config[..4].copy_from_slice(&[0x86, 0x80, 0x00, 0x01]);
        config[0x06] = 0x10;
        config[0x34] = 0xE0;
        config[0xE0..0xE4].copy_from_slice(&[0x09, 0x00, 0x10, 0x01]);
        config[0xE4..0xE8].copy_from_slice(&word.to_le_bytes());
        config
    }

    fn chipset(config: &[u8]) -> Fact<bool> {
        chipset_has_vtd(&FakeHost::new(&[(HOST_BRIDGE, Entry::Bytes(config))]).source())
    }

    #[test]
    fn the_chipsets_register_tells_whether_vtd_is_fused_off() {
        assert_eq!(chipset(&host_bridge(0)), Fact::Known(true));
        assert_eq!(chipset(&host_bridge(1 << 23)), Fact::Known(false));
    }

    #[test]
    fn other_host_bridges_have_no_such_register() {
        let mut amd = host_bridge(0);
        amd[..2].copy_from_slice(&[0x22, 0x10]);
        let mut server = host_bridge(0);
        server[0xE0] = 0x10;
        assert_eq!((chipset(&amd), chipset(&server)), (Fact::NotPresent, Fact::NotPresent));
        assert!(matches!(chipset(&host_bridge(0)[..64]), Fact::Denied { .. }));
        let mut without_capabilities = host_bridge(0);
        without_capabilities[0x06] = 0;
        assert_eq!(chipset(&without_capabilities), Fact::NotPresent);
    }

    #[test]
    fn the_tables_flag_or_the_log_tells_the_opt_out() {
        let quiet = KernelLog(Fact::Known(Vec::new()));
        let shown = Fact::Known(Vec::new());
        let opt_out = |flags: u8| {
            let mut table = vec![0; 48];
            table[37] = flags;
            let host = FakeHost::new(&[(&format!("{TABLES}/DMAR"), Entry::Bytes(&table))]);
            x2apic_opt_out(&host.source(), &shown, &quiet)
        };
        assert_eq!((opt_out(1), opt_out(3)), (Fact::Known(false), Fact::Known(true)));

        let host = FakeHost::new(&[(&format!("{TABLES}/DMAR"), Entry::Text("short"))]);
        let told = "x2apic: x2apic is disabled because BIOS sets x2apic opt out bit.".to_owned();
        assert!(x2apic_opt_out(&host.source(), &shown, &quiet).is_unread());
        let log = KernelLog(Fact::Known(vec![told]));
        assert_eq!(x2apic_opt_out(&host.source(), &shown, &log), Fact::Known(true));
        let empty = FakeHost::new(&[]);
        assert_eq!(x2apic_opt_out(&empty.source(), &shown, &quiet), Fact::NotPresent);
        let hidden = Fact::Denied { source: TABLES.to_owned() };
        assert!(x2apic_opt_out(&empty.source(), &hidden, &quiet).is_unread());
    }

    #[test]
    fn memory_ends_where_its_highest_zone_does() {
        let text = "Node 0, zone  Normal\n  pages free 1\n        spanned  524288\n        present 524288\n  \
                    start_pfn:           1048576\nNode 0, zone  Movable\n        spanned  0\n  start_pfn:           0";
        let end =
            |text: &str| end_of_memory(&FakeHost::new(&[("/proc/zoneinfo", Entry::Text(text))]).source());
        assert_eq!(end(text), Fact::Known(6 << 30));
        assert!(end("").is_unread());
        assert!(end("spanned 1\nstart_pfn: 18446744073709551615").is_unread());
    }

    #[test]
    fn xens_first_domain_is_told_from_its_guests() {
        let xen = |capabilities| {
            let host = FakeHost::new(&[
                ("/sys/hypervisor/type", Entry::Text("xen")),
                ("/proc/xen/capabilities", Entry::Text(capabilities)),
            ]);
            xen_initial_domain(&host.source())
        };
        assert_eq!((xen("control_d"), xen("")), (Fact::Known(true), Fact::Known(false)));
        assert_eq!(xen_initial_domain(&FakeHost::new(&[]).source()), Fact::Known(false));
    }
}
