#!/usr/bin/env bash
# Runs in the bare machine that run.sh makes, as root and as its first process.
set -uo pipefail
cd /kukeon || exit 1
said=/run/said passed=0 failed=0

# check NAME COMMAND...: one test. What the command says is shown if it fails.
check() {
    local name=$1
    shift
    if "$@" >$said 2>&1; then
        passed=$((passed + 1))
        echo "test install::$name ... ok"
    else
        failed=$((failed + 1))
        echo "test install::$name ... FAILED"
        tail -n 40 $said
    fi
}

# ends CODE COMMAND...: whether it ends with this code; what it says is kept.
ends() {
    local wanted=$1 code=0
    shift
    output=$("$@" 2>&1) || code=$?
    printf '%s\n' "$output"
    [ $code = "$wanted" ] || { echo "wanted exit code $wanted, was $code"; return 1; }
}
says() {
    local word
    for word in "$@"; do
        [[ $output == *"$word"* ]] || { echo "wanted to read: $word"; return 1; }
    done
}

# Only packages come from outside: kukeon has the network of this machine.
mkdir -p /usr/local/bin
cat >/usr/local/bin/apt-get <<'TEXT'
#!/bin/sh
exec nsenter --net=/run/outside /usr/bin/apt-get "$@"
TEXT
chmod 755 /usr/local/bin/apt-get
ln -s /toolchain/bin/* /root/.cargo/bin/
ln -s /crates /root/.cargo/registry
export CARGO_NET_OFFLINE=true
if [ "$QUICK" = yes ]; then
    export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=0
    export CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
fi
options=()
if [ -e kuke ]; then options=(--binary ./kuke); fi
useradd --create-home visitor
as_visitor() { setpriv --reuid visitor --regid visitor --init-groups env HOME=/home/visitor "$@"; }

# What kukeon may leave: files, links, rules, mounts, cgroups.
machine() {
    find /opt/kukeon /usr/local /etc/kukeon /etc/systemd/system/kuke* /run/kukeon 2>/dev/null | sort
    ls /sys/class/net /sys/fs/cgroup -1 --hide='*.*'
    awk '{print $2, $3}' /proc/mounts
    nft list ruleset 2>/dev/null
}

reports_what_is_missing() {
    ends 1 ./install.sh --check "${options[@]}" && says 'containerd     missing: package containerd' 'Missing: see above'
}
user_without_sudo() {
    ends 1 as_visitor ./install.sh --binary /bin/true && says 'there is no sudo here' 'run install.sh as root'
}
needs_rust() {
    ends 1 env HOME=/nowhere ./install.sh && says 'the Rust toolchain' 'https://rustup.rs'
}
installs() {
    ends 0 ./install.sh "${options[@]}" &&
        says '+ installed packages: containerd' 'The hello cell answers on http://' 'hello'
}
again() { ends 0 ./install.sh "${options[@]}" && says 'Nothing changed.'; }
reports_that_all_is_there() { ends 0 ./install.sh --check "${options[@]}" && says 'would install no package'; }
user_with_sudo() {
    apt-get -qq -y --no-install-recommends install sudo >/dev/null || return
    echo 'visitor ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/visitor
    ends 0 as_visitor ./install.sh --binary /usr/local/bin/kuke && says 'Nothing changed.'
}
uninstalls() { ends 0 as_visitor ./install.sh --uninstall && says '+ removed /usr/local/bin/kuke' 'kept packages'; }
leaves_nothing() {
    machine >/run/after
    sed -i '\|^/usr/local/share/kukeon|d' /run/after # the list of packages that were kept
    diff /run/before /run/after || return
    # This script's own directory is called kukeon, too.
    ! grep -lzE '/bin/kuke|kukeond|containerd' /proc/[0-9]*/cmdline 2>/dev/null
}
purges() {
    ends 0 ./install.sh --uninstall --purge-packages && says '+ removed packages: ' || return
    ! command -v containerd && [ ! -e /usr/local/share/kukeon ]
}

echo "running in $(sed -n 's/^PRETTY_NAME=//p' /etc/os-release)"
check reports_what_is_missing reports_what_is_missing
check user_without_sudo user_without_sudo
if [ ! -e kuke ]; then check needs_rust needs_rust; fi
machine >/run/before
check installs installs
check again again
check reports_that_all_is_there reports_that_all_is_there
check user_with_sudo user_with_sudo
check uninstalls uninstalls
check leaves_nothing leaves_nothing
check purges purges
word=ok
if [ $failed != 0 ]; then word=FAILED; fi
echo "test result: $word. $passed passed; $failed failed; 0 ignored; 0 measured; 0 filtered out"
