#!/usr/bin/env bash
# Measures the registry of kukeond against Debian's docker-registry, in one run
# on loopback: pushing and pulling blobs of 1 MB and 500 MB, manifests per
# second, memory. Contenders take turns, so that what else the machine does hits
# both. Needs root, the release binary, docker-registry, curl, apache2-utils (ab)
# and jq. Touches nothing outside a directory and a network of its own.
#
# usage: benches/registry.sh [ROUNDS]      (default 5)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ "${INSIDE:-}" != yes ]; then
    export INSIDE=yes
    exec unshare --net --mount --propagation private "$0" "$@"
fi
rounds=${1:-5}
kuke=$(realpath "${KUKE_BIN:-target/release/kuke}")
unset "${!KUKEON_@}" "${!KUKE_@}"
ip link set lo up

dir=$(mktemp -d /var/tmp/kuke-bench-XXXX)
ours='' theirs='' watcher=''
finish() {
    set +e
    kill $ours $theirs ${watcher:+"$watcher"} 2>/dev/null
    wait $ours $theirs ${watcher:+"$watcher"} 2>/dev/null
    # Also ends the containerd that kukeond brought up.
    KUKEON_NO_DAEMON=true "$dir/kuke" uninstall --yes >/dev/null 2>&1
    findmnt -rno TARGET | grep "^$dir" | sort -r | xargs -r umount -l
    rm -rf "$dir"
}
trap finish EXIT

# --- the two -----------------------------------------------------------------

cp "$kuke" "$dir/kuke"
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
  registry: {listen: "127.0.0.1:5050", anonymousPull: true}
TEXT
export HOME=$dir KUKEOND_CONFIGURATION=$dir/kukeond.yaml
"$dir/kukeond" serve --configuration "$dir/kukeond.yaml" 2>"$dir/kukeond.log" &
ours=$!
mkdir "$dir/d"
cat >"$dir/registry.yml" <<TEXT
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $dir/d}, cache: {blobdescriptor: inmemory}}
http: {addr: "127.0.0.1:5051"}
TEXT
docker-registry serve "$dir/registry.yml" 2>"$dir/registry.log" >&2 &
theirs=$!
for port in 5050 5051; do
    for _ in $(seq 100); do
        curl -s -o /dev/null "http://127.0.0.1:$port/v2/" && break
        sleep 0.1
    done
done
"$dir/kuke" --host "unix://$dir/k/run/kukeond.sock" registry login --username bench --allow '**=*' --store "$dir/login.json" >/dev/null
login=$(jq -r '.auths[].auth' "$dir/login.json" | base64 -d)

# --- measuring ---------------------------------------------------------------

