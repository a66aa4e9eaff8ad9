#!/usr/bin/env bash
# Measures, on one containerd and in one run: starting a networked cell against
# `ctr run -d` (no network) and `runc run -d`; `kuke get cells`; the daemon's
# memory. Contenders take turns, so that what else the machine does hits all.
# Needs root, the release binary, busybox-static and jq. Touches nothing
# outside a directory, a network and a mount namespace of its own.
#
# usage: benches/cell.sh [ROUNDS] [CELLS]      (defaults 25 and 200)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ "${INSIDE:-}" != yes ]; then
    export INSIDE=yes
    exec unshare --net --mount --propagation private "$0" "$@"
fi
rounds=${1:-25} cells=${2:-200}
kuke=$(realpath "${KUKE_BIN:-target/release/kuke}")
unset "${!KUKEON_@}" "${!KUKE_@}"

dir=$(mktemp -d /var/tmp/kuke-bench-XXXX)
socket=$dir/containerd.sock
daemon='' engine=''
finish() {
    set +e
    HOME=$dir KUKEON_NO_DAEMON=true "$dir/kuke" uninstall --yes >/dev/null 2>&1
    for id in $(ctr -a "$socket" -n bench tasks ls -q); do ctr -a "$socket" -n bench tasks rm -f "$id" >/dev/null 2>&1; done
    for id in $(runc --root "$dir/runc" list -q); do runc --root "$dir/runc" delete -f "$id"; done
    kill $daemon $engine 2>/dev/null
    wait $daemon $engine 2>/dev/null
    rmdir "/sys/fs/cgroup/kuke-bench-$$" /sys/fs/cgroup/bench 2>/dev/null
    findmnt -rno TARGET | grep "^$dir" | sort -r | xargs -r umount -l
    rm -rf "$dir"
}
trap finish EXIT

# --- a machine of its own ----------------------------------------------------

ip link set lo up
[ -e /sys/fs/cgroup/cgroup.controllers ] || mount -t cgroup2 none /sys/fs/cgroup
cp "$kuke" "$dir/kuke"
ln "$dir/kuke" "$dir/kukeond"
cat >"$dir/containerd.toml" <<TEXT
version = 2
root = "$dir/root"
state = "$dir/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$socket"
TEXT
containerd -c "$dir/containerd.toml" >"$dir/containerd.log" 2>&1 &
engine=$!
for _ in $(seq 100); do ctr -a "$socket" version >/dev/null 2>&1 && break; sleep 0.1; done

settings="  runPath: $dir/k
  containerdSocket: $socket
  containerdNamespaceSuffix: bench.test
  cgroupRoot: /kuke-bench-$$
  podSubnetCIDR: 10.200.0.0/16"
mkdir -p "$dir/.kuke"
export HOME=$dir
printf 'apiVersion: v1beta1\nkind: ClientConfiguration\nmetadata: {name: bench}\nspec:\n  host: unix://%s\n%s\n' \
    "$dir/k/run/kukeond.sock" "$settings" >"$dir/.kuke/kuke.yaml"
printf 'apiVersion: v1beta1\nkind: ServerConfiguration\nmetadata: {name: bench}\nspec:\n%s\n' "$settings" >"$dir/kukeond.yaml"
export KUKEOND_CONFIGURATION=$dir/kukeond.yaml
"$dir/kukeond" serve --configuration "$dir/kukeond.yaml" 2>"$dir/kukeond.log" &
daemon=$!
for _ in $(seq 100); do [ -S "$dir/k/run/kukeond.sock" ] && break; sleep 0.1; done
kuke() { "$dir/kuke" "$@"; }
kuke init >/dev/null

