//! Processes: of those that hold no device, nothing stays, not even their numbers.

use std::collections::BTreeSet;

use crate::host::source::bundle::Bundle;
use crate::host::usage;

/// Takes out open files that are no devices, and processes of which nothing else was asked. Returns how many
/// processes that were.
pub(super) fn leave_out_idle(bundle: &mut Bundle) -> usize {
    let Some(recording) = &mut bundle.answers.recording else { return 0 };
    let mut kept = BTreeSet::new();
    bundle.links.retain(|path, target| {
        let Some((process, _)) = open_file(path) else { return true };
        let holds = target.strip_prefix("/dev/").is_some_and(usage::is_device_of_interest);
        if holds {
            kept.insert(process.to_owned());
        }
        holds
    });
    for (path, names) in &mut recording.listed {
        if let Some(process) = path.strip_suffix("/fd").and_then(number) {
            names.retain(|name| bundle.links.contains_key(&format!("/proc/{process}/fd/{name}")));
        }
    }
    // A file that was closed meanwhile.
    recording.refused.retain(|path, _| open_file(path).is_none());
    // What was refused or read of a process is a fact about it.
    let told = |path: &String| {
        path.strip_prefix("/proc/").and_then(|rest| rest.split('/').next()).map(str::to_owned)
    };
    kept.extend(bundle.files.keys().filter_map(told));
    kept.extend(recording.refused.keys().filter_map(told));
    let Some(processes) = recording.listed.get_mut("/proc") else { return 0 };
    let before = processes.len();
    processes.retain(|name| name.parse::<u32>().is_err() || kept.contains(name));
    let left_out = before - processes.len();
    recording.listed.retain(|path, _| {
        path.strip_suffix("/fd").and_then(number).is_none_or(|process| kept.contains(process))
    });
    left_out
}

/// Process and descriptor of a link `/proc/PID/fd/N`.
fn open_file(path: &str) -> Option<(&str, &str)> {
    let (directory, descriptor) = path.rsplit_once('/')?;
    Some((number(directory.strip_suffix("/fd")?)?, descriptor))
}

/// `PID` of `/proc/PID`.
fn number(path: &str) -> Option<&str> {
    path.strip_prefix("/proc/").filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}
