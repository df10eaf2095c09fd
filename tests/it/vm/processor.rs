//! What a profile says of processors, on this machine's KVM.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{Guest, Lab, profile_of};
use crate::support::{program, run, skip};

/// Threads of process `id` by their names, each with a field of /proc/PID/task/TID/status and its scheduling policy.
fn vcpu_threads(id: u32) -> Vec<(String, String, u32)> {
    let mut found: Vec<_> = fs::read_dir(format!("/proc/{id}/task"))
        .unwrap()
        .map(|task| {
            let path = task.unwrap().path();
            let read = |name: &str| fs::read_to_string(path.join(name)).unwrap();
            let status = read("status");
            let cpus = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")).unwrap();
            let stat = read("stat");
            // Fields behind the name, which ends at the last parenthesis: 38 is the policy, field 41 of proc_pid_stat(5).
            let policy = stat.rsplit(')').next().unwrap().split_whitespace().nth(38).unwrap();
            (read("comm").trim().to_owned(), cpus.to_owned(), policy.parse().unwrap())
        })
        .filter(|(name, _, _)| name.starts_with("vcpu-"))
        .collect();
    found.sort();
    found
}

/// The first CPU that this process may use.
fn own_cpu() -> usize {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap();
    (0..nix::sched::CpuSet::count()).find(|cpu| set.is_set(*cpu).unwrap()).unwrap()
}

#[test]
fn pinned_vcpus_run_where_they_are_put_and_a_realtime_one_that_spins_can_be_stopped() {
    // `up`, then jump to itself with interrupts off
    let Some(lab) = Lab::new(&Guest::default().print("up").bytes(&[0xFA, 0xEB, 0xFE])) else { return };
    let cpu = own_cpu();
    for (more, policy) in [("", 0), (", realtime_priority: 10", 1)] {
        if policy == 1 && !nix::unistd::geteuid().is_root() {
            skip("not root: no real-time priority");
            continue;
        }
        let profile = profile_of(&lab, &format!("  cpus: {{count: 2, pin: [{cpu}, \"{cpu}\"]{more}}}\n"));
        let mut command = program();
        command.arg("run").arg(profile).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut seen = [0; 2];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut seen).unwrap();
        let list = cpu.to_string();
        let wanted = [("vcpu-0".to_owned(), list.clone(), policy), ("vcpu-1".to_owned(), list, policy)];
        // The guest's first word comes from vCPU 0; the other thread may have to find its place yet.
        let start = Instant::now();
        let mut placed = vcpu_threads(child.id());
        while placed != wanted && start.elapsed() < Duration::from_secs(10) {
            placed = vcpu_threads(child.id());
        }
        let process = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(process, nix::sys::signal::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert_eq!(placed, wanted);
    }
}

#[test]
fn pins_that_cannot_be_are_errors_of_the_host_that_name_them() {
    let Some(lab) = Lab::new(&Guest::default().power_off()) else { return };
    let profile = profile_of(&lab, "  cpus: {count: 1, pin: [1022]}\n");
    let outcome = run(program().arg("run").arg(&profile), b"");
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("vCPU 0 cannot be pinned to 1022"), "{}", outcome.stderr);
    // A CPU that is online and not ours: this process has one, and the host more.
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    let other = online.trim().rsplit(['-', ',']).next().unwrap().to_owned();
    let own = own_cpu();
    if other == own.to_string() {
        return; // there is one CPU
    }
    let profile = profile_of(&lab, &format!("  cpus: {{count: 1, pin: [{other}]}}\n"));
    let mut command = std::process::Command::new("taskset");
    command.args(["-c", &own.to_string(), crate::support::PROGRAM, "run"]).arg(&profile);
    let outcome = run(&mut command, b"");
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(&format!("this process may use {own} only")), "{}", outcome.stderr);
}

#[test]
fn features_and_models_that_cannot_be_are_told_at_their_place_or_by_their_name() {
    let Some(lab) = Lab::new(&Guest::default().power_off()) else { return };
    let outcome = |machine: &str| run(program().arg("run").arg(profile_of(&lab, machine)), b"");
    let unknown = outcome("  cpus: {count: 1, features: {avx51f: true}}\n");
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("unknown key `avx51f`"), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("did you mean `avx512f`?"), "{}", unknown.stderr);
    // No processor has both.
    let missing = outcome("  cpus: {count: 1, features: {avx512er: true, 3dnowext: true}}\n");
    assert_eq!(missing.code, Some(3), "{}", missing.stderr);
    assert!(missing.stderr.contains("does not offer 3dnow"), "{}", missing.stderr);
    let split = outcome("  cpus: {count: 8, sockets: 2, cores: 3}\n");
    assert_eq!(split.code, Some(2), "{}", split.stderr);
    assert!(split.stderr.contains("2 sockets times 3 cores do not make 8 vCPUs"), "{}", split.stderr);
}

#[test]
fn what_the_guest_is_told_of_its_processor_follows_the_profile() {
    // mov eax, 1; cpuid; shr ebx, 24; mov al, bl; add al, '0'; print. Then bit 21 of ECX (x2APIC), '0' or '1':
    // a KVM in software cannot hide what the processor does without it.
    let guest = Guest::default()
        .bytes(&[0xB8, 1, 0, 0, 0, 0x0F, 0xA2, 0xC1, 0xEB, 24, 0x88, 0xD8, 0x04, b'0'])
        .bytes(&[0x89, 0xCE])
        .print_al()
        .bytes(&[0x89, 0xF0, 0xC1, 0xE8, 21, 0x24, 1, 0x04, b'0'])
        .print_al()
        .power_off();
    let Some(lab) = Lab::new(&guest) else { return };
    for machine in [
        "  cpus: {count: 64, features: {x2apic: false}}\n",
        "  cpus: {threads: 2, dies: 2, model: x86-64-v1, features: {x2apic: false}}\n",
    ] {
        let outcome = run(program().arg("run").arg(profile_of(&lab, machine)), b"");
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), "00"), "{machine} {}", outcome.stderr);
    }
}
