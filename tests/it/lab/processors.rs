//! vCPUs, memory and NUMA nodes under a Linux guest: what it finds is what the profile says, and on the host they are where
//! the profile puts them. And what a host that does not have it says.

use std::time::Duration;

use thruway::rehearse::{Hardware, Options};
use thruway::spec::units::ByteSize;

use super::{Lab, Run};

/// In the guest: what Linux makes of tables and CPUID, and then until the host lets it go.
const GUEST: &str = r#"
export LD_LIBRARY_PATH=/lib/x86_64-linux-gnu
echo "begin"
/usr/bin/lscpu
/usr/bin/numactl -H
grep -E '^(processor|physical id|siblings|core id|cpu cores|apicid)' /proc/cpuinfo | tr -d '\t' | tr '\n' ';'
echo
for node in /sys/devices/system/node/node[0-9]*; do
    total=$(sed -n 's/.*MemTotal: *\([0-9]*\) kB/\1/p' $node/meminfo)
    echo "node ${node##*/node} cpus $(cat $node/cpulist) distance $(cat $node/distance) mib $((total / 1024))"
done
echo "dies $(cat /sys/devices/system/cpu/cpu*/topology/die_id | tr '\n' ' ')"
grep -o -w -E 'sse4_2|avx|aes|x2apic|hypervisor|lm' /proc/cpuinfo | sort -u | tr '\n' ' '
echo
dd if=/dev/zero of=/tmp/fill bs=1M count=64 2>/dev/null
echo "ready"
head -n 1 </dev/ttyS0 >/dev/null
"#;

