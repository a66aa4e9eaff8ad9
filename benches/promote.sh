#!/usr/bin/env bash
# Measures how long a release takes to be healthy beside a start of the same cell,
# in one run: `kuke promote --wait` of a rendered Preparation whose image is there,
# `kuke run -d` and `kuke start`, in turn. Needs root and the release binary.
# Touches nothing outside a directory and a network of its own.
#
# usage: benches/promote.sh [ROUNDS]      (default 20)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ "${INSIDE:-}" != yes ]; then
    export INSIDE=yes
    exec unshare --net --mount --propagation private "$0" "$@"
fi
rounds=${1:-20}
binary=$(realpath "${KUKE_BIN:-target/release/kuke}")
unset "${!KUKEON_@}" "${!KUKE_@}"
ip link set lo up
# runc and kukeon have to see the same tree on a hybrid host.
if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then mount -t cgroup2 none /sys/fs/cgroup; fi

dir=$(mktemp -d /var/tmp/kuke-bench-XXXX)
daemon=''
finish() {
    set +e
    kill $daemon 2>/dev/null
    wait $daemon 2>/dev/null
    # Also ends the containerd that kukeond brought up.
    KUKEON_NO_DAEMON=true "$dir/kuke" uninstall --yes >/dev/null 2>&1
    findmnt -rno TARGET | grep "^$dir" | sort -r | xargs -r umount -l
    rm -rf "$dir"
}
trap finish EXIT

cp "$binary" "$dir/kuke"
ln "$dir/kuke" "$dir/kukeond"
cat >"$dir/kukeond.yaml" <<TEXT
apiVersion: v1beta1
kind: ServerConfiguration
metadata: {name: bench}
spec:
  runPath: $dir/k
  containerdSocket: $dir/none.sock
  containerdNamespaceSuffix: bench.test
  cgroupRoot: /kuke-bench-$$
  podSubnetCIDR: 10.201.0.0/16
TEXT
export HOME=$dir KUKEOND_CONFIGURATION=$dir/kukeond.yaml
"$dir/kukeond" serve --configuration "$dir/kukeond.yaml" 2>"$dir/log" &
daemon=$!
kuke() { "$dir/kuke" --host "unix://$dir/k/run/kukeond.sock" "$@"; }
for _ in $(seq 100); do
    if [ -S "$dir/k/run/kukeond.sock" ]; then break; fi
    sleep 0.1
done
kuke init >/dev/null

mkdir "$dir/app"
cat >"$dir/app/manifest.yaml" <<'TEXT'
apiVersion: v1beta1
kind: Cell
metadata: {name: web}
spec:
  realmId: default
  spaceId: default
  stackId: default
  containers: [{id: main, image: kukeon.internal/hello:latest}]
TEXT
kuke apply -f - >/dev/null <<TEXT
apiVersion: delivery.kokumi.dev/v1alpha1
kind: Kitchen
metadata: {name: default}
spec: {sourceRoots: [$dir/app]}
---
apiVersion: delivery.kokumi.dev/v1alpha1
kind: Recipe
metadata: {name: web}
spec: {source: {path: $dir/app}, target: {kuke: {minHealthy: 0s, healthTimeout: 20s}}}
TEXT

timed() { # series command...
    local name=$1 begin end
    shift
    begin=${EPOCHREALTIME/./}
    "$@" >/dev/null 2>&1 || { echo "failed: $*" && exit 1; }
    end=${EPOCHREALTIME/./}
    echo $((end - begin)) >>"$dir/times.$name"
}
for _ in $(seq "$rounds"); do
    timed run kuke run -d --name own --image kukeon.internal/hello
    kuke stop own --grace 0s >/dev/null 2>&1
    timed start kuke start own
    kuke delete cell own --grace 0s >/dev/null 2>&1
    timed promote kuke promote web --wait
    kuke delete serving web >/dev/null 2>&1
done

at() { sort -n "$dir/times.$1" | awk -v p="$2" '{v[NR] = $1} END {i = int(NR * p + 0.5); print v[i < 1 ? 1 : i] / 1000}'; }
echo "date      $(date -u +%Y-%m-%d)"
echo "machine   $(nproc) cores, $(awk '/MemTotal/ {printf "%.0f", $2 / 1048576}' /proc/meminfo) GiB, Linux $(uname -r), load $(cut -d' ' -f1-3 /proc/loadavg)"
echo "rounds    $rounds"
echo
printf '%-30s %8s %8s %8s\n' milliseconds median p10 p90
row() { printf '%-30s %8.1f %8.1f %8.1f\n' "$1" "$(at "$2" 0.5)" "$(at "$2" 0.1)" "$(at "$2" 0.9)"; }
row "kuke run -d" run
row "kuke start" start
row "kuke promote --wait" promote
awk -v p="$(at promote 0.5)" -v r="$(at run 0.5)" 'BEGIN {
    printf "\npromote to healthy: %.1f ms beside a start (wanted: at most 100)\n", p - r}'
