#!/usr/bin/env bash
# install.sh on a bare machine: a minimal Debian in a directory, with mounts,
# processes, network and cgroups of its own. Only apt reaches the real network;
# the Rust toolchain and the crates are this machine's. inside.sh runs in it; the
# last line is that of the other tests: `test result: ok. N passed; …`.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

usage() {
    cat <<'TEXT'
usage: tests/install/run.sh [--binary FILE] [--quick]

  --binary FILE  install this static kuke; without it one is built from source
  --quick        build without optimisation

Needs root, mmdebstrap and a Debian mirror.
TEXT
}

binary='' quick=no
while [ $# -gt 0 ]; do
    case $1 in
        --binary) binary=$(realpath "${2:?--binary needs a file}"); shift ;;
        --quick) quick=yes ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done

skip() {
    echo "skipped: install: $1"
    echo "test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out"
    exit 0
}
[ "$(id -u)" = 0 ] || skip "it makes namespaces, which needs root"
for program in mmdebstrap unshare rustup cargo; do
    command -v $program >/dev/null || skip "$program is not installed"
done

cache=$(realpath "${CARGO_TARGET_DIR:-target}")/install
mkdir -p "$cache"
base=$cache/bookworm.tar
if [ ! -e "$base" ]; then
    echo "building the base system, once"
    mmdebstrap --quiet --format=tar --variant=minbase bookworm "$base.new" ||
        skip "the base system could not be made (no Debian mirror?)"
    mv "$base.new" "$base"
fi

work=$(mktemp -d /var/tmp/kuke-install-XXXXXX)
root=$work/root
unified=$(awk '$3 == "cgroup2" {print $2; exit}' /proc/mounts)
group=$unified/${work##*/}
net=$work/net
# The namespaces end with their first process, and their mounts with them.
trap 'umount "$net" 2>/dev/null; rm -rf "$work"; find "$group" -depth -type d -exec rmdir {} + 2>/dev/null' EXIT
mkdir -p "$root" "$group"
tar -C "$root" -xf "$base"

# The sources as a checkout has them, this machine's way to a mirror, and Rust.
mkdir -p "$root/kukeon" "$root/root/.cargo/bin" "$root/toolchain" "$root/crates"
git ls-files -z | tar --null -T - -cf - | tar -C "$root/kukeon" -xf -
apt-config dump | grep -iE '^Acquire::(http|https|Check)' >"$root/etc/apt/apt.conf.d/90host"
cp /etc/resolv.conf "$root/etc/resolv.conf"
if [ -n "$binary" ]; then cp "$binary" "$root/kukeon/kuke"; fi
cargo fetch --quiet --locked || skip "the crates could not be fetched"
toolchain=$(dirname "$(dirname "$(rustup which cargo)")")
crates=${CARGO_HOME:-$HOME/.cargo}/registry

touch "$net"
mount --bind /proc/self/ns/net "$net"

export root group toolchain crates quick net
# In the new namespaces: file systems, then the new root. The first process is
# moved below, or its cgroup could hand no controller down.
# shellcheck disable=SC2016
prepare='
    set -e
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount -t sysfs sysfs "$root/sys"
    mount -t cgroup2 none "$root/sys/fs/cgroup"
    mkdir "$root/sys/fs/cgroup/init"
    echo 0 >"$root/sys/fs/cgroup/init/cgroup.procs"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/run"
    touch "$root/run/outside"
    mount --bind "$net" "$root/run/outside"
    mount --bind "$toolchain" "$root/toolchain"
    mount --bind "$crates" "$root/crates"
    ip link set lo up
    exec chroot "$root" /usr/bin/env -i HOME=/root QUICK="$quick" LANG=C.UTF-8 \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        /kukeon/tests/install/inside.sh
'
# shellcheck disable=SC2016
sh -c 'echo 0 >"$group/cgroup.procs" && exec unshare --mount --propagation slave --net --uts --ipc --cgroup \
    --pid --fork --kill-child sh -c "$1"' sh "$prepare" | tee "$work/said"
grep -q '^test result: ' "$work/said" ||
    echo "test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out"
grep -q '^test result: ok' "$work/said"
