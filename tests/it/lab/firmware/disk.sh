# An installed disk, started by its own loader; its agent reboots once and then powers off.
modprobe virtio_blk
cat >/tmp/vm.yaml <<'END'
schema: 1
name: installed
machine:
  memory: 512MiB
  smbios: {serial: S-4711, oem_strings: ["greeting=hello"]}
  boot: {firmware: /usr/share/OVMF/OVMF_CODE_4M.fd, firmware_vars: vars.fd}
  on_reboot: reset
  devices:
  - virtio-block: {path: /dev/vda, format: raw}
  - virtio-rng: {}
END
start installed /tmp/vm.yaml
ended
