//! The profiles that come with the program. They are files in `profiles/`, meant to be copied and changed.

/// A profile inside the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Builtin {
    /// Its name, by which a command takes it instead of a path.
    pub name: &'static str,
    /// Its text, comments and all.
    pub text: &'static str,
}

macro_rules! builtin {
    ($name:literal) => {
        Builtin { name: $name, text: include_str!(concat!("../../profiles/", $name, ".yaml")) }
    };
}

/// All of them, by name.
pub const ALL: [Builtin; 3] = [builtin!("minimal"), builtin!("nvme"), builtin!("sriov-nic")];

/// The one called `name`.
#[must_use]
pub fn find(name: &str) -> Option<Builtin> {
    ALL.into_iter().find(|builtin| builtin.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Purpose, load};
    use crate::spec::pci::PciAddress;
    use crate::vmm::config::DeviceConfig;

    fn functions(name: &str, address: &str) -> Vec<PciAddress> {
        let profile = load(name, Purpose::Act).unwrap();
        let machine = profile.resolve(|_| address.parse::<PciAddress>()).unwrap();
        let devices = machine.devices.into_iter();
        devices
            .filter_map(
                |device| if let DeviceConfig::VfioPci(vfio) = device { Some(vfio.address) } else { None },
            )
            .collect()
    }

    #[test]
    fn each_profile_loads_under_its_own_name_and_says_what_it_is_for() {
        for Builtin { name, .. } in ALL {
            let profile = load(name, Purpose::Act).unwrap().profile;
            assert_eq!(profile.name, name);
            assert!(!profile.description.is_empty());
        }
    }

    #[test]
    fn minimal_asks_nothing_of_the_host() {
        assert_eq!(load("minimal", Purpose::Act).unwrap().profile.host, crate::setup::goal::Goal::default());
        assert_eq!(functions("minimal", "01:00.0"), []);
    }

    #[test]
    fn the_passed_through_function_is_the_one_that_the_selector_names() {
        for name in ["nvme", "sriov-nic"] {
            assert_eq!(functions(name, "0000:aa:10.0"), ["0000:aa:10.0".parse().unwrap()], "{name}");
        }
    }

    #[test]
    fn names_are_sorted_and_each_file_of_the_directory_is_built_in() {
        let directory = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/profiles")).unwrap();
        let mut files: Vec<_> = directory
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".yaml").map(str::to_owned))
            .collect();
        files.sort();
        assert_eq!(files, ALL.map(|builtin| builtin.name));
    }
}
