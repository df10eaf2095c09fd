# The firmware's shell, three times: a variable is set, is there after a cold start, and after a reset in place.
start first --firmware "$CODE" --firmware-vars /tmp/vars.fd --memory 256MiB
to_the_shell
thruway run --firmware "$CODE" --firmware-vars /tmp/vars.fd </dev/null 2>"$LAB_OUT/in-use"
echo "second $?"
typed 'set greeting hello'
typed 'smbiosview -t 1'
until_said 'SKUNumber' 2
typed 'reset -s'
ended

cat >/tmp/vm.yaml <<'END'
schema: 1
name: again
machine:
  memory: 256MiB
  boot: {firmware: /usr/share/OVMF/OVMF_CODE_4M.fd, firmware_vars: vars.fd}
END
start again /tmp/vm.yaml
to_the_shell
typed 'set'
until_said 'uefiversion'
typed 'reset'
to_the_shell 2
typed 'set'
until_said 'uefiversion' 2
typed 'reset -s'
ended

# The image of 2 MiB, with its variables in it, which are not kept; and a disk without a boot loader.
truncate -s 1M /tmp/blank
start small --firmware /usr/share/ovmf/OVMF.fd --memory 128MiB --on-reboot exit --disk /tmp/blank
to_the_shell
typed 'reset'
ended
