//! The suite of [`vm::interrupts`](crate::vm) on KVM as hardware has it: the same guests, in the emulated host.

use super::Lab;

#[test]
fn every_place_of_interrupt_controllers_is_the_same_to_a_guest_on_hardware() {
    let Some(lab) = Lab::open() else { return };
    let program = std::env::current_exe().unwrap();

    let run = lab
        .run("no-iommu", &format!("{} --include-ignored --test-threads=1 vm::interrupts", program.display()));

    run.succeeded();
    assert!(run.stdout().contains("test result: ok. "), "{}", run.stdout());
    assert!(!run.stdout().contains("SKIP"), "{}", run.stdout());
}