# One image for all: busybox as an OCI layout.
mkdir -p "$dir/bundle/rootfs/bin" "$dir/oci/blobs/sha256"
cp /bin/busybox "$dir/bundle/rootfs/bin/"
for applet in sh sleep; do ln -s busybox "$dir/bundle/rootfs/bin/$applet"; done
mkdir "$dir/bundle/rootfs/"{proc,sys,dev,etc}
blob() { # file -> "digest size", stored
    local digest
    digest=$(sha256sum "$1" | cut -d' ' -f1)
    cp "$1" "$dir/oci/blobs/sha256/$digest"
    echo "$digest $(stat -c %s "$1")"
}
tar -C "$dir/bundle/rootfs" --owner=0 --group=0 -cf "$dir/layer" .
read -r layer layer_size < <(blob "$dir/layer")
arch=$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')
jq -nc "{architecture: \"$arch\", os: \"linux\", config: {Cmd: [\"/bin/sh\"], Env: [\"PATH=/bin\"]},
    rootfs: {type: \"layers\", diff_ids: [\"sha256:$layer\"]}}" >"$dir/config"
read -r config config_size < <(blob "$dir/config")
jq -nc "{schemaVersion: 2, mediaType: \"application/vnd.oci.image.manifest.v1+json\",
    config: {mediaType: \"application/vnd.oci.image.config.v1+json\", digest: \"sha256:$config\", size: $config_size},
    layers: [{mediaType: \"application/vnd.oci.image.layer.v1.tar\", digest: \"sha256:$layer\", size: $layer_size}]}" >"$dir/manifest"
read -r manifest manifest_size < <(blob "$dir/manifest")
jq -nc "{schemaVersion: 2, manifests: [{mediaType: \"application/vnd.oci.image.manifest.v1+json\",
    digest: \"sha256:$manifest\", size: $manifest_size, platform: {architecture: \"$arch\", os: \"linux\"},
    annotations: {\"io.containerd.image.name\": \"docker.io/library/box:latest\"}}]}" >"$dir/oci/index.json"
echo '{"imageLayoutVersion":"1.0.0"}' >"$dir/oci/oci-layout"
tar -C "$dir/oci" -cf "$dir/box.tar" .
kuke image load "$dir/box.tar" >/dev/null
ctr -a "$socket" -n bench images import "$dir/box.tar" >/dev/null
(cd "$dir/bundle" && runc spec)
jq '.process.terminal = false | .process.args = ["/bin/sleep", "1000"]' "$dir/bundle/config.json" >"$dir/spec"
mv "$dir/spec" "$dir/bundle/config.json"

# --- measuring ---------------------------------------------------------------

# timed NAME COMMAND...: appends milliseconds to $dir/times.NAME
timed() {
    local name=$1 begin end
    shift
    begin=$EPOCHREALTIME
    "$@" >/dev/null
    end=$EPOCHREALTIME
    echo $((${end/./} - ${begin/./})) >>"$dir/times.$name"
}
# percentile NAME P
percentile() { sort -n "$dir/times.$1" | awk -v p="$2" '{v[NR] = $1} END {printf "%.1f", v[int((NR - 1) * p / 100 + 0.5) + 1] / 1000}'; }
row() { printf '%-38s %10s %10s %10s\n' "$@"; }
resident() { awk '/^VmRSS/ {printf "%.1f", $2 / 1024}' "/proc/$daemon/status"; }
# Pages of its own, without those of the program file that can be dropped.
anonymous() { awk '/^RssAnon/ {printf "%.1f", $2 / 1024}' "/proc/$daemon/status"; }

one_round() { # prefix of the series
    timed "$1kuke" kuke run -d --name probe --image box -- /bin/sleep 1000
    # Its default of 1024 shares needs a cpu controller, which not every host has.
    timed "$1ctr" ctr -a "$socket" -n bench run -d --cpu-shares 0 docker.io/library/box:latest probe /bin/sleep 1000
    timed "$1runc" runc --root "$dir/runc" run -d --bundle "$dir/bundle" probe </dev/null 2>/dev/null
    timed "$1kuke-delete" kuke delete cell probe --grace 0
    ctr -a "$socket" -n bench tasks rm -f probe >/dev/null
    ctr -a "$socket" -n bench containers rm probe
    runc --root "$dir/runc" delete -f probe
}

# Every 30 seconds the daemon gives back what work that is over has left.
sleep 35
idle="$(resident) MiB, own pages $(anonymous) MiB"
for _ in 1 2 3; do one_round warm-up-; done
for _ in $(seq "$rounds"); do one_round ''; done
kuke run -d --name one --image box -- /bin/sleep 1000 >/dev/null
for _ in $(seq "$rounds"); do timed get-1 kuke get cells; done
for n in $(seq $((cells - 1))); do
    printf -- '---\napiVersion: v1beta1\nkind: Cell\nmetadata: {name: c%s}\nspec:\n  realmId: default\n  spaceId: default\n  stackId: default\n  containers: [{id: main, image: box, command: /bin/sleep, args: ["1000"]}]\n' "$n"
done >"$dir/many.yaml"
begin=$EPOCHREALTIME
kuke apply -f "$dir/many.yaml" >/dev/null
end=$EPOCHREALTIME
apply_all=$(((${end/./} - ${begin/./}) / 1000))
sleep 3
for _ in $(seq "$rounds"); do
    timed get-many kuke get cells
    timed get-json kuke get cells -o json
    timed version kuke --version
done
sleep 35
busy="$(resident) MiB, own pages $(anonymous) MiB"

echo "date      $(date -u +%Y-%m-%d)"
echo "machine   $(nproc) cores, $(awk '/MemTotal/ {printf "%.0f", $2 / 1048576}' /proc/meminfo) GiB, Linux $(uname -r), load $(cut -d' ' -f1-3 /proc/loadavg)"
echo "versions  $(kuke --version), containerd $(containerd --version | awk '{print $3}'), $(runc --version | head -n 1)"
echo "rounds    $rounds"
echo
row "milliseconds" median p10 p90
for series in kuke:"kuke run -d, networked" ctr:"ctr run -d, no network" runc:"runc run -d, no network" \
    kuke-delete:"kuke delete cell --grace 0" get-1:"kuke get cells, 1 cell" get-many:"kuke get cells, $cells cells" \
    get-json:"kuke get cells -o json, $cells cells" version:"kuke --version"; do
    name=${series%%:*}
    row "${series#*:}" "$(percentile "$name" 50)" "$(percentile "$name" 10)" "$(percentile "$name" 90)"
done
row "apply of $((cells - 1)) cells, per cell" "$((apply_all / (cells - 1)))" - -
echo
awk -v k="$(percentile kuke 50)" -v c="$(percentile ctr 50)" -v r="$(percentile runc 50)" 'BEGIN {
    printf "kuke run -d / ctr run -d    %.2f (wanted: at most 1.30)\n", k / c
    printf "kuke run -d / runc run -d   %.2f\n", k / r}'
echo "get cells at $cells             $(percentile get-many 50) ms (wanted: at most 10)"
echo "daemon idle                 $idle (wanted: at most 20)"
echo "daemon with $cells cells       $busy"
