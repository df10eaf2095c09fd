//! Where threads of this process run, and before whom: sched_setaffinity(2), sched(7).
#![expect(unsafe_code, reason = "sched_setscheduler(2), pthread_setaffinity_np(3)")]

use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{Pid, getpid};

use crate::spec::cpu_list::CpuList;

/// The calling thread.
const SELF: Pid = Pid::from_raw(0);

fn affinity_of(thread: Pid) -> io::Result<CpuSet> {
    Ok(sched_getaffinity(thread)?)
}

/// The CPUs that the calling thread may run on, offline ones among them.
///
/// # Errors
/// What the kernel answered.
pub fn affinity() -> io::Result<CpuList> {
    let set = affinity_of(SELF)?;
    let is_in = |cpu: &usize| set.is_set(*cpu).unwrap_or(false);
    Ok((0..CpuSet::count()).filter(is_in).filter_map(|cpu| u32::try_from(cpu).ok()).collect())
}

/// Lets the calling thread run on `cpus` only. Threads that it starts inherit this.
///
/// # Errors
/// `EINVAL` where none of them is online and allowed to this process, or a number is beyond 1023.
pub fn set_affinity(cpus: &CpuList) -> io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus.iter() {
        set.set(usize::try_from(cpu).map_err(io::Error::other)?)?;
    }
    Ok(sched_setaffinity(SELF, &set)?)
}

/// Lets `thread` run wherever the process's first thread may. Called by the one that started it: where that has a real-time
/// priority and one CPU, the new thread itself would never get to it.
///
/// # Errors
/// What the kernel answered.
pub fn follow_first_thread<T>(thread: &JoinHandle<T>) -> io::Result<()> {
    let first = affinity_of(getpid())?;
    // SAFETY: an all-zero set is a valid value: no CPU.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in (0..CpuSet::count()).filter(|cpu| first.is_set(*cpu).unwrap_or(false)) {
        // SAFETY: the number is below the size of a set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    let id = thread.as_pthread_t();
    // SAFETY: the handle is borrowed, so that the thread was neither joined nor detached and its ID is valid; the set is read
    // during the call only.
    let result = unsafe { libc::pthread_setaffinity_np(id, size_of::<libc::cpu_set_t>(), &raw const set) };
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

/// Gives the calling thread this real-time priority, 1 to 99, first in first out. Threads that it starts do not inherit it.
///
/// # Errors
/// `EPERM` without CAP_SYS_NICE where `RLIMIT_RTPRIO` is lower.
pub fn set_fifo(priority: u8) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: priority.into() };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the parameter is valid during the call; nothing else is handed over.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The highest real-time priority that this process may take without CAP_SYS_NICE.
///
/// # Errors
/// What getrlimit(2) answered.
pub fn priority_limit() -> io::Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_RTPRIO)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_is_where_it_was_put_and_its_children_can_be_set_free() {
        let before = affinity().unwrap();
        let first: CpuList = before.iter().take(1).collect();
        std::thread::spawn(move || {
            set_affinity(&first).unwrap();
            assert_eq!(affinity().unwrap(), first);
            let (set_free, wait) = std::sync::mpsc::channel();
            let freed = std::thread::spawn(move || {
                wait.recv().unwrap();
                affinity().unwrap()
            });
            follow_first_thread(&freed).unwrap();
            set_free.send(()).unwrap();
            assert_eq!(freed.join().unwrap(), before);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn cpus_that_nobody_has_are_refused() {
        assert!(set_affinity(&[1023].into_iter().collect()).is_err());
        assert!(set_affinity(&[5000].into_iter().collect()).is_err());
    }
}