# Clients log in once and then show a token, as they do with both.
token() { curl -s -u "$login" "http://127.0.0.1:5050/v2/token?scope=repository:$1:pull,push" | jq -r .token; }
ask() { # port repository, then curl's arguments
    local port=$1 auth=()
    if [ "$port" = 5050 ]; then auth=(-H "Authorization: Bearer $token"); fi
    shift 2
    # How long the exchange took goes to a file: starting curl is no work of a registry.
    curl -sS --fail -H Expect: -w '%{stderr}%{time_total}\n' "${auth[@]}" "$@" 2>"$dir/stderr" || { cat "$dir/stderr" >&2 && return 1; }
    cat "$dir/stderr" >>"$dir/spent"
}
# push PORT REPOSITORY FILE DIGEST
push() {
    local at
    at=$(ask "$1" "$2" -o /dev/null -D - -X POST "http://127.0.0.1:$1/v2/$2/blobs/uploads/" |
        tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
    case $at in /*) at="http://127.0.0.1:$1$at" ;; esac
    case $at in *\?*) at="$at&" ;; *) at="$at?" ;; esac
    ask "$1" "$2" -o /dev/null -H 'Content-Type: application/octet-stream' -T "$3" "${at}digest=$4"
}
pull() { ask "$1" "$2" -o /dev/null "http://127.0.0.1:$1/v2/$2/blobs/$4"; }
timed() { # series command...
    local name=$1
    shift
    : >"$dir/spent"
    "$@"
    awk '{t += $1} END {printf "%d\n", t * 1000000}' "$dir/spent" >>"$dir/times.$name"
}

median() { sort -n "$dir/times.$1" | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
# What both have resident, ten times a second, without a program for each look.
watch_memory() {
    local process key value rest
    while sleep 0.1; do
        for process in "$ours" "$theirs"; do
            while read -r key value rest; do
                if [ "$key" = VmRSS: ]; then echo "$value" >>"$dir/times.rss-$process"; fi
            done <"/proc/$process/status"
        done
    done
}
peak() { awk '/^VmHWM/ {printf "%.1f", $2 / 1024}' "/proc/$1/status"; }

# From here on they serve: bringing up containerd is no work of a registry
# (proc_pid_clear_refs(5)).
for process in "$ours" "$theirs"; do echo 5 >"/proc/$process/clear_refs"; done
watch_memory 2>/dev/null &
watcher=$!
for n in $(seq "$rounds"); do
    token=$(token bench)
    for size in 1 500; do
        head -c "${size}000000" /dev/urandom >"$dir/blob"
        digest=sha256:$(sha256sum "$dir/blob" | cut -d' ' -f1)
        order=(5050 5051)
        if [ $((n % 2)) = 0 ]; then order=(5051 5050); fi
        for port in "${order[@]}"; do
            # Nobody pays for what the other one left to be written.
            sync -f "$dir"
            timed "push$size-$port" push "$port" bench "$dir/blob" "$digest"
            timed "pull$size-$port" pull "$port" bench "$dir/blob" "$digest"
        done
        last[size]=$digest
    done
done

printf '{}' >"$dir/config"
config=sha256:$(sha256sum "$dir/config" | cut -d' ' -f1)
jq -nc "{schemaVersion: 2, mediaType: \"application/vnd.oci.image.manifest.v1+json\",
    config: {mediaType: \"application/vnd.oci.image.config.v1+json\", digest: \"$config\", size: 2},
    layers: [{mediaType: \"application/vnd.oci.image.layer.v1.tar\", digest: \"${last[1]}\", size: 1000000}]}" |
    tr -d '\n' >"$dir/manifest"
digest=sha256:$(sha256sum "$dir/manifest" | cut -d' ' -f1)
for port in 5050 5051; do
    token=$(token bench)
    push "$port" bench "$dir/config" "$config"
    ask "$port" bench -o /dev/null -X PUT -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' \
        --data-binary "@$dir/manifest" "http://127.0.0.1:$port/v2/bench/manifests/v1"
done
# gets SERIES PORT REFERENCE: requests per second
gets() {
    ab -q -k -n 20000 -c 8 -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
        "http://127.0.0.1:$2/v2/bench/manifests/$3" | tee "$dir/ab" |
        awk '/^Requests per second/ {printf "%d\n", $4}' >>"$dir/times.$1-$2"
    # Answers that are no success would be quick.
    if grep -q 'Non-2xx' "$dir/ab"; then cat "$dir/ab" && exit 1; fi
}
for n in $(seq "$rounds"); do
    for port in 5050 5051; do
        gets tag "$port" v1
        gets digest "$port" "$digest"
    done
done

kill "$watcher"
wait "$watcher" 2>/dev/null || true
watcher=''
echo "date      $(date -u +%Y-%m-%d)"
echo "machine   $(nproc) cores, $(awk '/MemTotal/ {printf "%.0f", $2 / 1048576}' /proc/meminfo) GiB, Linux $(uname -r), load $(cut -d' ' -f1-3 /proc/loadavg)"
echo "versions  $("$dir/kuke" --version), docker-registry $(docker-registry --version | awk '{print $3}')"
echo "rounds    $rounds"
echo
printf '%-30s %12s %16s %8s\n' median kukeond docker-registry ratio
row() { # text series better(less|more) divisor unit
    local a b
    a=$(median "$2-5050") b=$(median "$2-5051")
    awk -v t="$1" -v a="$a" -v b="$b" -v how="$3" -v d="$4" -v u="$5" 'BEGIN {
        r = how == "less" ? b / a : a / b
        printf "%-30s %9.1f %s %13.1f %s %8.2f\n", t, a / d, u, b / d, u, r}'
}
row "push 1 MB" push1 less 1000 ms
row "pull 1 MB" pull1 less 1000 ms
row "push 500 MB" push500 less 1000 ms
row "pull 500 MB" pull500 less 1000 ms
row "manifest by tag" tag more 1 /s
row "manifest by digest" digest more 1 /s
echo
echo "wanted: ratios of at least 1.5"
resident() { awk '/^VmRSS/ {printf "%.1f", $2 / 1024}' "/proc/$1/status"; }
memory() { # text ours theirs, in MiB
    awk -v t="$1" -v a="$2" -v b="$3" 'BEGIN {
        printf "%-22s kukeond %5.1f MiB (all of it), docker-registry %5.1f MiB, ratio %.2f\n", t, a, b, a / b}'
}
usual() { awk -v k="$(median "rss-$1")" 'BEGIN {printf "%.1f", k / 1024}'; }
echo "memory, wanted: a ratio of at most 0.50"
memory "while serving, median" "$(usual "$ours")" "$(usual "$theirs")"
memory "while serving, peak" "$(peak "$ours")" "$(peak "$theirs")"
sleep 15
memory "15 s later" "$(resident "$ours")" "$(resident "$theirs")"
