# The firmware's shell, without anything to boot: a variable is set, and is there after a reset in place.
truncate -s 1M /tmp/blank
start shell --firmware "$CODE" --firmware-vars /tmp/vars.fd --memory 256MiB --disk /tmp/blank --stats "$LAB_OUT/stats"
to_the_shell
thruway run --firmware "$CODE" --firmware-vars /tmp/vars.fd </dev/null 2>"$LAB_OUT/in-use"
echo "second $?"
typed 'set greeting hello'
typed 'smbiosview -t 1'
until_said 'SKUNumber' 2
typed 'reset'
to_the_shell 2
typed 'set'
until_said 'uefiversion'
typed 'reset -s'
ended

# The image of 2 MiB, with its variables in it, which are not kept, starts a kernel with its command line and RAM disk.
start kernel --firmware /usr/share/ovmf/OVMF.fd --memory 256MiB --kernel "$LAB_KERNEL_BZIMAGE" \
    --initrd "$LAB_IN/guest.initrd" --cmdline 'console=ttyS0 quiet panic=-1 lab.word=said'
ended
