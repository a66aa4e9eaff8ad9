#!/usr/bin/env bash
# Installs kukeon on this machine, or reports what it would do, or undoes it.
# Every change is printed as it is made; a second run finds nothing to change.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
unset "${!KUKEON_@}" "${!KUKE_@}" # the installed service has the defaults or /etc/kukeon/kukeond.yaml

usage() {
    cat <<'TEXT'
usage: ./install.sh [--check | --uninstall] [options]

  --check            report what is here, what is missing and what a run would
                     change; change nothing. Exit code 0: everything needed is
                     here; 1: something is missing.
  --uninstall        remove all cells and what kukeon made on the host, the
                     service and the binaries.

  --binary FILE      install this binary instead of building one
  --prefix DIR       where bin/kuke and bin/kukeond go (default /usr/local)
  --no-demo          do not run the hello cell
  --purge-packages   with --uninstall: also remove the packages that an earlier
                     run installed
  --help             this text

Run as root, or as a user who may use sudo.
TEXT
}

mode=install demo=yes binary='' prefix=/usr/local purge_packages=no
while [ $# -gt 0 ]; do
    case $1 in
        --check) mode=check ;;
        --uninstall) mode=uninstall ;;
        --no-demo) demo=no ;;
        --purge-packages) purge_packages=yes ;;
        --binary | --prefix)
            [ $# -ge 2 ] || { echo "install.sh: $1 needs a value" >&2; exit 2; }
            if [ "$1" = --binary ]; then binary=$2; else prefix=${2%/}; fi
            shift
            ;;
        --binary=*) binary=${1#*=} ;;
        --prefix=*) prefix=${1#*=} prefix=${prefix%/} ;;
        -h | --help) usage; exit 0 ;;
        *) echo "install.sh: unknown option $1" >&2; usage >&2; exit 2 ;;
    esac
    shift
done

bin=$prefix/bin
notes=$prefix/share/kukeon/installed-packages # one package per line, for --purge-packages
unit=/etc/systemd/system/kukeond.service
changes=0

say() { printf '%s\n' "$*"; }
changed() { changes=$((changes + 1)); printf '+ %s\n' "$*"; }
indent() { printf '  %s\n' "${1//$'\n'/$'\n'  }"; }
die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

# --- who we are --------------------------------------------------------------

if [ "$(id -u)" = 0 ]; then
    as_root() { "$@"; }
elif command -v sudo >/dev/null; then
    as_root() { sudo -- "$@"; }
else
    as_root() { die "this needs root for: $*; there is no sudo here, so run install.sh as root"; }
fi

# Under sudo the build runs as the user who called, so that target/ stays theirs.
if [ "$(id -u)" = 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then
    builder_home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    as_builder() { sudo -u "$SUDO_USER" -- env "PATH=$builder_home/.cargo/bin:$PATH" "HOME=$builder_home" "$@"; }
else
    as_builder() { env "PATH=${HOME:-/root}/.cargo/bin:$PATH" "$@"; }
fi

has_systemd() { [ -d /run/systemd/system ]; }

# Administration programs are often not on a user's PATH.
have() { PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin command -v "$1" >/dev/null; }

# --- what is needed ----------------------------------------------------------

have_cni() {
    local dir
    for dir in /opt/cni/bin /usr/lib/cni /usr/libexec/cni; do
        if [ -x "$dir/bridge" ] && [ -x "$dir/host-local" ] && [ -x "$dir/loopback" ]; then return 0; fi
    done
    return 1
}

have_static_libc() { have cc && [ -e "$(cc -print-file-name=libc.a)" ]; }

rust_wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
rust_found() { as_builder cargo --version 2>/dev/null | awk '{print $2}'; }
have_rust() {
    local found
    found=$(rust_found)
    [ -n "$found" ] && [ "$(printf '%s\n%s\n' "$rust_wanted" "$found" | sort -V | head -n 1)" = "$rust_wanted" ]
}

# name, then the test that finds it; the packages that bring it are below.
needs_to_run=(containerd runc cni nftables iproute2)
needs_to_build=(c-compiler static-libc protoc)
is_there() {
    case $1 in
        containerd) have containerd ;;
        runc) have runc ;;
        cni) have_cni ;;
        nftables) have nft ;;
        iproute2) have ip ;;
        c-compiler) have cc ;;
        static-libc) have_static_libc ;;
        protoc) have protoc ;;
    esac
}

