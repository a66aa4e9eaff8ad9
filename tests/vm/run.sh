#!/usr/bin/env bash
# Tests on a whole machine of their own: systemd, cgroup v2 with every controller,
# reboots and a power cut. A Debian in a file, run by qemu without help from the
# processor, so slow (some minutes) and independent of what the host offers.
# guest.sh runs inside and reports on the console; the last line here is that of
# the other tests: `test result: ok. N passed; N failed; N ignored; …`.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

usage() {
    cat <<'TEXT'
usage: tests/vm/run.sh [--binary FILE] [--keep] [--resume DIR STAGE]

  --binary FILE  static kuke to install in the guest (default: KUKE_BIN, else
                 target/release/kuke)
  --keep         keep the disk and the consoles, and say where they are
  --resume DIR STAGE
                 go on with a kept disk at a stage: install, reboot, cut or
                 after-cut; guest.sh is put there anew

Needs root, qemu-system-x86_64, mmdebstrap, mke2fs and busybox-static, and a
Debian mirror for the first run; what was made then is kept in target/vm.
TEXT
}

binary=${KUKE_BIN:-${CARGO_TARGET_DIR:-target}/release/kuke} keep=no resume='' first=install
while [ $# -gt 0 ]; do
    case $1 in
        --binary) binary=${2:?--binary needs a file}; shift ;;
        --keep) keep=yes ;;
        --resume) resume=${2:?--resume needs a directory} first=${3:?and a stage} keep=yes; shift 2 ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done

# Longest that one boot with its tests may take, in seconds.
limit=900
# Guest packages: what install.sh would ask for, so that no mirror is needed inside.
packages=systemd,systemd-sysv,udev,dbus,containerd,runc,containernetworking-plugins,iproute2,nftables,procps,kmod,linux-image-cloud-amd64,ca-certificates
suite=bookworm
cache=${CARGO_TARGET_DIR:-target}/vm

passed=0 failed=0 skipped=0
end() {
    local word=ok
    if [ $failed != 0 ]; then word=FAILED; fi
    echo "test result: $word. $passed passed; $failed failed; $skipped ignored; 0 measured; 0 filtered out"
    [ $failed = 0 ]
    exit
}
skip() {
    echo "skipped: vm: $1"
    skipped=1
    end
}
broken() {
    echo "test vm::$1 ... FAILED: $2"
    failed=$((failed + 1))
}

[ "$(id -u)" = 0 ] || skip "it makes file systems, which needs root"
[ "$(uname -m)" = x86_64 ] || skip "the guest is built for x86_64"
for program in qemu-system-x86_64 mmdebstrap mke2fs /bin/busybox; do
    command -v "$program" >/dev/null || skip "$program is not installed"
done
if [ ! -x "$binary" ]; then broken build "no binary at $binary"; end; fi

work=${resume:-$(mktemp -d)}
qemu=''
trap 'if [ -n "$qemu" ]; then kill -9 "$qemu"; fi; if [ "$keep" = yes ]; then echo "kept: $work"; else rm -rf "$work"; fi' EXIT

# --- the disk ----------------------------------------------------------------

base=$cache/base-$suite-$(printf %s "$packages" | cksum | cut -d' ' -f1).tar
if [ ! -e "$base" ]; then
    echo "building the guest's base system, once"
    mkdir -p "$cache"
    if ! mmdebstrap --quiet --format=tar --variant=minbase --include="$packages" "$suite" "$base.new"; then
        rm -f "$base.new"
        skip "the base system could not be built; is there a Debian mirror?"
    fi
    mv "$base.new" "$base"
fi

# An image as `docker save` writes it, made of the host's static busybox.
busybox_image() {
    local files=$work/image/files digest
    mkdir -p "$files/bin"
    cp /bin/busybox "$files/bin/busybox"
    for applet in sh sleep tail cat echo true; do ln -s busybox "$files/bin/$applet"; done
    tar -C "$files" --owner=0 --group=0 -cf "$work/image/layer.tar" bin
    digest=$(sha256sum <"$work/image/layer.tar" | cut -d' ' -f1)
    printf '{"architecture":"amd64","os":"linux","config":{"Cmd":["/bin/sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
        "$digest" >"$work/image/config.json"
    printf '[{"Config":"config.json","RepoTags":["busybox:latest"],"Layers":["layer.tar"]}]' >"$work/image/manifest.json"
    tar -C "$work/image" -cf "$1" manifest.json config.json layer.tar
}