/// In the emulated host, which has two nodes, and a processor in each.
const HOST: &str = r#"
# A machine that never runs: as long as there is one, KVM patches none of its code when others come and go, which QEMU's
# translator does not always survive on several processors.
qemu-system-x86_64 -S -nodefaults -display none -accel kvm -m 16 </dev/null >/dev/null 2>&1 &
holder=$!
# The guest's archive, with two programs and their libraries behind it.
libraries=$(ldd /usr/bin/lscpu /usr/bin/numactl | grep -o '/[^ ]*' | grep -v : | sort -u)
mkdir -p /tmp/more/usr/bin && cp /usr/bin/lscpu /usr/bin/numactl /tmp/more/usr/bin/
for library in $libraries; do
    mkdir -p /tmp/more/${library%/*} && cp -L $library /tmp/more/$library
done
{ cat "$LAB_IN/guest.initrd"; head -c $((-$(stat -c %s "$LAB_IN/guest.initrd") & 3)) /dev/zero; } >/tmp/initrd
(cd /tmp/more && find . | busybox cpio -o -H newc 2>/dev/null) >>/tmp/initrd

profile() {
    cat >/tmp/$1.yaml <<END
schema: 1
name: $1
machine:
  boot: {kernel: $LAB_KERNEL_VMLINUX, initrd: /tmp/initrd, cmdline: "console=ttyS0 quiet panic=-1"}
$2
END
}

# start NAME: runs the profile until its guest is ready, and says how its threads are placed.
start() {
    rm -f /tmp/gate; mkfifo /tmp/gate; exec 9<>/tmp/gate
    thruway run /tmp/$1.yaml --stats "$LAB_OUT/$1.json" <&9 >"$LAB_OUT/$1" 2>"$LAB_OUT/$1.errors" &
    machine=$!
    until grep -q '^ready' "$LAB_OUT/$1" || ! kill -0 $machine 2>/dev/null; do sleep 0.2; done
    for task in /proc/$machine/task/*; do
        case $(cat $task/comm) in
        vcpu-*) echo "$1 $(cat $task/comm) on $(sed -n 's/Cpus_allowed_list:\t//p' $task/status)" ;;
        esac
    done
    grep guest-ram /proc/$machine/numa_maps | sed "s/^[^ ]* /$1 ram /"
}
let_go() {
    echo >&9
    wait $machine
    echo "$1 status $?"
}

echo 80 >/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages
echo 80 >/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages
mkdir /tmp/huge && mount -t hugetlbfs none /tmp/huge
profile one "  cpus: 1
  memory: {size: 256MiB, file: /tmp/huge/ram}"
start one
kill -USR1 $machine
echo "one file $(stat -c %s /tmp/huge/ram)"
let_go one
echo "one left $(ls /tmp/huge | wc -l)"

profile two "  interrupts: split
  cpus: {cores: 2, pin: [1, 0], model: x86-64-v1}
  memory: {size: 256MiB, hugepages: 2MiB}
  numa:
  - {cpus: 0, memory: 128MiB, host_node: 0, distances: [10, 25]}
  - {cpus: 1, memory: 128MiB, host_node: 1, distances: [25, 10]}"
start two
grep -H '' /sys/devices/system/node/node*/hugepages/hugepages-2048kB/free_hugepages | sed 's/.*\(node[01]\).*:/two free \1 /'
let_go two

# Huge pages: too few on a node, too few in all.
profile far "  cpus: 2
  memory: {size: 256MiB, hugepages: 2MiB}
  numa:
  - {cpus: 0, memory: 32MiB, host_node: 0}
  - {cpus: 1, memory: 224MiB, host_node: 1}"
thruway run /tmp/far.yaml </dev/null 2>"$LAB_OUT/far"; echo "far status $?"
profile many "  memory: {size: 512MiB, hugepages: 2MiB}"
thruway run /tmp/many.yaml </dev/null 2>"$LAB_OUT/many"; echo "many status $?"
# More memory than there is, wanted at once.
profile large "  memory: {size: 8GiB, prefault: true}"
thruway run /tmp/large.yaml </dev/null 2>"$LAB_OUT/large"; echo "large status $?"
# Control groups that let less through: of huge pages, and of memory.
mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null
echo '+hugetlb +memory' >/sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/lab
echo 67108864 >/sys/fs/cgroup/lab/hugetlb.2MB.max
profile gone "  memory: {size: 256MiB, hugepages: 2MiB, prefault: true}"
sh -c 'echo $$ >/sys/fs/cgroup/lab/cgroup.procs; exec thruway run /tmp/gone.yaml' </dev/null 2>"$LAB_OUT/gone"; echo "gone status $?"
echo 134217728 >/sys/fs/cgroup/lab/memory.max
profile tight "  memory: {size: 256MiB, prefault: true}"
sh -c 'echo $$ >/sys/fs/cgroup/lab/cgroup.procs; exec thruway run /tmp/tight.yaml' </dev/null 2>"$LAB_OUT/tight"; echo "tight status $?"
echo 0 >/proc/sys/vm/nr_hugepages

profile giant "  memory: {size: 1GiB, hugepages: 1GiB}"
start giant
let_go giant

profile four "  cpus: {sockets: 2, threads: 2}
  memory: {size: 256MiB, prefault: true}
  numa:
  - {cpus: 0-1, memory: 192MiB}
  - {cpus: 2-3, memory: 64MiB}"
start four
let_go four

profile eight "  interrupts: split
  cpus: {dies: 2, cores: 2, threads: 2}
  memory: {size: 256MiB, shared: true}"
start eight
let_go eight

kill $holder
echo 0 >/sys/devices/system/cpu/cpu1/online
profile offline "  cpus: {count: 1, pin: [1]}
  memory: 64MiB"
thruway run /tmp/offline.yaml </dev/null 2>"$LAB_OUT/offline"; echo "offline status $?"
"#;

fn run() -> Option<Run> {
    let lab = Lab::open()?;
    let qemu_arguments = [
        "-object",
        "memory-backend-ram,id=memory0,size=1024M",
        "-object",
        "memory-backend-ram,id=memory1,size=3072M",
        "-numa",
        "node,nodeid=0,cpus=0,memdev=memory0",
        "-numa",
        "node,nodeid=1,cpus=1,memdev=memory1",
    ]
    .map(str::to_owned)
    .to_vec();
    let files = vec![("guest.initrd".to_owned(), lab.guest_initrd(GUEST))];
    // Eight processors of a guest on two that are translated take their time.
    let limit = Some(Duration::from_secs(1800));
    let options = Options { files, qemu_arguments, limit, ..Options::default() };
    let mut hardware = Hardware::load("no-iommu").unwrap();
    hardware.memory = ByteSize::from_mebibytes(4096);
    // A model with pages of 1 GiB, one of which is put aside before memory is in pieces.
    hardware.cpu.model = "EPYC-Milan".to_owned();
    hardware.cpu.count = 2;
    hardware.kernel_arguments.extend(["hugepagesz=1G", "hugepages=1"].map(str::to_owned));
    let run = lab.run_on(&hardware, options, HOST);
    run.succeeded();
    Some(run)
}

/// The value of an `lscpu` line.
fn lscpu<'a>(guest: &'a str, key: &str) -> &'a str {
    let value = guest.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {key} in\n{guest}")).trim()
}

