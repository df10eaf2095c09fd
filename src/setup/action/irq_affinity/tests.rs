//! Interrupts that move, stay, come and go.

use super::*;
use crate::setup::action::{Action, Change};
use crate::setup::fake::{FakeKernel, Fault, Trouble};

fn host() -> FakeKernel {
    FakeKernel::new(&[]).with_interrupts()
}

fn change(kernel: &FakeKernel) -> Change {
    let list = |text: &str| text.parse().unwrap();
    Action::IrqAffinity(IrqAffinity { away_from: list("2-3"), instead: list("0-1") }).observe(kernel).unwrap()
}

fn applied(kernel: &FakeKernel) -> Change {
    let change = change(kernel);
    change.carry_out(kernel).unwrap();
    change
}

#[test]
fn what_can_be_moved_is_moved_and_what_cannot_is_let_be() {
    let kernel = host();

    let change = applied(&kernel);
    let moved = kernel.affinities();
    change.take_back(&kernel).unwrap();

    assert_eq!(moved, ["0-3", "0-1", "0-1", "0", "3"]);
    assert_eq!(kernel.affinities(), ["0-3", "2", "0-3", "0", "f"]);
}

#[test]
fn once_the_default_is_away_it_is_so_already() {
    let kernel = host();
    assert!(!change(&kernel).is_already_so());
    applied(&kernel);
    assert!(change(&kernel).is_already_so());
}

#[test]
fn interrupts_that_went_or_came_are_no_drift() {
    let kernel = host();
    let change = applied(&kernel);

    kernel.set_interrupt(25, None);
    kernel.set_interrupt(30, Some("3"));
    let standing = change.standing(&kernel).unwrap();
    change.take_back(&kernel).unwrap();

    assert_eq!(standing, Standing::Applied);
    assert_eq!(kernel.affinities(), ["0-3", "2", "0", "f"]);
    assert_eq!(kernel.text("/proc/irq/30/smp_affinity_list").as_deref(), Some("3"));
}

#[test]
fn an_interrupt_that_somebody_moved_is_drift_and_stays_there() {
    let kernel = host();
    let change = applied(&kernel);
    kernel.set_interrupt(24, Some("1"));
    assert_eq!(change.standing(&kernel).unwrap(), Standing::Drifted("interrupt 24 on CPUs 1".to_owned()));
}

#[test]
fn an_interrupt_that_goes_while_it_is_moved_is_fine_and_other_errors_are_not() {
    let kernel = host();
    let change = change(&kernel);
    kernel.set_interrupt(24, None);
    change.carry_out(&kernel).unwrap();
    change.take_back(&kernel).unwrap();

    kernel.set_interrupt(24, Some("2"));
    kernel.trouble(Some(Trouble { at: 1, fault: Fault::Errno(libc::ENOSPC), for_good: false }));
    let error = change.carry_out(&kernel).unwrap_err();

    assert_eq!(
        error.to_string(),
        "interrupt 24: expected CPUs 0-1 to serve it, found that they have no room for more interrupts; leave them more \
         CPUs"
    );
}