make_disk() {
    local root=$work/root
    mkdir -p "$root"
    tar -C "$root" --numeric-owner -xf "$base" || return 1
    mv "$root"/boot/vmlinuz-* "$work/vmlinuz" && mv "$root"/boot/initrd.img-* "$work/initrd" || return 1
    mkdir "$root/kukeon"
    mkdir "$root/kukeon/docs"
    cp docs/systemd.md "$root/kukeon/docs/"
    cp -r install.sh Cargo.toml manifests tests/vm/guest.sh "$root/kukeon/"
    install -m 0755 "$binary" "$root/kukeon/kuke"
    busybox_image "$root/kukeon/busybox.tar"
    cat >"$root/etc/systemd/system/vm-tests.service" <<'TEXT'
[Unit]
Description=tests of kukeon
[Service]
ExecStart=/bin/bash /kukeon/guest.sh
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
[Install]
WantedBy=multi-user.target
TEXT
    ln -s ../vm-tests.service "$root/etc/systemd/system/multi-user.target.wants/vm-tests.service"
    ln -s /dev/null "$root/etc/systemd/system/serial-getty@ttyS0.service"
    echo kukeon-vm >"$root/etc/hostname"
    # With a journal: a power cut is one of the tests.
    mke2fs -q -t ext4 -E lazy_itable_init=1 -d "$root" "$work/disk.img" 4G >/dev/null || return 1
    rm -rf "$root"
}

# --- boots -------------------------------------------------------------------

# boot STAGE: runs the guest until it powers off, or until it asks for the power
# to be cut, and counts what it says.
boot() {
    local stage=$1 console=$work/console-$1 line done=no
    echo "boot: $stage ($(date +%T))"
    : >"$console"
    qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 2048 -smp 2 -nic none -no-reboot \
        -display none -monitor none -serial "file:$console" \
        -kernel "$work/vmlinuz" -initrd "$work/initrd" \
        -drive "file=$work/disk.img,format=raw,if=virtio" \
        -append "console=ttyS0 root=/dev/vda rw quiet panic=1 systemd.show_status=0 kukeon.stage=$stage" \
        </dev/null >"$work/qemu-$stage" 2>&1 &
    qemu=$!
    while IFS= read -r line; do
        line=${line%$'\r'}
        case $line in
            "VM ok "*) passed=$((passed + 1)); echo "test vm::$stage::${line#VM ok } ... ok" ;;
            "VM fail "*) broken "$stage" "${line#VM fail }" ;;
            "VM done "*) done=yes ;;
            "VM cut "*) done=yes; kill -9 $qemu ;;
            "VM say "*) echo "    ${line#VM say }" ;;
        esac
    done < <(timeout $limit tail -n +1 -s 0.1 -f --pid=$qemu "$console")
    if kill -0 $qemu 2>/dev/null; then
        kill -9 $qemu
        broken "$stage" "not over after $limit s"
    fi
    wait $qemu 2>/dev/null
    qemu=''
    if [ $done = no ]; then
        broken "$stage" "the guest ended before its tests did; its last words:"
        tail -n 20 "$console" "$work/qemu-$stage"
        return 1
    fi
}

if [ -n "$resume" ]; then
    # -f: what a killed guest left is repaired before anything is written.
    fsck.ext4 -fy "$work/disk.img" >/dev/null
    debugfs -w -R 'rm /kukeon/guest.sh' "$work/disk.img" 2>/dev/null
    debugfs -w -R 'write tests/vm/guest.sh /kukeon/guest.sh' "$work/disk.img" >/dev/null 2>&1
elif ! make_disk; then
    broken disk "the guest's disk could not be made"
    end
fi
wanted=no
for stage in install reboot cut after-cut; do
    if [ "$stage" = "$first" ]; then wanted=yes; fi
    if [ $wanted = yes ]; then boot "$stage" || break; fi
done
end
