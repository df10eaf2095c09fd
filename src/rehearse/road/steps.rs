//! The steps themselves: each runs one sub-command and shows evidence of what became of it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::drive::{Context, Memory, Shown};
use super::state;

const DEVICES: &str = "/sys/bus/pci/devices";
/// Emulated hosts are slow, and the machine under them may be busy.
const SHORT: Duration = Duration::from_secs(120);
const GUEST: Duration = Duration::from_secs(420);

fn unusable(error: &io::Error) -> String {
    format!("the sub-command did not run: {error}")
}

fn read_state() -> Result<state::State, String> {
    state::read(Path::new(DEVICES)).map_err(|error| format!("{DEVICES}: {error}"))
}

/// `data.a.b` of a document, as text; empty when it is not there.
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn on(value: &Value, pointer: &str) -> &'static str {
    match value.pointer(pointer).and_then(Value::as_bool) {
        Some(true) => "on",
        Some(false) => "off",
        None => "unknown",
    }
}

/// Looks at the host and remembers what is seen.
pub(super) fn probe(context: &Context<'_>, memory: &mut Memory) -> Result<Shown, String> {
    memory.state = read_state()?;
    let call = context
        .tool
        .call("probe", &["probe", "--format", "json"], SHORT)
        .map_err(|error| unusable(&error))?;
    let data = call.data()?;
    let units: Vec<&str> = list(&data, "/iommu/units").iter().map(|unit| text(unit, "/name")).collect();
    let mut evidence = vec![
        format!(
            "IOMMU: {}; DMA remapping {}, interrupt remapping {}",
            if units.is_empty() { "none".to_owned() } else { units.join(", ") },
            on(&data, "/iommu/dma_remapping"),
            on(&data, "/iommu/interrupt_remapping"),
        ),
        format!(
            "{} PCI functions, {} IOMMU groups",
            list(&data, "/pci/devices").len(),
            list(&data, "/iommu/groups").len()
        ),
    ];
    for device in list(&data, "/pci/devices") {
        let Some(total) = device.pointer("/sriov/total_vfs").and_then(Value::as_u64) else { continue };
        let count = device.pointer("/sriov/num_vfs").and_then(Value::as_u64);
        evidence.push(format!(
            "{} {} {}: driver {}, {} of {total} virtual functions",
            text(device, "/address"),
            text(device, "/vendor"),
            text(device, "/device"),
            device.pointer("/driver").and_then(Value::as_str).unwrap_or("none"),
            count.map_or_else(|| "?".to_owned(), |count| count.to_string()),
        ));
    }
    let facts = json!({
        "iommu_units": units,
        "functions": list(&data, "/pci/devices").len(),
        "iommu_groups": list(&data, "/iommu/groups").len(),
        "interrupt_remapping": data.pointer("/iommu/interrupt_remapping"),
        "unread": list(&data, "/unread").len(),
    });
    memory.probe = data;
    Ok(Shown { evidence, facts, ..Shown::default() })
}

/// Asks for the plan.
pub(super) fn plan(context: &Context<'_>, _: &mut Memory) -> Result<Shown, String> {
    let arguments = ["plan", context.drive.profile.as_str(), "--format", "json"];
    let data = context.tool.call("plan", &arguments, SHORT).map_err(|error| unusable(&error))?.data()?;
    let mut evidence: Vec<String> =
        list(&data, "/steps").iter().map(|step| text(step, "/text").to_owned()).collect();
    evidence.extend(
        list(&data, "/warnings").iter().filter_map(|warning| Some(format!("warning: {}", warning.as_str()?))),
    );
    if evidence.is_empty() {
        evidence.push("nothing to change".to_owned());
    }
    Ok(Shown { evidence, facts: json!({ "steps": list(&data, "/steps") }), ..Shown::default() })
}

/// Applies it, and reads from sysfs what is different now.
pub(super) fn apply(context: &Context<'_>, memory: &mut Memory) -> Result<Shown, String> {
    let arguments = ["apply", context.drive.profile.as_str(), "--yes", "--format", "json"];
    let call = context.tool.call("apply", &arguments, SHORT).map_err(|error| unusable(&error))?;
    let data = call.data()?;
    let differences = state::differences(&memory.state, &read_state()?);
    let steps = list(&data, "/steps").len();
    let problem = (steps > 0 && differences.is_empty())
        .then(|| format!("it says that it took {steps} steps, and sysfs shows no difference"));
    let facts = json!({ "steps": steps, "differences": differences });
    Ok(Shown { evidence: differences, facts, problem, ..Shown::default() })
}