manager=''
for candidate in apt-get dnf pacman zypper apk; do
    if have $candidate; then manager=$candidate; break; fi
done

packages_of() {
    case $manager:$1 in
        *:containerd | *:runc | *:nftables) echo "$1" ;;
        apt-get:cni | dnf:cni) echo containernetworking-plugins ;;
        *:cni) echo cni-plugins ;;
        dnf:iproute2) echo iproute ;;
        *:iproute2) echo iproute2 ;;
        *:c-compiler) echo gcc ;;
        apt-get:static-libc) echo libc6-dev ;;
        dnf:static-libc) echo glibc-static ;;
        zypper:static-libc) echo glibc-devel-static ;;
        pacman:static-libc) echo glibc ;;
        apk:static-libc) echo musl-dev ;;
        apt-get:protoc | dnf:protoc) echo protobuf-compiler ;;
        zypper:protoc) echo protobuf-devel ;;
        pacman:protoc) echo protobuf ;;
        apk:protoc) echo protobuf-dev ;;
    esac
}

install_packages() {
    case $manager in
        apt-get)
            as_root apt-get -qq update || say "  (package lists could not be refreshed; going on with the old ones)"
            as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
                -o Dpkg::Use-Pty=0 install "$@" >/dev/null
            ;;
        dnf) as_root dnf -q -y install "$@" ;;
        pacman) as_root pacman -Sy --noconfirm --needed "$@" ;;
        zypper) as_root zypper -q --non-interactive install "$@" ;;
        apk) as_root apk add -q "$@" ;;
        *) die "no package manager known here; install these by hand: $*" ;;
    esac
}

remove_packages() {
    case $manager in
        apt-get) as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 remove "$@" >/dev/null ;;
        dnf) as_root dnf -q -y remove "$@" ;;
        pacman) as_root pacman -R --noconfirm "$@" ;;
        zypper) as_root zypper -q --non-interactive remove "$@" ;;
        apk) as_root apk del -q "$@" ;;
    esac
}

# --- the machine -------------------------------------------------------------

# Prints one line a finding; fails if kukeon cannot run here.
check_kernel() {
    local fine=0 mount
    if [ "$(uname -s)" != Linux ]; then say "  kernel         not Linux"; return 1; fi
    mount=$(awk '$3 == "cgroup2" {print $2; exit}' /proc/mounts)
    if [ -n "$mount" ]; then
        say "  cgroup v2      $mount, controllers: $(tr '\n' ' ' <"$mount/cgroup.controllers" 2>/dev/null || true)"
    else
        say "  cgroup v2      missing: boot with systemd.unified_cgroup_hierarchy=1, or mount -t cgroup2 none /sys/fs/cgroup"
        fine=1
    fi
    if grep -qw overlay /proc/filesystems || modinfo overlay >/dev/null 2>&1; then
        say "  overlayfs      here"
    else
        say "  overlayfs      missing from the kernel"
        fine=1
    fi
    return $fine
}

# --- check -------------------------------------------------------------------