/// What /proc/cpuinfo says of `key`, processor by processor.
fn cpuinfo<'a>(guest: &'a str, key: &str) -> Vec<&'a str> {
    let line = guest.lines().find(|line| line.starts_with("processor:")).unwrap_or_else(|| panic!("{guest}"));
    let values = line.split(';').filter_map(|field| field.trim().split_once(':'));
    values.filter(|(name, _)| *name == key).map(|(_, value)| value.trim()).collect()
}

/// Cpus, distances and MiB of each node.
fn nodes(guest: &str) -> Vec<(&str, &str, u64)> {
    guest
        .lines()
        .filter_map(|line| line.trim().strip_prefix("node ")?.split_once(" cpus "))
        .map(|(_, rest)| {
            let (cpus, rest) = rest.split_once(" distance ").unwrap();
            let (distances, mib) = rest.split_once(" mib ").unwrap();
            (cpus, distances.trim(), mib.trim().parse().unwrap())
        })
        .collect()
}

#[test]
fn linux_finds_the_processors_and_nodes_of_the_profile() {
    let Some(run) = run() else { return };
    let host = run.stdout();
    let guest = |name: &str| run.file(name).replace('\r', "");
    for name in ["one", "two", "giant", "four", "eight"] {
        assert!(
            host.contains(&format!("{name} status 0")),
            "{host}\n{}\n{}",
            guest(name),
            run.file(&format!("{name}.errors"))
        );
    }

    let one = guest("one");
    assert_eq!((lscpu(&one, "CPU(s)"), lscpu(&one, "Thread(s) per core")), ("1", "1"));
    assert_eq!(nodes(&one).len(), 1, "{one}");
    // In a file of huge pages, which goes with the machine
    assert!(host.contains("one file 268435456\n") && host.contains("one left 0\n"), "{host}");
    let stats = run.json("one.json");
    let vcpu = &stats["data"]["vcpus"][0];
    assert!(vcpu["exits"]["port_write"].as_u64().unwrap() > 100, "{vcpu:#}");
    assert!(vcpu["kvm"]["exits"].as_u64().unwrap() > 100, "{vcpu:#}");
    assert!(stats["data"]["kvm"].is_object(), "{stats:#}");

    // Two cores on two nodes of the host, crosswise, in huge pages of both.
    let two = guest("two");
    assert_eq!(
        (lscpu(&two, "CPU(s)"), lscpu(&two, "Core(s) per socket"), lscpu(&two, "Socket(s)")),
        ("2", "2", "1")
    );
    assert_eq!(cpuinfo(&two, "apicid"), ["0", "1"]);
    let [first, second] = nodes(&two)[..] else { panic!("{two}") };
    assert_eq!((first.0, first.1, second.0, second.1), ("0", "10 25", "1", "25 10"), "{two}");
    for line in ["available: 2 nodes (0-1)", "node 1 cpus: 1", "  0:  10  25", "  1:  25  10"] {
        assert!(two.contains(line), "numactl -H: {line}\n{two}");
    }
    assert!((64..=128).contains(&first.2) && (100..=128).contains(&second.2), "{two}");
    assert!(host.contains("two vcpu-0 on 1\n") && host.contains("two vcpu-1 on 0\n"), "{host}");
    assert!(host.contains("two free node0 16\n") && host.contains("two free node1 16\n"), "{host}");
    let maps: Vec<&str> = host.lines().filter(|line| line.starts_with("two ram ")).collect();
    let bound =
        |node: &str| maps.iter().any(|map| map.contains(&format!("bind:{node}")) && map.contains("huge"));
    assert!(bound("0") && bound("1"), "{maps:#?}");
    assert!(!two.contains("sse4_2") && two.contains("hypervisor") && two.contains(" lm "), "{two}");

    // In one page of 1 GiB, which nested paging maps as one.
    let giant = run.json("giant.json");
    assert_eq!(giant["data"]["kvm"]["pages_1g"], 1, "{giant:#}");

    // Two sockets of one core of two threads, a node each.
    let four = guest("four");
    assert_eq!((lscpu(&four, "CPU(s)"), lscpu(&four, "Thread(s) per core")), ("4", "2"), "{four}");
    assert_eq!((lscpu(&four, "Core(s) per socket"), lscpu(&four, "Socket(s)")), ("1", "2"), "{four}");
    assert_eq!(cpuinfo(&four, "physical id"), ["0", "0", "1", "1"], "{four}");
    assert_eq!(cpuinfo(&four, "siblings"), ["2"; 4], "{four}");
    assert_eq!(cpuinfo(&four, "cpu cores"), ["1"; 4], "{four}");
    assert_eq!(
        (lscpu(&four, "NUMA node0 CPU(s)"), lscpu(&four, "NUMA node1 CPU(s)")),
        ("0,1", "2,3"),
        "{four}"
    );
    let [first, second] = nodes(&four)[..] else { panic!("{four}") };
    assert_eq!((first.1, second.1), ("10 20", "20 10"), "{four}");
    assert!(four.contains("node 0 cpus: 0 1") && four.contains("node 1 cpus: 2 3"), "{four}");
    assert!(first.2 > second.2 && second.2 > 32, "{four}");

    // One socket of two dies of two cores of two threads.
    let eight = guest("eight");
    assert_eq!((lscpu(&eight, "CPU(s)"), lscpu(&eight, "Thread(s) per core")), ("8", "2"), "{eight}");
    assert_eq!((lscpu(&eight, "Core(s) per socket"), lscpu(&eight, "Socket(s)")), ("4", "1"), "{eight}");
    assert!(eight.contains("dies 0 0 0 0 1 1 1 1"), "{eight}");
    assert_eq!(cpuinfo(&eight, "siblings"), ["8"; 8], "{eight}");

    // What the host does not have.
    for (name, text) in [
        ("far", "guest RAM needs 112 huge pages of 2MiB on node 1 of the host, and 80 are free there"),
        ("many", "guest RAM needs 256 huge pages of 2MiB, and 160 are free (node 0: 80, node 1: 80)"),
        ("large", "guest RAM of 8GiB does not fit: this host, or the control group of this process, has "),
        ("gone", "this host ran out of huge pages: 32 of 128 were taken"),
        ("tight", "guest RAM of 256MiB does not fit: this host, or the control group of this process, has 1"),
        ("offline", "vCPU 0 cannot be pinned to 1, because the host's CPUs that are online are 0"),
    ] {
        assert!(host.contains(&format!("{name} status 3\n")), "{host}");
        let said = run.file(name);
        assert!(said.contains(text), "{said}");
    }
}
