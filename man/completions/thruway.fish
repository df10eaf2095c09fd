# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_thruway_global_optspecs
    string join \n color= v/verbose q/quiet h/help V/version
end

function __fish_thruway_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_thruway_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_thruway_using_subcommand
    set -l cmd (__fish_thruway_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c thruway -n "__fish_thruway_needs_command" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_needs_command" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_needs_command" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_needs_command" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "probe" -d 'Show what this host is: CPU, KVM, IOMMU groups, PCI functions and what uses them'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "doctor" -d 'Say what is wrong with this host, why, and what to do'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "groups" -d 'Show the IOMMU groups, why each is as it is, and what another slot would give'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "topology" -d 'Draw the PCI tree with its IOMMU groups: as text, as a picture (SVG), or for Graphviz (DOT)'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "report" -d 'Write one page for people: verdicts, what to do, groups, facts; for a browser'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "capture" -d 'Write what this host is into one file, to be looked at elsewhere or later'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "bind" -d 'Give functions to a driver, for guests usually to vfio-pci'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "unbind" -d 'Give functions back to the driver that the kernel chooses'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "vf" -d 'Create and destroy virtual functions'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "plan" -d 'Show what applying a profile would change'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "apply" -d 'Make this host what a profile says'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "confirm" -d 'Keep what was applied with --confirm-within'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "boot" -d 'Make so in this boot what was persisted; the units that --persist writes run it'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "undo" -d 'Put back what was so before'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "status" -d 'Show what is applied, and whether it is still so'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "verify" -d 'Say whether everything is still so; exit code 1 if it is not'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "run" -d 'Run a virtual machine from a profile, from flags, or from both'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "hotplug" -d 'Put a device into a running machine, or take one out'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "disk" -d 'Make a disk for a machine'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "export" -d 'Write a profile\'s machine for QEMU, libvirt, Cloud Hypervisor or systemd'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "bench" -d 'Measure what virtualization costs on this host'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "rehearse" -d 'Take the road, or run one command, in an emulated host'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "profile" -d 'List, show and check profiles: the YAML that describes a host and its machine'
complete -c thruway -n "__fish_thruway_needs_command" -f -a "generate" -d 'Generate man pages, shell completions and the profile\'s JSON schema'
complete -c thruway -n "__fish_thruway_using_subcommand probe" -l diff -d 'Show what has changed since this capture was made; ends with 1 if something has' -r -F
complete -c thruway -n "__fish_thruway_using_subcommand probe" -l root -d 'Read a capture, or a directory laid out like a host, instead of this host' -r -F
complete -c thruway -n "__fish_thruway_using_subcommand probe" -l format -d 'How to print the answer: a table for people; json or yaml, one document for programs' -r -f -a "table\t'For people; may change between versions'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand probe" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand probe" -l measure -d 'Measure KVM with a small guest, for less than half a second: is there hardware behind it?'
complete -c thruway -n "__fish_thruway_using_subcommand probe" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand probe" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand probe" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand probe" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand doctor" -l for -d 'Ask only what matters for this: kvm, vfio, sriov, performance, or one function by its address' -r
complete -c thruway -n "__fish_thruway_using_subcommand doctor" -l explain -d 'Explain one check: what it asks, why that matters, where to read on, its answer here' -r
complete -c thruway -n "__fish_thruway_using_subcommand doctor" -l root -d 'Read a capture, or a directory laid out like a host, instead of this host' -r -F
complete -c thruway -n "__fish_thruway_using_subcommand doctor" -l format -d 'How to print the answer: a table for people; json or yaml, one document for programs' -r -f -a "table\t'For people; may change between versions'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand doctor" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand doctor" -l list -d 'List all checks and ask none'
complete -c thruway -n "__fish_thruway_using_subcommand doctor" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand doctor" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand doctor" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand groups" -l why -d 'Say why the group of this function is as it is; with two, why they are in one group or in two' -r
complete -c thruway -n "__fish_thruway_using_subcommand groups" -l root -d 'Read a capture, or a directory laid out like a host, instead of this host' -r -F
complete -c thruway -n "__fish_thruway_using_subcommand groups" -l format -d 'How to print the answer: a table for people; json or yaml, one document for programs' -r -f -a "table\t'For people; may change between versions'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand groups" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand groups" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand groups" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand groups" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand groups" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand topology" -l root -d 'Read a capture, or a directory laid out like a host, instead of this host' -r -F
complete -c thruway -n "__fish_thruway_using_subcommand topology" -l format -d 'How to draw it: tree, svg, dot; json and yaml for programs' -r -f -a "tree\t'Lines for a terminal'
svg\t'A picture'
dot\t'A graph for Graphviz'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand topology" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand topology" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand topology" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand topology" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand topology" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand report" -l html -d 'The page to write; the file must not exist; - for stdout' -r -F
complete -c thruway -n "__fish_thruway_using_subcommand report" -l root -d 'Read a capture, or a directory laid out like a host, instead of this host' -r -F
complete -c thruway -n "__fish_thruway_using_subcommand report" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand report" -l no-redact -d 'Keep serial numbers, addresses, UUIDs and names as they are'
complete -c thruway -n "__fish_thruway_using_subcommand report" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand report" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand report" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand report" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand capture" -s o -l output -d 'The file to write; it must not exist' -r -F
complete -c thruway -n "__fish_thruway_using_subcommand capture" -l root -d 'Read a capture, or a directory laid out like a host, instead of this host' -r -F
complete -c thruway -n "__fish_thruway_using_subcommand capture" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand capture" -l no-redact -d 'Keep serial numbers, addresses, UUIDs and names as they are'
complete -c thruway -n "__fish_thruway_using_subcommand capture" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand capture" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand capture" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand capture" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand bind" -l driver -d 'Driver to bind them to' -r
complete -c thruway -n "__fish_thruway_using_subcommand bind" -l allow -d 'Consent to what a safety rule says of exactly this function; repeat it for others. Binds nothing by itself' -r
complete -c thruway -n "__fish_thruway_using_subcommand bind" -l confirm-within -d 'Take it all back after this time (30s, 5min) unless thruway confirm is run: for a host that is reached over what changes' -r
complete -c thruway -n "__fish_thruway_using_subcommand bind" -l format -d 'How to print the answer: a table for people; json or yaml, one document for programs' -r -f -a "table\t'For people; may change between versions'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand bind" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand bind" -l persist -d 'Make it so at every boot, too: by files below /etc that thruway undo removes. thruway.skip=1 on the kernel\'s command line switches them off for one boot'
complete -c thruway -n "__fish_thruway_using_subcommand bind" -l dry-run -d 'Show what would be done, and do nothing'
complete -c thruway -n "__fish_thruway_using_subcommand bind" -s y -l yes -d 'Do it without asking'
complete -c thruway -n "__fish_thruway_using_subcommand bind" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand bind" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand bind" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand bind" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand unbind" -l allow -d 'Consent to what a safety rule says of exactly this function; repeat it for others. Binds nothing by itself' -r
complete -c thruway -n "__fish_thruway_using_subcommand unbind" -l confirm-within -d 'Take it all back after this time (30s, 5min) unless thruway confirm is run: for a host that is reached over what changes' -r
complete -c thruway -n "__fish_thruway_using_subcommand unbind" -l format -d 'How to print the answer: a table for people; json or yaml, one document for programs' -r -f -a "table\t'For people; may change between versions'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand unbind" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand unbind" -l dry-run -d 'Show what would be done, and do nothing'
complete -c thruway -n "__fish_thruway_using_subcommand unbind" -s y -l yes -d 'Do it without asking'
complete -c thruway -n "__fish_thruway_using_subcommand unbind" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand unbind" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand unbind" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand unbind" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand vf; and not __fish_seen_subcommand_from create destroy" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand vf; and not __fish_seen_subcommand_from create destroy" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand vf; and not __fish_seen_subcommand_from create destroy" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand vf; and not __fish_seen_subcommand_from create destroy" -s h -l help -d 'Print help'
complete -c thruway -n "__fish_thruway_using_subcommand vf; and not __fish_seen_subcommand_from create destroy" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand vf; and not __fish_seen_subcommand_from create destroy" -f -a "create" -d 'Create virtual functions of a physical function'
complete -c thruway -n "__fish_thruway_using_subcommand vf; and not __fish_seen_subcommand_from create destroy" -f -a "destroy" -d 'Destroy all virtual functions of a physical function'
complete -c thruway -n "__fish_thruway_using_subcommand vf; and __fish_seen_subcommand_from create" -l count -d 'How many there should be; others are destroyed first' -r
complete -c thruway -n "__fish_thruway_using_subcommand vf; and __fish_seen_subcommand_from create" -l allow -d 'Consent to what a safety rule says of exactly this function; repeat it for others. Binds nothing by itself' -r
complete -c thruway -n "__fish_thruway_using_subcommand vf; and __fish_seen_subcommand_from create" -l confirm-within -d 'Take it all back after this time (30s, 5min) unless thruway confirm is run: for a host that is reached over what changes' -r
complete -c thruway -n "__fish_thruway_using_subcommand vf; and __fish_seen_subcommand_from create" -l format -d 'How to print the answer: a table for people; json or yaml, one document for programs' -r -f -a "table\t'For people; may change between versions'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand vf; and __fish_seen_subcommand_from create" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand vf; and __fish_seen_subcommand_from create" -l persist -d 'Make it so at every boot, too: by files below /etc that thruway undo removes. thruway.skip=1 on the kernel\'s command line switches them off for one boot'
complete -c thruway -n "__fish_thruway_using_subcommand vf; and __fish_seen_subcommand_from create" -l dry-run -d 'Show what would be done, and do nothing'
complete -c thruway -n "__fish_thruway_using_subcommand vf; and __fish_seen_subcommand_from create" -s y -l yes -d 'Do it without asking'
complete -c thruway -n "__fish_thruway_using_subcommand vf; and __fish_seen_subcommand_from create" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand vf; and __fish_seen_subcommand_from create" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand vf; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand vf; and __fish_seen_subcommand_from create" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand vf; and __fish_seen_subcommand_from destroy" -l allow -d 'Consent to what a safety rule says of exactly this function; repeat it for others. Binds nothing by itself' -r
complete -c thruway -n "__fish_thruway_using_subcommand vf; and __fish_seen_subcommand_from destroy" -l confirm-within -d 'Take it all back after this time (30s, 5min) unless thruway confirm is run: for a host that is reached over what changes' -r
complete -c thruway -n "__fish_thruway_using_subcommand vf; and __fish_seen_subcommand_from destroy" -l format -d 'How to print the answer: a table for people; json or yaml, one document for programs' -r -f -a "table\t'For people; may change between versions'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand vf; and __fish_seen_subcommand_from destroy" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand vf; and __fish_seen_subcommand_from destroy" -l dry-run -d 'Show what would be done, and do nothing'
complete -c thruway -n "__fish_thruway_using_subcommand vf; and __fish_seen_subcommand_from destroy" -s y -l yes -d 'Do it without asking'
complete -c thruway -n "__fish_thruway_using_subcommand vf; and __fish_seen_subcommand_from destroy" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand vf; and __fish_seen_subcommand_from destroy" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand vf; and __fish_seen_subcommand_from destroy" -s h -l help -d 'Print help'
complete -c thruway -n "__fish_thruway_using_subcommand vf; and __fish_seen_subcommand_from destroy" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand plan" -l allow -d 'Consent to what a safety rule says of exactly this function; repeat it for others. Binds nothing by itself' -r
complete -c thruway -n "__fish_thruway_using_subcommand plan" -l format -d 'How to print the answer: a table for people; json or yaml, one document for programs' -r -f -a "table\t'For people; may change between versions'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand plan" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand plan" -l persist -d 'Make it so at every boot, too: by files below /etc that thruway undo removes. thruway.skip=1 on the kernel\'s command line switches them off for one boot'
complete -c thruway -n "__fish_thruway_using_subcommand plan" -l trial-boot -d 'Only let the next boot have host.kernel_arguments, to see whether the host comes up with them; the boot after that is as before. With GRUB and systemd-boot'
complete -c thruway -n "__fish_thruway_using_subcommand plan" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand plan" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand plan" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand plan" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand apply" -l allow -d 'Consent to what a safety rule says of exactly this function; repeat it for others. Binds nothing by itself' -r
complete -c thruway -n "__fish_thruway_using_subcommand apply" -l confirm-within -d 'Take it all back after this time (30s, 5min) unless thruway confirm is run: for a host that is reached over what changes' -r
complete -c thruway -n "__fish_thruway_using_subcommand apply" -l format -d 'How to print the answer: a table for people; json or yaml, one document for programs' -r -f -a "table\t'For people; may change between versions'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand apply" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand apply" -l persist -d 'Make it so at every boot, too: by files below /etc that thruway undo removes. thruway.skip=1 on the kernel\'s command line switches them off for one boot'
complete -c thruway -n "__fish_thruway_using_subcommand apply" -l trial-boot -d 'Only let the next boot have host.kernel_arguments, to see whether the host comes up with them; the boot after that is as before. With GRUB and systemd-boot'
complete -c thruway -n "__fish_thruway_using_subcommand apply" -l dry-run -d 'Show what would be done, and do nothing'
complete -c thruway -n "__fish_thruway_using_subcommand apply" -s y -l yes -d 'Do it without asking'
complete -c thruway -n "__fish_thruway_using_subcommand apply" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand apply" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand apply" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand apply" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand confirm" -l watch -d 'Wait until this second of the boot, then take back what waits until then' -r
complete -c thruway -n "__fish_thruway_using_subcommand confirm" -l format -d 'How to print the answer: a table for people; json or yaml, one document for programs' -r -f -a "table\t'For people; may change between versions'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand confirm" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand confirm" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand confirm" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand confirm" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand confirm" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand boot" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand boot" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand boot" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand boot" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand boot" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand undo" -l format -d 'How to print the answer: a table for people; json or yaml, one document for programs' -r -f -a "table\t'For people; may change between versions'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand undo" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand undo" -l all -d 'Everything, newest first'
complete -c thruway -n "__fish_thruway_using_subcommand undo" -l accept-drift -d 'Put back what was so before us, whatever somebody else made of it since'
complete -c thruway -n "__fish_thruway_using_subcommand undo" -l dry-run -d 'Show what would be taken back, and do nothing'
complete -c thruway -n "__fish_thruway_using_subcommand undo" -s y -l yes -d 'Do it without asking'
complete -c thruway -n "__fish_thruway_using_subcommand undo" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand undo" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand undo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand undo" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand status" -l format -d 'How to print the answer: a table for people; json or yaml, one document for programs' -r -f -a "table\t'For people; may change between versions'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand status" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand status" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand status" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand status" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand verify" -l format -d 'How to print the answer: a table for people; json or yaml, one document for programs' -r -f -a "table\t'For people; may change between versions'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand verify" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand verify" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand verify" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand verify" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand run" -l kernel -d 'Linux bzImage, ELF file with a PVH entry point, or multiboot image; it is started as what it is' -r -F
complete -c thruway -n "__fish_thruway_using_subcommand run" -l firmware -d 'Firmware image that starts first and boots a disk, or the kernel: OVMF_CODE_4M.fd' -r -F
complete -c thruway -n "__fish_thruway_using_subcommand run" -l firmware-vars -d 'File that keeps the firmware\'s variables; made from the template beside the firmware if it does not exist' -r -F
complete -c thruway -n "__fish_thruway_using_subcommand run" -l initrd -d 'Initial RAM disk' -r -F
complete -c thruway -n "__fish_thruway_using_subcommand run" -l module -d 'Add a module for a multiboot kernel, behind the initial RAM disk, with what the kernel is told of it' -r
complete -c thruway -n "__fish_thruway_using_subcommand run" -l cmdline -d 'Kernel command line [default without a profile: console=ttyS0]' -r
complete -c thruway -n "__fish_thruway_using_subcommand run" -l on-reboot -d 'What the guest\'s request to reboot does; a triple fault counts as one [default without a profile: reset]' -r -f -a "reset\t'Start the machine again in place'
exit\t'End with exit code 10'"
complete -c thruway -n "__fish_thruway_using_subcommand run" -l cpus -d 'Virtual CPUs, 1 to 64 [default without a profile: 1]' -r
complete -c thruway -n "__fish_thruway_using_subcommand run" -l interrupts -d 'Where the interrupt controllers are; userspace takes one CPU [default without a profile: kernel]' -r -f -a "kernel\t'All in the kernel: the fastest'
split\t'Local APICs in the kernel; I/O APIC, PIC and timer in user space'
userspace\t'The PIC and the timer alone, in user space: no APIC, one CPU, no message signalled interrupts. For guests that take no other; Linux finds out by itself'"
complete -c thruway -n "__fish_thruway_using_subcommand run" -l memory -d 'Guest memory: 512MiB, 4GiB [default without a profile: 512MiB]' -r
complete -c thruway -n "__fish_thruway_using_subcommand run" -l disk -d 'Add a disk; the format is never guessed, and is raw' -r
complete -c thruway -n "__fish_thruway_using_subcommand run" -l serial -d 'Where a serial port is: the first time COM1, the second time COM2 [default: stdio]' -r
complete -c thruway -n "__fish_thruway_using_subcommand run" -l console -d 'Add a virtio console (hvc0); on stdio, COM1 is nowhere unless --serial says where' -r
complete -c thruway -n "__fish_thruway_using_subcommand run" -l tap -d 'Add a network card on this tap interface' -r
complete -c thruway -n "__fish_thruway_using_subcommand run" -l vfio -d 'Pass a host function through, named as for bind; it must be bound to vfio-pci' -r
complete -c thruway -n "__fish_thruway_using_subcommand run" -l hotplug -d 'Let devices come and go while it runs: a socket for `thruway hotplug`, and how many slots are empty at first' -r
complete -c thruway -n "__fish_thruway_using_subcommand run" -l rom -d 'Give a device an expansion ROM; ADDR is where the guest finds it (--dry-run tells), and off takes its own away' -r
complete -c thruway -n "__fish_thruway_using_subcommand run" -l stats -d 'Write what the machine did (exits by reason and vCPU, KVM\'s counters) to this file as JSON: at its end, and whenever SIGUSR1 asks; without a file, that signal has it on standard error' -r -F
complete -c thruway -n "__fish_thruway_using_subcommand run" -l format -d 'How to print the answer: a table for people; json or yaml, one document for programs' -r -f -a "table\t'For people; may change between versions'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand run" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand run" -l dry-run -d 'Print the machine that would run, and stop'
complete -c thruway -n "__fish_thruway_using_subcommand run" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand run" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand run" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and not __fish_seen_subcommand_from list attach detach" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and not __fish_seen_subcommand_from list attach detach" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and not __fish_seen_subcommand_from list attach detach" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and not __fish_seen_subcommand_from list attach detach" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and not __fish_seen_subcommand_from list attach detach" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and not __fish_seen_subcommand_from list attach detach" -a "list" -d 'Show the slots, and what is in them'
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and not __fish_seen_subcommand_from list attach detach" -a "attach" -d 'Put a device into an empty slot'
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and not __fish_seen_subcommand_from list attach detach" -a "detach" -d 'Take the device out of a slot'
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and __fish_seen_subcommand_from list" -l format -d 'How to print the answer: a table for people; json or yaml, one document for programs' -r -f -a "table\t'For people; may change between versions'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and __fish_seen_subcommand_from list" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and __fish_seen_subcommand_from attach" -l format -d 'How to print the answer: a table for people; json or yaml, one document for programs' -r -f -a "table\t'For people; may change between versions'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and __fish_seen_subcommand_from attach" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and __fish_seen_subcommand_from attach" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and __fish_seen_subcommand_from attach" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and __fish_seen_subcommand_from attach" -s h -l help -d 'Print help'
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and __fish_seen_subcommand_from attach" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and __fish_seen_subcommand_from detach" -l format -d 'How to print the answer: a table for people; json or yaml, one document for programs' -r -f -a "table\t'For people; may change between versions'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and __fish_seen_subcommand_from detach" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and __fish_seen_subcommand_from detach" -l surprise -d 'Do not ask the guest: it is gone at once'
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and __fish_seen_subcommand_from detach" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and __fish_seen_subcommand_from detach" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and __fish_seen_subcommand_from detach" -s h -l help -d 'Print help'
complete -c thruway -n "__fish_thruway_using_subcommand hotplug; and __fish_seen_subcommand_from detach" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand disk; and not __fish_seen_subcommand_from create" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand disk; and not __fish_seen_subcommand_from create" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand disk; and not __fish_seen_subcommand_from create" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand disk; and not __fish_seen_subcommand_from create" -s h -l help -d 'Print help'
complete -c thruway -n "__fish_thruway_using_subcommand disk; and not __fish_seen_subcommand_from create" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand disk; and not __fish_seen_subcommand_from create" -f -a "create" -d 'Make a new image, for data or, as its last example shows, with a system that boots'
complete -c thruway -n "__fish_thruway_using_subcommand disk; and __fish_seen_subcommand_from create" -l format -d 'How to print the answer: a table for people; json or yaml, one document for programs' -r -f -a "table\t'For people; may change between versions'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand disk; and __fish_seen_subcommand_from create" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand disk; and __fish_seen_subcommand_from create" -l allocate -d 'Reserve its space on the file system now, so that no write of the guest finds that full'
complete -c thruway -n "__fish_thruway_using_subcommand disk; and __fish_seen_subcommand_from create" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand disk; and __fish_seen_subcommand_from create" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand disk; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand disk; and __fish_seen_subcommand_from create" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand export" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand export" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand export" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand export" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand bench; and not __fish_seen_subcommand_from interrupts" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand bench; and not __fish_seen_subcommand_from interrupts" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand bench; and not __fish_seen_subcommand_from interrupts" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand bench; and not __fish_seen_subcommand_from interrupts" -s h -l help -d 'Print help'
complete -c thruway -n "__fish_thruway_using_subcommand bench; and not __fish_seen_subcommand_from interrupts" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand bench; and not __fish_seen_subcommand_from interrupts" -f -a "interrupts" -d 'What it costs to leave a guest, and how long an interrupt takes to it'
complete -c thruway -n "__fish_thruway_using_subcommand bench; and __fish_seen_subcommand_from interrupts" -l samples -d 'How often each is done' -r
complete -c thruway -n "__fish_thruway_using_subcommand bench; and __fish_seen_subcommand_from interrupts" -l format -d 'How to print the answer: a table for people; json or yaml, one document for programs' -r -f -a "table\t'For people; may change between versions'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand bench; and __fish_seen_subcommand_from interrupts" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand bench; and __fish_seen_subcommand_from interrupts" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand bench; and __fish_seen_subcommand_from interrupts" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand bench; and __fish_seen_subcommand_from interrupts" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand bench; and __fish_seen_subcommand_from interrupts" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand rehearse" -l hardware -d 'The host to emulate: a built-in name or a YAML file' -r
complete -c thruway -n "__fish_thruway_using_subcommand rehearse" -l format -d 'How to print the answer: a table for people; json or yaml, one document for programs' -r -f -a "table\t'For people; may change between versions'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand rehearse" -l keep -d 'Keep the run\'s files here: console, images, what the steps wrote' -r -F
complete -c thruway -n "__fish_thruway_using_subcommand rehearse" -l timeout -d 'Give up after so many seconds, counted from when the emulated host is up' -r
complete -c thruway -n "__fish_thruway_using_subcommand rehearse" -l drive-kernel -d 'The inner half: take the steps on this host, with this guest kernel' -r -F
complete -c thruway -n "__fish_thruway_using_subcommand rehearse" -l drive-initrd -d 'The inner half\'s guest initial RAM file system' -r -F
complete -c thruway -n "__fish_thruway_using_subcommand rehearse" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand rehearse" -s y -l yes -d 'Do it without asking'
complete -c thruway -n "__fish_thruway_using_subcommand rehearse" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand rehearse" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand rehearse" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand rehearse" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand profile; and not __fish_seen_subcommand_from list show check" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand profile; and not __fish_seen_subcommand_from list show check" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand profile; and not __fish_seen_subcommand_from list show check" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand profile; and not __fish_seen_subcommand_from list show check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand profile; and not __fish_seen_subcommand_from list show check" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand profile; and not __fish_seen_subcommand_from list show check" -f -a "list" -d 'List the built-in profiles'
complete -c thruway -n "__fish_thruway_using_subcommand profile; and not __fish_seen_subcommand_from list show check" -f -a "show" -d 'Print a profile: a built-in one to be copied, or what a file says in the end'
complete -c thruway -n "__fish_thruway_using_subcommand profile; and not __fish_seen_subcommand_from list show check" -f -a "check" -d 'Check profiles without touching the host; exit code 2 if one is not valid'
complete -c thruway -n "__fish_thruway_using_subcommand profile; and __fish_seen_subcommand_from list" -l format -d 'How to print the answer: a table for people; json or yaml, one document for programs' -r -f -a "table\t'For people; may change between versions'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand profile; and __fish_seen_subcommand_from list" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand profile; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand profile; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand profile; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c thruway -n "__fish_thruway_using_subcommand profile; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand profile; and __fish_seen_subcommand_from show" -l format -d 'How to print the answer: a table for people; json or yaml, one document for programs' -r -f -a "table\t'For people; may change between versions'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand profile; and __fish_seen_subcommand_from show" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand profile; and __fish_seen_subcommand_from show" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand profile; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand profile; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c thruway -n "__fish_thruway_using_subcommand profile; and __fish_seen_subcommand_from show" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand profile; and __fish_seen_subcommand_from check" -l format -d 'How to print the answer: a table for people; json or yaml, one document for programs' -r -f -a "table\t'For people; may change between versions'
json\t'One JSON document, for programs'
yaml\t'The same document as YAML'"
complete -c thruway -n "__fish_thruway_using_subcommand profile; and __fish_seen_subcommand_from check" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand profile; and __fish_seen_subcommand_from check" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand profile; and __fish_seen_subcommand_from check" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand profile; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help'
complete -c thruway -n "__fish_thruway_using_subcommand profile; and __fish_seen_subcommand_from check" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand generate; and not __fish_seen_subcommand_from man completions schema" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand generate; and not __fish_seen_subcommand_from man completions schema" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand generate; and not __fish_seen_subcommand_from man completions schema" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand generate; and not __fish_seen_subcommand_from man completions schema" -s h -l help -d 'Print help'
complete -c thruway -n "__fish_thruway_using_subcommand generate; and not __fish_seen_subcommand_from man completions schema" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand generate; and not __fish_seen_subcommand_from man completions schema" -f -a "man" -d 'Write one man page for the program and one for each sub-command'
complete -c thruway -n "__fish_thruway_using_subcommand generate; and not __fish_seen_subcommand_from man completions schema" -f -a "completions" -d 'Print the completion script of a shell'
complete -c thruway -n "__fish_thruway_using_subcommand generate; and not __fish_seen_subcommand_from man completions schema" -f -a "schema" -d 'Print the JSON schema of profiles, for editors and other programs'
complete -c thruway -n "__fish_thruway_using_subcommand generate; and __fish_seen_subcommand_from man" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand generate; and __fish_seen_subcommand_from man" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand generate; and __fish_seen_subcommand_from man" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand generate; and __fish_seen_subcommand_from man" -s h -l help -d 'Print help'
complete -c thruway -n "__fish_thruway_using_subcommand generate; and __fish_seen_subcommand_from man" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand generate; and __fish_seen_subcommand_from completions" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand generate; and __fish_seen_subcommand_from completions" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand generate; and __fish_seen_subcommand_from completions" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand generate; and __fish_seen_subcommand_from completions" -s h -l help -d 'Print help'
complete -c thruway -n "__fish_thruway_using_subcommand generate; and __fish_seen_subcommand_from completions" -s V -l version -d 'Print version'
complete -c thruway -n "__fish_thruway_using_subcommand generate; and __fish_seen_subcommand_from schema" -l color -d 'When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal that can, unless NO_COLOR is set or TERM is dumb'
always\t'Even into files and pipes'
never\t'Not at all'"
complete -c thruway -n "__fish_thruway_using_subcommand generate; and __fish_seen_subcommand_from schema" -s v -l verbose -d 'Say more on stderr; twice for debugging, thrice for everything'
complete -c thruway -n "__fish_thruway_using_subcommand generate; and __fish_seen_subcommand_from schema" -s q -l quiet -d 'Say nothing on stderr but errors'
complete -c thruway -n "__fish_thruway_using_subcommand generate; and __fish_seen_subcommand_from schema" -s h -l help -d 'Print help'
complete -c thruway -n "__fish_thruway_using_subcommand generate; and __fish_seen_subcommand_from schema" -s V -l version -d 'Print version'