check() {
    local status=0 item needs=("${needs_to_run[@]}")
    [ -n "$binary" ] || needs+=("${needs_to_build[@]}")
    say "Prerequisites:"
    check_kernel || status=1
    for item in "${needs[@]}"; do
        if is_there "$item"; then
            printf '  %-14s here\n' "$item"
        else
            printf '  %-14s missing: package %s\n' "$item" "$(packages_of "$item")"
            status=1
        fi
    done
    if [ -z "$binary" ]; then
        if have_rust; then
            printf '  %-14s %s\n' rust "$(rust_found)"
        else
            printf '  %-14s missing: %s or newer, see https://rustup.rs\n' rust "$rust_wanted"
            status=1
        fi
    fi
    say "Installed:"
    if [ -x "$bin/kuke" ]; then
        printf '  %-14s %s (%s)\n' kuke "$bin/kuke" "$("$bin/kuke" version --no-daemon 2>/dev/null | head -n 1 || true)"
    else
        printf '  %-14s no\n' kuke
    fi
    if has_systemd; then
        printf '  %-14s %s\n' service "$(systemctl is-active kukeond 2>/dev/null || true)"
    else
        printf '  %-14s no systemd here: kukeond is started by "kuke daemon start"\n' service
    fi
    if [ $status = 0 ]; then say "Ready: ./install.sh would install no package."
    else say "Missing: see above. ./install.sh installs what a package brings."; fi
    return $status
}

# --- install -----------------------------------------------------------------

install_prerequisites() {
    local item missing=() packages=() needs=("${needs_to_run[@]}")
    [ -n "$binary" ] || needs+=("${needs_to_build[@]}")
    check_kernel >/dev/null || { check_kernel; die "this machine cannot run kukeon, see above"; }
    if [ -z "$binary" ] && ! have_rust; then
        die "the Rust toolchain ($rust_wanted or newer) is missing: see https://rustup.rs, or give a built binary with --binary"
    fi
    for item in "${needs[@]}"; do
        if ! is_there "$item"; then missing+=("$item"); packages+=("$(packages_of "$item")"); fi
    done
    if [ ${#missing[@]} -gt 0 ]; then
        say "missing: ${missing[*]}"
        install_packages "${packages[@]}"
        changed "installed packages: ${packages[*]}"
        as_root mkdir -p "${notes%/*}"
        printf '%s\n' "${packages[@]}" | as_root tee -a "$notes" >/dev/null
        for item in "${missing[@]}"; do is_there "$item" || die "still missing after installing its package: $item"; done
    fi
}

build() {
    if [ -n "$binary" ]; then
        [ -x "$binary" ] || die "--binary $binary: no such program"
        return
    fi
    # Static, because the built-in image holds this binary and nothing else.
    # cargo compares the inputs itself and does nothing when they are the same.
    say "building the release binary (minutes the first time, nothing when unchanged)"
    as_builder cargo rustc --quiet --locked --release --bin kuke -- -C target-feature=+crt-static
    binary=${CARGO_TARGET_DIR:-target}/release/kuke
}

# A running kuke or kukeond keeps its old file: names are replaced, not contents.
place_binaries() {
    if cmp -s "$binary" "$bin/kuke" && [ "$bin/kuke" -ef "$bin/kukeond" ]; then return; fi
    as_root mkdir -p "$bin"
    as_root install -m 0755 "$binary" "$bin/.kuke.new"
    as_root ln -f "$bin/.kuke.new" "$bin/.kukeond.new"
    as_root mv -f "$bin/.kuke.new" "$bin/kuke"
    as_root mv -f "$bin/.kukeond.new" "$bin/kukeond"
    changed "installed $bin/kuke and its hard link kukeond"
    restart=yes
}

# KillMode=process: cells and the containerd that kukeond may have brought up
# outlive it. No ProtectSystem= and the like: they give the daemon a mount
# namespace of its own, in which nobody else sees its namespace pins.
unit_text() {
    cat <<TEXT
[Unit]
Description=kukeon, a container runtime manager
Wants=network-online.target containerd.service
After=network-online.target containerd.service
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart=$bin/kukeond serve
Restart=always
RestartSec=1
WatchdogSec=30
KillMode=process
Delegate=yes
TasksMax=infinity
LimitNOFILE=1048576
OOMScoreAdjust=-500
TimeoutStopSec=30

[Install]
WantedBy=multi-user.target
TEXT
}

start_daemon() {
    if has_systemd; then
        if ! unit_text | cmp -s - "$unit"; then
            unit_text | as_root tee "$unit" >/dev/null
            as_root systemctl daemon-reload
            changed "wrote $unit"
            restart=yes
        fi
        if ! systemctl is-enabled --quiet kukeond; then
            as_root systemctl enable --quiet kukeond
            changed "enabled kukeond at boot"
        fi
        if ! systemctl is-active --quiet kukeond; then
            as_root systemctl start kukeond
            changed "started kukeond"
        elif [ "$restart" = yes ]; then
            as_root systemctl restart kukeond
            changed "restarted kukeond; cells went on running"
        fi
        return
    fi
    if ! as_root "$bin/kuke" daemon status >/dev/null 2>&1; then
        as_root "$bin/kuke" daemon start >/dev/null
        changed "started kukeond with \"$bin/kuke daemon start\""
        say "  there is no systemd here: nothing starts kukeond at boot; \"kuke daemon stop\" stops it"
    elif [ "$restart" = yes ]; then
        as_root "$bin/kuke" daemon restart >/dev/null
        changed "restarted kukeond; cells went on running"
    fi
}

init_host() {
    local output
    output=$(as_root "$bin/kuke" init)
    case $output in
        *"already initialized"*) ;;
        *) changed "prepared the host"; indent "$output" ;;
    esac
}

