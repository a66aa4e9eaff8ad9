#!/usr/bin/env bash
# Runs inside the virtual machine, once per boot, as root. What it says on the
# console in lines that begin with `VM` is read by run.sh.
set -uo pipefail
cd /kukeon || exit 1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root

stage=$(sed -n 's/.*kukeon\.stage=\([a-z-]*\).*/\1/p' /proc/cmdline)
tree=/sys/fs/cgroup/kukeon/default/default/default
said=/run/vm-said # what the last command said

# check NAME COMMAND...: one test. What the command says is shown if it fails.
check() {
    local name=$1
    shift
    if "$@" >$said 2>&1; then
        echo "VM ok $name"
    else
        echo "VM fail $name: $*"
        tail -n 40 $said | sed 's/^/VM say /'
    fi
}

# eventually COMMAND...: asks again for two minutes; this machine is slow.
eventually() {
    local _
    for _ in $(seq 120); do
        if "$@"; then return; fi
        sleep 1
    done
    echo "not within two minutes: $*"
    return 1
}

is() { [ "$1" = "$2" ] || { echo "is \"$1\", should be \"$2\""; return 1; }; }
cell() { kuke get cell "$1" -o json | tr -d ' \n'; }
state() { cell "$1" | sed -n 's/.*"status":{"state":"\([A-Za-z]*\)".*/\1/p'; }
in_state() { is "$(state "$1")" "$2"; }
pid() { cell "$1" | sed -n 's/.*"pid":\([0-9]*\).*/\1/p'; }
address() { cell "$1" | sed -n 's/.*"addresses":\["\([0-9.]*\).*/\1/p'; }
used() { kuke get cell "$1" -o yaml | sed -n "s/.*$2: *\([0-9]*\).*/\1/p" | head -n 1; }
answers() { answers_at "$1" "$(address "$1")"; }
answers_at() {
    local answer
    exec 3<>"/dev/tcp/$2/8080" || return 1
    printf 'GET / HTTP/1.0\r\nHost: vm\r\n\r\n' >&3
    answer=$(cat <&3)
    exec 3<&-
    [[ $answer == *"$1"* ]] || { echo "$answer"; return 1; }
}

# manifest NAME SCRIPT [RESOURCES]: a cell that runs a shell script.
manifest() {
    cat <<TEXT
---
apiVersion: v1beta1
kind: Cell
metadata: {name: $1}
spec:
  realmId: default
  spaceId: default
  stackId: default
  containers:
    - id: main
      image: busybox
      command: /bin/sh
      args: ["-c", "$2"]
      restartPolicy: always
      stopGraceSeconds: 1
      resources: {${3:-}}
TEXT
}

apply_cell() { manifest "$@" | kuke apply -f -; }

# --- install -----------------------------------------------------------------

