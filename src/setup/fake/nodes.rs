//! Device nodes of the host for tests: new ones are root's.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::{FakeKernel, errno};
use crate::host::fact::Fact;
use crate::host::source::DeviceNode;

/// Who owns nodes that are not as new ones are: a map from paths.
pub(super) const OWNERS: &str = "node_owners.json";
const NEW: DeviceNode = DeviceNode { mode: 0o600, uid: 0, gid: 0, may_open: true };

type Owners = BTreeMap<String, DeviceNode>;

fn owners(root: &Path) -> Owners {
    serde_json::from_str(&fs::read_to_string(root.join(OWNERS)).unwrap()).unwrap()
}

/// What `root` has at `path`.
pub(super) fn node(root: &Path, path: &str) -> Fact<DeviceNode> {
    if !root.join(path.trim_start_matches('/')).exists() {
        return Fact::NotPresent;
    }
    Fact::Known(owners(root).get(path).copied().unwrap_or(NEW))
}

impl FakeKernel {
    /// Changes owner or mode of the node at `path`.
    pub(in crate::setup) fn change_node(
        &self,
        path: &str,
        change: impl FnOnce(&mut DeviceNode),
    ) -> io::Result<()> {
        let Fact::Known(mut node) = node(self.root.path(), path) else { return Err(errno(libc::ENOENT)) };
        change(&mut node);
        self.with_owners(|owners| {
            if node == NEW { owners.remove(path) } else { owners.insert(path.to_owned(), node) }
        });
        Ok(())
    }

    pub(super) fn remove_node(&self, path: &str) {
        let _ = fs::remove_file(self.at(path));
        self.with_owners(|owners| owners.remove(path));
    }

    fn with_owners<T>(&self, change: impl FnOnce(&mut Owners) -> T) {
        let mut owners = owners(self.root.path());
        change(&mut owners);
        self.put(OWNERS, &serde_json::to_string(&owners).unwrap());
    }
}