# The cell's first address, without the prefix length.
hello_address() {
    as_root "$bin/kuke" get cell hello -o json | tr -d ' \n' |
        sed -n 's/.*"addresses":\["\([0-9a-fA-F.:]*\).*/\1/p'
}

fetch() {
    if command -v curl >/dev/null; then
        curl -sS --max-time 5 "http://$1:8080/"
    else
        exec 3<>"/dev/tcp/$1/8080" && printf 'GET / HTTP/1.0\r\nHost: %s\r\n\r\n' "$1" >&3 && sed '1,/^\r*$/d' <&3
    fi
}

run_demo() {
    local output address answer
    output=$(as_root "$bin/kuke" apply -f manifests/hello-world.yaml)
    case $output in
        *created* | *updated*) changed "applied manifests/hello-world.yaml: $output" ;;
    esac
    for _ in $(seq 100); do
        address=$(hello_address || true)
        if [ -n "$address" ] && answer=$(fetch "$address" 2>/dev/null) && [ -n "$answer" ]; then
            say "The hello cell answers on http://$address:8080/:"
            indent "$answer"
            return
        fi
        sleep 0.1
    done
    as_root "$bin/kuke" get cell hello -o yaml >&2 || true
    die "the hello cell did not answer within 10 s; its state is above"
}

# --- uninstall ---------------------------------------------------------------

uninstall() {
    local packages=() socket=${unit%.service}.socket
    # Of docs/systemd.md: a call would start the service that goes away here.
    if has_systemd && [ -e "$socket" ]; then
        as_root systemctl disable --quiet --now kukeond.socket
        as_root rm -f "$socket"
        changed "removed the socket unit $socket"
    fi
    if has_systemd && [ -e "$unit" ]; then
        as_root systemctl disable --quiet --now kukeond
        as_root rm -f "$unit"
        as_root systemctl daemon-reload
        changed "removed the service kukeond"
    fi
    if [ -x "$bin/kuke" ]; then
        as_root "$bin/kuke" uninstall --yes
        as_root rm -f "$bin/kuke" "$bin/kukeond"
        changed "removed $bin/kuke and $bin/kukeond"
    fi
    if [ -e "$notes" ]; then
        mapfile -t packages < <(sort -u "$notes")
        if [ "$purge_packages" = yes ]; then
            remove_packages "${packages[@]}"
            changed "removed packages: ${packages[*]}"
            as_root rm -rf "${notes%/*}"
        else
            say "kept packages that were installed for kukeon: ${packages[*]} (remove them with --uninstall --purge-packages)"
        fi
    fi
}

# -----------------------------------------------------------------------------

case $mode in
    check) check; exit ;;
    uninstall) uninstall ;;
    install)
        restart=no
        install_prerequisites
        build
        place_binaries
        start_daemon
        init_host
        if [ "$demo" = yes ]; then run_demo; fi
        ;;
esac
if [ $changes = 0 ]; then say "Nothing changed."; else say "Done: $changes change(s), listed above with +."; fi
