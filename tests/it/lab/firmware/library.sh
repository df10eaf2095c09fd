# For scripts in the emulated host that type at the firmware of a guest; what the guest says is in /tmp/said.

# tick MICROSECONDS: no timer of a guest that is set from now on interrupts more often.
tick() { echo "$1" >/sys/module/kvm/parameters/min_timer_period_us; }
# Firmware is kept slow, see the clock `instructions` of the hardware. A kernel would wait ten times as long for everything.
firmware_ticks() { tick 40000; }
kernel_ticks() { tick 200; }
firmware_ticks
# KVM would look out for interrupts for a while before it sleeps, by PAUSE, for which the translator takes microseconds each.
echo 0 >/sys/module/kvm/parameters/halt_poll_ns

CODE=/usr/share/OVMF/OVMF_CODE_4M.fd
cd /tmp || exit 90
mkfifo /tmp/keys && exec 7<>/tmp/keys
: >/tmp/said

# start NAME ARGUMENTS..: starts a guest in the background. Its console is in $LAB_OUT/NAME at the end.
start() {
    name=$1
    shift
    : >/tmp/said
    : >/tmp/status
    { thruway run "$@" </tmp/keys >>/tmp/said 2>/tmp/errors; echo $? >/tmp/status; } &
}

# until_said TEXT [COUNT]: waits until the guest has said it so often, or has ended.
until_said() {
    while [ "$(grep -c "$1" /tmp/said)" -lt "${2:-1}" ]; do
        [ -s /tmp/status ] && return 1
        # For who looks at a run that does not go on.
        bytes=$(wc -c </tmp/said)
        [ "$bytes" = "$copied" ] || cp /tmp/said "$LAB_OUT/$name"
        copied=$bytes
        sleep 0.2
    done
}

# typed TEXT: as if at the keyboard, with a carriage return.
typed() {
    printf '%s\r' "$1" >/tmp/keys
}

# to_the_shell [COUNT]: waits for the firmware's shell, and skips its startup script.
to_the_shell() {
    until_said 'Press.*ESC' "$1" || return
    printf '\033' >/tmp/keys
    until_said 'Shell>' "$1"
}

# ended: waits for the guest's end; how it ended.
ended() {
    until [ -s /tmp/status ]; do sleep 0.2; done
    cp /tmp/said "$LAB_OUT/$name"
    cp /tmp/errors "$LAB_OUT/$name.errors"
    echo "$name $(cat /tmp/status)"
}
