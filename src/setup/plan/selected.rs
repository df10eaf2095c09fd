//! The functions that a goal is about besides drivers: those that are there, and virtual ones that are still to be created.

use super::{PlanError, Wanted, WantedVfs, functions, future, is_recounted, resolve};
use crate::host::HostFacts;
use crate::host::pci::PciDevice;
use crate::setup::action::bind_driver::VfIndex;
use crate::setup::goal::Selector;
use crate::spec::pci::PciAddress;

/// A function that is there, or will be.
pub(super) enum Selected<'a, 'b> {
    /// It is there, and stays.
    Now(&'a PciDevice),
    /// A virtual function that this plan creates.
    Later {
        /// Where it will be.
        function: PciAddress,
        /// Which one.
        vf: VfIndex,
        /// What is asked of its physical function.
        of: &'b WantedVfs<'a>,
    },
}

impl<'a> Wanted<'a> {
    /// The functions that `select` names.
    pub(super) fn selected(
        &self,
        facts: &'a HostFacts,
        select: &Selector,
    ) -> Result<Vec<Selected<'a, '_>>, PlanError> {
        if let Selector::Vf(vf) = select {
            let (pf, index) = (resolve(facts, &vf.pf)?, vf.index);
            if let Some(of) = self.pfs.iter().find(|of| of.pf.address == pf && is_recounted(of)) {
                if index >= of.goal.count {
                    return Err(PlanError::Invalid(format!(
                        "virtual function {index} of {pf} is asked for, and {} in all",
                        of.goal.count
                    )));
                }
                let function = future(pf, of.sriov, index)?;
                return Ok(vec![Selected::Later { function, vf: VfIndex { pf, index }, of }]);
            }
        }
        let devices = functions(facts, select)?;
        devices
            .into_iter()
            .map(|device| recreated(&self.pfs, device).map(|()| Selected::Now(device)))
            .collect()
    }
}

/// Fails if `device` is a virtual function that ends when its physical function gets another number of them.
pub(super) fn recreated(pfs: &[WantedVfs<'_>], device: &PciDevice) -> Result<(), PlanError> {
    let by_address = device.physical_function.known();
    let ends = |pf: &PciAddress| pfs.iter().any(|wanted| wanted.pf.address == *pf && is_recounted(wanted));
    if by_address.is_some_and(ends) {
        return Err(PlanError::Invalid(format!(
            "{} is a virtual function that this plan would create anew; select it by `vf`, not by address",
            device.address
        )));
    }
    Ok(())
}