installs() {
    ./install.sh --binary ./kuke >/run/install 2>&1 || { cat /run/install; return 1; }
    cat /run/install
    grep -q 'answers on http://' /run/install
}
installs_once() { ./install.sh --binary ./kuke | tee /dev/stderr | grep -q 'Nothing changed'; }
all_is_well() {
    local said
    said=$(kuke status) || { echo "$said"; return 1; }
    if grep -E 'FAIL|WARN' <<<"$said"; then return 1; fi
}
unit_is_up() {
    local show
    show=$(systemctl show kukeond -p Type -p ActiveState -p SubState -p NRestarts -p WatchdogUSec -p UnitFileState)
    echo "$show"
    for want in Type=notify ActiveState=active SubState=running NRestarts=0 WatchdogUSec=30s UnitFileState=enabled; do
        grep -qx "$want" <<<"$show" || { echo "not $want"; return 1; }
    done
    is "$(stat -c '%a %U %F' /run/kukeon/kukeond.sock)" "600 root socket"
}
# The daemon must not be killed by its own watchdog, nor be silent to it.
watchdog_is_fed() {
    local before after
    before=$(systemctl show kukeond -p WatchdogTimestampMonotonic --value)
    sleep 20
    after=$(systemctl show kukeond -p WatchdogTimestampMonotonic --value)
    echo "$before $after"
    [ "$after" -gt "$before" ]
}
limits_are_set() {
    eventually in_state fenced Ready || return 1
    local at=$tree/fenced/server
    is "$(cat $at/memory.max)" 67108864 && is "$(cat $at/pids.max)" 64 &&
        # 512 of 1024 shares, on the scale from 1 to 10000 (runc's conversion)
        is "$(cat $at/cpu.weight)" 20 && is "$(cat "$at/cgroup.procs")" "$(pid fenced)"
}
use_is_told() {
    local memory
    memory=$(used fenced memoryBytes)
    echo "memory $memory, limit $(used fenced memoryLimitBytes), pids $(used fenced pids)"
    [ "${memory:-0}" -gt 0 ] && [ "$(used fenced pids)" -gt 0 ] || return 1
    kuke get containers --cell fenced -o wide | tee /dev/stderr | grep -q 'MiB / 64.00 MiB'
}
oom_was_counted() { [ "$(used hungry oomKills)" -gt 0 ]; }
oom_is_seen() {
    eventually in_state hungry Ready || return 1
    eventually oom_was_counted || { kuke get cell hungry -o yaml; return 1; }
    # Only the process that wanted too much is gone, not the container.
    is "$(state hungry)" Ready
}
fork_was_refused() { [ "$(sed -n 's/max //p' $tree/forks/main/pids.events)" -gt 0 ]; }
pids_are_limited() {
    eventually in_state forks Ready || return 1
    eventually fork_was_refused || { cat $tree/forks/main/pids.*; return 1; }
    [ "$(cat $tree/forks/main/pids.current)" -le 16 ]
}
refused_limit_says_why() {
    local said
    said=$(manifest bad 'sleep 1' 'memoryLimitBytes: 1' | kuke apply -f - 2>&1) && { echo "$said"; return 1; }
    echo "$said"
    ! cell bad >/dev/null 2>&1
}
survives() {
    local hello fenced
    hello=$(pid hello) fenced=$(pid fenced)
    "$@" || return 1
    eventually kuke daemon status || return 1
    is "$(pid hello) $(pid fenced)" "$hello $fenced" && answers hello
}
daemon_is_another() {
    local now
    now=$(systemctl show kukeond -p MainPID --value)
    [ "$now" != 0 ] && [ "$now" != "$1" ] && systemctl is-active --quiet kukeond
}
killed_and_started_again() {
    local main
    main=$(systemctl show kukeond -p MainPID --value)
    kill -9 "$main"
    eventually daemon_is_another "$main"
}
stopped_daemon_leaves_cells() {
    local at answered
    at=$(address hello)
    systemctl stop kukeond
    answers_at hello "$at"
    answered=$?
    systemctl start kukeond
    return $answered
}
containerd_restarts() {
    systemctl restart containerd
    eventually kuke get cells
}
stops_a_cell() { kuke stop idle && in_state idle Stopped; }

install_stage() {
    check installs installs
    check installs_once installs_once
    check status all_is_well
    check unit_is_up unit_is_up
    check hello_answers eventually answers hello
    check loads_an_image kuke image load busybox.tar
    check applies_limits kuke apply -f manifests/limits.yaml
    check limits_are_set limits_are_set
    check use_is_told use_is_told
    check applies_hungry apply_cell hungry 'while :; do tail /dev/zero; sleep 5; done' 'memoryLimitBytes: 33554432'
    check oom_is_seen oom_is_seen
    check applies_forks apply_cell forks "sh -c 'for i in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do sleep 9999 & done'; sleep 9999" 'pidsLimit: 16'
    check pids_are_limited pids_are_limited
    check deletes kuke delete cell forks
    check refused_limit_says_why refused_limit_says_why
    check restarted_daemon_leaves_cells survives systemctl restart kukeond
    check killed_daemon_is_started_again survives killed_and_started_again
    check stopped_daemon_leaves_cells survives stopped_daemon_leaves_cells
    check restarted_containerd_leaves_cells survives containerd_restarts
    check watchdog_is_fed watchdog_is_fed
    check applies_idle apply_cell idle 'sleep 9999'
    check stops_a_cell stops_a_cell
}

# --- reboot ------------------------------------------------------------------

nothing_of_idle_runs() { in_state idle Stopped && ! [ -e $tree/idle/main/cgroup.procs ]; }

reboot_stage() {
    check daemon_is_up eventually systemctl is-active --quiet kukeond
    check hello_is_back eventually answers hello
    check limits_are_back limits_are_set
    check hungry_is_back eventually in_state hungry Ready
    check stopped_stays_stopped nothing_of_idle_runs
    check status all_is_well
    check starts_again kuke start idle
    check runs_again eventually in_state idle Ready
}

# --- power cut ---------------------------------------------------------------

names=(one two three four five six seven eight)
many() { for name in "${names[@]}"; do manifest "$name" 'sleep 9999'; done; }
some_are_there() { [ -d /opt/kukeon/default/default/default/four ]; }