/// Runs the guest; watches its console and the host's interrupts meanwhile.
pub(super) fn run(context: &Context<'_>, memory: &mut Memory) -> Result<Shown, String> {
    let (kernel, initrd) =
        (context.drive.kernel.display().to_string(), context.drive.initrd.display().to_string());
    let arguments = [
        "run",
        context.drive.profile.as_str(),
        "--kernel",
        &kernel,
        "--initrd",
        &initrd,
        "--cmdline",
        "console=ttyS0 panic=-1 quiet",
        "--on-reboot",
        "exit",
    ];
    let mut guest = super::guest::GuestLog::default();
    let mut interrupts = Interrupts::default();
    let call = context
        .tool
        .watch("run", &arguments, GUEST, |line| match line {
            Some(line) => {
                if let Some(said) = guest.take(line) {
                    (context.detail)(said);
                }
            }
            None => interrupts.sample(&fs::read_to_string("/proc/interrupts").unwrap_or_default()),
        })
        .map_err(|error| unusable(&error))?;
    let mut evidence = Vec::new();
    if let Some(seconds) = guest.init_s {
        evidence.push(format!("the guest's user space began after {seconds:.2} s of its own time"));
    }
    evidence.extend(interrupts.evidence());
    if call.code == Some(0) {
        evidence.push("the guest powered off; the machine ended with exit code 0".to_owned());
    }
    let facts = json!({ "exit_code": call.code, "host_interrupts": interrupts.counts });
    let problem = call.problem().or_else(|| {
        let quiet = interrupts.counts.values().all(|count| *count == 0);
        quiet.then(|| "no passed-through function raised an interrupt on the host".to_owned())
    });
    memory.guest = guest;
    Ok(Shown { evidence, facts, problem, ..Shown::default() })
}

/// Judges what the guest said.
pub(super) fn guest(_: &Context<'_>, memory: &mut Memory) -> Result<Shown, String> {
    let guest = &memory.guest;
    let mut evidence = guest.evidence();
    if let [only] = guest.interfaces.as_slice() {
        evidence.push(format!("{} is the guest's only network interface", only.name));
    }
    let facts = serde_json::to_value(guest).map_err(|error| error.to_string())?;
    Ok(Shown { evidence, facts, problem: guest.problem(), duration: guest.script_time() })
}

/// Takes everything back.
pub(super) fn undo(context: &Context<'_>, _: &mut Memory) -> Result<Shown, String> {
    let arguments = ["undo", "--all", "--yes", "--format", "json"];
    let data = context.tool.call("undo", &arguments, SHORT).map_err(|error| unusable(&error))?.data()?;
    let steps: Vec<String> =
        list(&data, "/steps").iter().filter_map(|step| step.as_str().map(str::to_owned)).collect();
    let facts = json!({ "steps": steps, "transactions": list(&data, "/transactions") });
    Ok(Shown { evidence: steps, facts, ..Shown::default() })
}

/// Compares with the first look: sysfs to the byte, and the inspector's word.
pub(super) fn verify(context: &Context<'_>, memory: &mut Memory) -> Result<Shown, String> {
    let now = read_state()?;
    let mut differences = state::differences(&memory.state, &now);
    let call = context
        .tool
        .call("verify", &["probe", "--format", "json"], SHORT)
        .map_err(|error| unusable(&error))?;
    let data = call.data()?;
    differences.extend(probe_differences(&memory.probe, &data));
    let drivers = now.values().filter(|function| function.driver.is_some()).count();
    let evidence = if differences.is_empty() {
        vec![
            format!(
                "{} functions: driver, driver_override, VF count, autoprobe, group and links are as they were, to the byte",
                now.len()
            ),
            format!("{drivers} of them have their driver again; the second probe says the same as the first"),
        ]
    } else {
        differences.clone()
    };
    let problem =
        (!differences.is_empty()).then(|| format!("{} things are not as they were", differences.len()));
    Ok(Shown {
        evidence,
        facts: json!({ "functions": now.len(), "differences": differences }),
        problem,
        ..Shown::default()
    })
}

