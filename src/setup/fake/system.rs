//! The fake host's configuration files and the programs that make something of them.
//!
//! What a program makes is a file too, so that a snapshot shows whether it ran after the last change: grub-mkconfig makes
//! `/boot/grub/grub.cfg` of its settings, update-initramfs makes `/boot/initrd.img` of its hooks, grubby and its like keep
//! their arguments in a file.

use std::fs;
use std::io;

use super::{FakeKernel, errno};

/// Where the fake grubby, rpm-ostree and kernelstub keep arguments.
const KEPT: &str = "/boot/kept-arguments";

impl FakeKernel {
    /// A host that starts by GRUB, with Debian's tools.
    pub(in crate::setup) fn with_grub(self) -> Self {
        self.put("/run/systemd/system/here", "");
        self.put("/run/udev/control", "");
        self.put("/etc/debian_version", "12");
        self.put("/usr/sbin/grub-mkconfig", "");
        self.put("/usr/sbin/update-initramfs", "");
        self.put("/etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet iommu=pt\"");
        self.put("/etc/systemd/system/other.service", "");
        self.put("/etc/initramfs-tools/hooks/other", "other hook");
        let generated = self.grub_config();
        fs::create_dir_all(self.at("/boot/grub")).unwrap();
        fs::write(self.at("/boot/grub/grub.cfg"), generated).unwrap();
        self.make_grubenv();
        self.put("/proc/cmdline", "BOOT_IMAGE=/vmlinuz root=UUID=1 ro quiet iommu=pt");
        self.make_initrd();
        self
    }

    /// Arguments that grubby or one of its like has.
    pub(in crate::setup) fn keep_arguments(&self, text: &str) {
        self.put(KEPT, text);
    }

    fn grub_config(&self) -> String {
        let mut settings = fs::read_to_string(self.at("/etc/default/grub")).unwrap();
        if let Ok(drop_ins) = fs::read_dir(self.at("/etc/default/grub.d")) {
            let mut paths: Vec<_> = drop_ins.map(|entry| entry.unwrap().path()).collect();
            paths.sort();
            for path in
                paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "cfg"))
            {
                settings += &fs::read_to_string(path).unwrap();
            }
        }
        // As a shell would read these lines.
        let mut value = String::new();
        for line in settings.lines() {
            if let Some(new) = line.strip_prefix("GRUB_CMDLINE_LINUX_DEFAULT=\"") {
                value = new.trim_end_matches('"').replace("${GRUB_CMDLINE_LINUX_DEFAULT-}", &value);
            }
        }
        let root = if settings.contains("GRUB_LOSES_ROOT") { "" } else { "root=UUID=1 ro" };
        format!(
            "menuentry 'Linux' {{\n\tlinux\t/vmlinuz {root} {value}\n}}\n\
             menuentry 'Linux (recovery mode)' {{\n\tlinux\t/vmlinuz {root} single\n}}\n\
             source $prefix/custom.cfg\n"
        )
    }

    fn make_initrd(&self) {
        let mut names: Vec<_> = fs::read_dir(self.at("/etc/initramfs-tools/hooks"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        self.put("/boot/initrd.img", &names.join(" "));
    }

    /// What a program prints, and does if `acts`.
    pub(super) fn tool_effect(&self, program: &str, arguments: &[&str], acts: bool) -> io::Result<String> {
        let kept = || self.text(KEPT).unwrap_or_default();
        if let Some(answer) = self.once_effect(program, arguments, acts) {
            return answer;
        }
        match (program, arguments) {
            ("udevadm" | "systemctl" | "proxmox-boot-tool" | "mkinitcpio", _) => Ok(String::new()),
            ("update-initramfs", _) => {
                if acts {
                    self.make_initrd();
                }
                Ok(String::new())
            }
            ("grub-mkconfig", []) => Ok(self.grub_config()),
            ("grubby", ["--info=ALL"]) => {
                Ok(format!("index=0\nargs=\"{0}\"\nroot=\"UUID=1\"\nindex=1\nargs=\"{0} extra\"\n", kept()))
            }
            ("rpm-ostree", ["kargs"]) => Ok(kept()),
            ("grubby" | "rpm-ostree" | "kernelstub", arguments) => {
                if acts {
                    self.edit_kept(arguments);
                }
                Ok(String::new())
            }
            _ => Err(errno(libc::ENOENT)),
        }
    }

    fn edit_kept(&self, arguments: &[&str]) {
        let is_stub = self.at("/etc/kernelstub/configuration").exists();
        let mut words: Vec<String> = if is_stub {
            let text = self.text("/etc/kernelstub/configuration").unwrap();
            let document: serde_json::Value = serde_json::from_str(&text).unwrap();
            serde_json::from_value(document["user"]["kernel_options"].clone()).unwrap()
        } else {
            self.text(KEPT).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let (adds, value) = match argument.split_once('=') {
                Some(("--args" | "--append-if-missing", value)) => (true, value),
                Some(("--remove-args" | "--delete-if-present", value)) => (false, value),
                _ if *argument == "--add-options" => (true, *rest.next().unwrap()),
                _ if *argument == "--delete-options" => (false, *rest.next().unwrap()),
                _ => continue,
            };
            for word in value.split_whitespace() {
                words.retain(|other| other != word);
                words.extend(adds.then(|| word.to_owned()));
            }
        }
        if is_stub {
            let document = serde_json::json!({"user": {"kernel_options": words}});
            self.put("/etc/kernelstub/configuration", &document.to_string());
        } else {
            self.put(KEPT, &words.join(" "));
        }
    }
}