cut_stage() {
    check daemon_is_up eventually systemctl is-active --quiet kukeond
    many >/kukeon/many.yaml
    sync
    kuke apply -f /kukeon/many.yaml >/dev/null 2>&1 &
    for _ in $(seq 3000); do
        if some_are_there; then break; fi
        sleep 0.05
    done
    check apply_is_under_way kill -0 $!
    echo "VM cut now"
    sleep 600
}

# What was stored before the cut is made so without being told again.
stored_cells_come_up() {
    local file name count=0
    for file in /opt/kukeon/default/default/default/*/cell.yaml; do
        name=${file%/cell.yaml} name=${name##*/}
        eventually in_state "$name" Ready || { kuke get cell "$name" -o yaml; return 1; }
        count=$((count + 1))
    done
    echo "$count cells"
    [ $count -ge 4 ] # hello, fenced, hungry, idle at least
}
one_of_each() {
    local cells=12 what count
    is "$(kuke get cells -o name | wc -l)" $cells || return 1
    for what in containers tasks; do
        count=$(ctr -n default.kukeon.io $what ls -q | wc -l)
        is "$count $what" "$cells $what" || return 1
    done
    count=$(ctr -n default.kukeon.io snapshots ls | grep -c ' Active *$')
    is "$count snapshots" "$cells snapshots" || return 1
    count=$(find /opt/kukeon/.cni/networks/default_default -name '[0-9]*' | wc -l)
    is "$count leases" "$cells leases" || return 1
    count=$(ip -o link show type veth | wc -l)
    is "$count veths" "$cells veths"
}

# --- uninstall ---------------------------------------------------------------

nothing_is_left() {
    local path left=0
    for path in /opt/kukeon /run/kukeon /usr/local/bin/kuke /usr/local/bin/kukeond \
        /etc/systemd/system/kukeond.service /etc/systemd/system/kukeond.socket /sys/fs/cgroup/kukeon /run/netns /var/lib/cni \
        /usr/local/share/kukeon /etc/systemd/system/multi-user.target.wants/kukeond.service \
        /etc/systemd/system/sockets.target.wants/kukeond.socket; do
        if [ -e $path ]; then ls -dlR $path; left=1; fi
    done
    ip -o link | grep -v ': lo:' && left=1
    nft list ruleset | grep . && left=1
    ctr namespaces ls -q | grep . && left=1
    grep -E 'kukeon' /proc/self/mounts && left=1
    find /run/containerd/s /run/containerd/runc /run/containerd/io.containerd.runtime.v2.task -mindepth 1 2>/dev/null | grep . && left=1
    pgrep -a 'kuke|shim' && left=1
    is "$(cat /proc/sys/net/ipv4/ip_forward)" 0 || left=1
    [ $left = 0 ]
}

# As docs/systemd.md says: its own unit, and its own commands.
# shellcheck disable=SC2016 # the backticks are the page's
socket_is_systemds() {
    sed -n '/^```ini/,/^```/{/^```/!p}' docs/systemd.md >/etc/systemd/system/kukeond.socket
    sed -n '/^```sh/,/^```/{/^```/!p}' docs/systemd.md >/run/commands
    sh -ex /run/commands || return 1
    systemctl is-active --quiet kukeond.socket && is "$(stat -c '%a %U %F' /run/kukeon/kukeond.sock)" "600 root socket"
}
# Whoever calls starts the daemon, and the call is answered.
a_call_starts_the_daemon() {
    kuke daemon stop || return 1
    is "$(systemctl is-active kukeond.service)" inactive || return 1
    kuke get cells && systemctl is-active --quiet kukeond.service && answers hello
}

after_cut_stage() {
    check daemon_is_up eventually systemctl is-active --quiet kukeond
    check hello_is_back eventually answers hello
    check stored_cells_come_up stored_cells_come_up
    check applies_again kuke apply -f /kukeon/many.yaml
    check one_of_each eventually one_of_each
    check status all_is_well
    check limits_are_back limits_are_set
    check socket_is_systemds socket_is_systemds
    check a_call_starts_the_daemon a_call_starts_the_daemon
    check uninstalls ./install.sh --uninstall
    check nothing_is_left nothing_is_left
}

echo "VM begin $stage"
case $stage in
    install) install_stage ;;
    reboot) reboot_stage ;;
    cut) cut_stage ;;
    after-cut) after_cut_stage ;;
esac
echo "VM done $stage"
systemctl poweroff