/// What two probes say differently of a function.
fn probe_differences(before: &Value, after: &Value) -> Vec<String> {
    const SAME: [&str; 5] =
        ["/driver", "/driver_override", "/sriov/num_vfs", "/sriov/drivers_autoprobe", "/iommu_group"];
    let by_address = |data: &Value| -> BTreeMap<String, Value> {
        let devices = list(data, "/pci/devices").iter();
        devices.map(|device| (text(device, "/address").to_owned(), device.clone())).collect()
    };
    let (before, after) = (by_address(before), by_address(after));
    let mut lines = Vec::new();
    for address in before.keys().chain(after.keys().filter(|address| !before.contains_key(*address))) {
        match (before.get(address), after.get(address)) {
            (Some(old), Some(new)) => {
                lines.extend(SAME.iter().filter(|pointer| old.pointer(pointer) != new.pointer(pointer)).map(
                    |pointer| {
                        let shown = |value: &Value| {
                            value.pointer(pointer).map_or("nothing".to_owned(), Value::to_string)
                        };
                        format!(
                            "probe: {address} {}: {} -> {}",
                            pointer.trim_start_matches('/'),
                            shown(old),
                            shown(new)
                        )
                    },
                ));
            }
            (Some(_), None) => lines.push(format!("probe: {address} is gone")),
            _ => lines.push(format!("probe: {address} appeared")),
        }
    }
    lines
}

/// The host's interrupts for passed-through functions, by name: the highest count that was seen.
#[derive(Debug, Default)]
struct Interrupts {
    counts: BTreeMap<String, u64>,
}

impl Interrupts {
    /// Takes the text of `/proc/interrupts`; lines of `vfio-msix[0](0000:01:10.0)` and the like are ours.
    fn sample(&mut self, text: &str) {
        for line in text.lines() {
            let Some(name) = line.split_whitespace().last().filter(|word| word.starts_with("vfio-")) else {
                continue;
            };
            let count: u64 = line.split_whitespace().skip(1).map_while(|word| word.parse::<u64>().ok()).sum();
            let seen = self.counts.entry(name.to_owned()).or_default();
            *seen = count.max(*seen);
        }
    }

    fn evidence(&self) -> Vec<String> {
        self.counts.iter().map(|(name, count)| format!("interrupts on the host, {name}: {count}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_of_passed_through_functions_are_summed_over_cpus() {
        let mut interrupts = Interrupts::default();
        let text = |a: u32, b: u32| {
            format!(
                "           CPU0       CPU1\n  16:  1  2  IR-IO-APIC  16-fasteoi  i801_smbus\n \
                 41:  {a}  {b}  IR-PCI-MSIX-0000:01:10.0    0-edge      vfio-msix[0](0000:01:10.0)\nERR: 0\n"
            )
        };

        interrupts.sample(&text(3, 4));
        interrupts.sample(&text(10, 9));
        interrupts.sample("");

        assert_eq!(interrupts.counts, [("vfio-msix[0](0000:01:10.0)".to_owned(), 19)].into());
    }

    #[test]
    fn two_probes_are_compared_function_by_function() {
        let probe = |driver: &str, count: u32| {
            json!({"pci": {"devices": [
                {"address": "0000:01:00.0", "driver": driver, "sriov": {"num_vfs": count, "drivers_autoprobe": true}},
            ]}})
        };

        assert_eq!(probe_differences(&probe("igb", 0), &probe("igb", 0)), Vec::<String>::new());
        assert_eq!(
            probe_differences(&probe("igb", 0), &probe("vfio-pci", 2)),
            [
                "probe: 0000:01:00.0 driver: \"igb\" -> \"vfio-pci\"",
                "probe: 0000:01:00.0 sriov/num_vfs: 0 -> 2",
            ]
        );
        assert_eq!(
            probe_differences(&probe("igb", 0), &json!({"pci": {"devices": []}})),
            ["probe: 0000:01:00.0 is gone"]
        );
    }
}
