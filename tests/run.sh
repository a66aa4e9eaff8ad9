#!/usr/bin/env bash
# Runs everything a change must pass: gates, unit tests, release build and
# end-to-end tests against real containerd, runc and CNI plugins on this host.
# The last line is `N passed, N failed, N skipped`.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
unset "${!KUKEON_@}" "${!KUKE_@}"

usage() {
    cat <<'TEXT'
usage: ./tests/run.sh [--only gates|unit|e2e|cluster|containerd|install|vm]...
                      [--no-install] [FILTER...]

  --only STAGE   run this stage only; may be given several times. `cluster`
                 runs only when it is named: it builds a Kubernetes API server
                 (Go, ten minutes) and tests Argo CD's target and Menus against it. So
                 does `vm`: it installs kukeon in a virtual machine (qemu, ten
                 minutes), reboots it and cuts its power. `containerd` builds
                 containerd 1.7 and 2.1 with runc 1.3 (Go, five minutes) and
                 runs a part of the end-to-end tests on each, and with crun;
                 `install` runs install.sh from source in a bare Debian
  --no-install   install no package; what is missing is skipped or fails
  FILTER         run only the end-to-end tests whose names contain it

Run as root, or as a user who may use sudo.
TEXT
}

stages='' install=yes filters=()
while [ $# -gt 0 ]; do
    case $1 in
        --only)
            case ${2:-} in gates | unit | e2e | cluster | containerd | install | vm) stages="$stages $2" ;; *) usage >&2; exit 2 ;; esac
            shift
            ;;
        --no-install) install=no ;;
        -h | --help) usage; exit 0 ;;
        -*) usage >&2; exit 2 ;;
        *) filters+=("$1") ;;
    esac
    shift
done
wanted() { [ -z "$stages" ] || [[ " $stages " == *" $1 "* ]]; }

if [ "$(id -u)" = 0 ]; then
    as_root() { "$@"; }
elif command -v sudo >/dev/null; then
    as_root() { sudo -- "$@"; }
else
    as_root() { echo "tests/run.sh: this needs root for: $*; there is no sudo here, so run it as root" >&2; return 1; }
fi
export PATH="$PATH:${HOME:-/root}/.cargo/bin:/usr/local/sbin:/usr/sbin:/sbin"

passed=0 failed=0 skipped=0 failures=()
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
title() { printf '\n== %s (%(%H:%M:%S)T)\n' "$1" -1; }

# gate NAME COMMAND...: one check that passes or fails as a whole.
gate() {
    local name=$1
    shift
    title "$name"
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1)) failures+=("$name")
    fi
}
skip() {
    echo "skipped: $1: $2"
    skipped=$((skipped + 1))
}

# counted NAME LOG CODE: adds up the `test result:` lines of a log. A unit test
# that could not run says `skipped: …` and passes; it is counted as skipped.
counted() {
    local name=$1 log=$2 code=$3 p f i s
    read -r p f i < <(sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed; \([0-9]*\) ignored.*/\1 \2 \3/p' "$log" |
        awk '{p += $1; f += $2; i += $3} END {print p + 0, f + 0, i + 0}')
    s=0
    if [ "$name" != e2e ]; then s=$(grep -ciE '^skipped[: ]' "$log"); fi
    # A crash or a build that failed leaves no failed test to count.
    if [ "$code" != 0 ] && [ "$f" = 0 ]; then f=1; fi
    if [ "$code" = 0 ] && [ $((p + f + i)) = 0 ]; then f=1; echo "no test was run"; fi
    passed=$((passed + p - s)) failed=$((failed + f)) skipped=$((skipped + i + s))
    if [ "$f" != 0 ]; then failures+=("$name: $f"); fi
}

# Builds the program as it is installed, once: `$binary`.
binary='' harness=''
built() {
    if [ -n "$binary" ]; then return; fi
    binary=${CARGO_TARGET_DIR:-target}/release/kuke
    gate "release build" cargo rustc --quiet --locked --release --bin kuke -- -C target-feature=+crt-static
}

# end_to_end LOG VARIABLE=VALUE... -- ARGUMENT...: runs them on the built binary.
end_to_end() {
    local log=$1 variables=()
    shift
    while [ "$1" != -- ]; do variables+=("$1") && shift; done
    shift
    if [ -z "$harness" ]; then
        harness=$(cargo test --quiet --locked --no-run --test e2e --message-format json |
            sed -n 's/.*"executable":"\([^"]*\/e2e-[^"]*\)".*/\1/p' | tail -n 1)
    fi
    if [ -z "$harness" ] || [ ! -x "$binary" ]; then
        failed=$((failed + 1)) failures+=("e2e: no binary to test")
        return
    fi
    as_root env "PATH=$PATH" "KUKE_BIN=$(realpath "$binary")" "${variables[@]}" "$harness" "$@" 2>&1 | tee "$logs/$log"
    counted e2e "$logs/$log" "${PIPESTATUS[0]}"
}

# --- what the tests need -----------------------------------------------------

prerequisites() {
    local pair missing=()
    # command or file, then Debian's package
    for pair in containerd:containerd ctr:containerd runc:runc nft:nftables ip:iproute2 protoc:protobuf-compiler \
        cc:gcc /usr/lib/cni/bridge:containernetworking-plugins /bin/busybox:busybox-static skopeo:skopeo \
        docker-registry:docker-registry htpasswd:apache2-utils jq:jq curl:curl shellcheck:shellcheck openssl:openssl \
        script:bsdutils nsenter:util-linux systemd-socket-activate:systemd chromium:chromium chromedriver:chromium-driver \
        podman:podman zstd:zstd iptables-save:iptables python3:python3; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    python3 -c 'import yaml' 2>/dev/null || missing+=(python3-yaml)
    if [ -e /bin/busybox ] && ! /bin/busybox --list >/dev/null 2>&1; then missing+=(busybox-static); fi
    if [ ${#missing[@]} = 0 ]; then return; fi
    echo "missing: ${missing[*]}"
    if [ $install = no ]; then return; fi
    if ! command -v apt-get >/dev/null; then
        echo "no apt-get here: install these by hand (names are Debian's)"
        return
    fi
    as_root apt-get -qq update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 \
        install "${missing[@]}" >/dev/null
}

cargo_deny() {
    if cargo deny --version >/dev/null 2>&1; then return; fi
    [ $install = yes ] || return 1
    echo "building cargo-deny (two minutes, once)"
    cargo install --quiet --locked cargo-deny --version 0.20.2
}

# Programs that Debian does not have, of fixed versions, built once into target/.
# What cannot be had is skipped by the tests that want it.
go_tools() {
    local dir pair name
    dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")/tools
    export PATH="$PATH:$dir"
    if [ $install = no ] || ! command -v go >/dev/null; then return; fi
    mkdir -p "$dir"
    for pair in oras=oras.land/oras/cmd/oras@v1.2.3 \
        helm=helm.sh/helm/v3/cmd/helm@v3.19.5 \
        kustomize=sigs.k8s.io/kustomize/kustomize/v5@v5.7.1 \
        crane=github.com/google/go-containerregistry/cmd/crane@v0.20.3 \
        oci-conformance=github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111; do
        name=${pair%%=*}
        if command -v "$name" >/dev/null; then continue; fi
        echo "building $name (Go, once)"
        rm -rf "$dir/.new"
        if GOBIN=$dir/.new GOFLAGS='' CGO_ENABLED=0 timeout 600 go install -trimpath -ldflags '-s -w' "${pair#*=}" >"$logs/go" 2>&1; then
            # It has the name of its directory, whatever that is.
            mv "$dir"/.new/* "$dir/$name"
        else
            echo "$name cannot be built: $(tail -n 1 "$logs/go")"
        fi
    done
    # Ours, around the clients of Argo CD and Flux.
    for name in argocd flux; do
        if [ "$dir/$name-pull" -nt "tests/registry/$name/main.go" ] &&
            [ "$dir/$name-pull" -nt "tests/registry/$name/go.mod" ]; then continue; fi
        echo "building $name-pull (Go, once)"
        if ! GOFLAGS='' CGO_ENABLED=0 timeout 600 go build -C "tests/registry/$name" -buildvcs=false -trimpath \
            -ldflags '-s -w' -o "$dir/$name-pull" . >"$logs/go" 2>&1; then
            echo "$name-pull cannot be built: $(tail -n 1 "$logs/go")"
        fi
    done
}

# Docker without its service: just the programs, beside the others.
docker_tools() {
    local dir
    dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")/tools
    if [ $install = no ] || command -v dockerd >/dev/null || ! command -v apt-get >/dev/null; then return; fi
    rm -rf "$dir/.docker"
    mkdir -p "$dir/.docker"
    if (cd "$dir/.docker" && apt-get -qq download docker.io && dpkg-deb -x docker.io_*.deb .) >"$logs/docker" 2>&1; then
        mv "$dir/.docker/usr/bin/docker" "$dir/.docker/usr/sbin/dockerd" "$dir/"
    else
        echo "docker cannot be had: $(tail -n 1 "$logs/docker")"
    fi
    rm -rf "$dir/.docker"
}

# --- stages ------------------------------------------------------------------

title "prerequisites"
if ! command -v cargo >/dev/null; then
    echo "the Rust toolchain is missing: see https://rustup.rs"
    exit 1
fi
prerequisites

if wanted gates; then
    scripts=(install.sh tests/run.sh tests/vm/*.sh tests/install/*.sh .ci/run benches/*.sh)
    if command -v shellcheck >/dev/null; then gate shellcheck shellcheck "${scripts[@]}"
    else skip shellcheck "shellcheck is not installed"; fi
    gate format cargo fmt --check
    gate lints cargo clippy --quiet --locked --all-targets -- -D warnings
    title "dependency policy"
    if cargo_deny; then gate "dependency policy" cargo deny --locked check bans licenses sources
    else skip "dependency policy" "cargo-deny is not installed and could not be built"; fi
fi

if wanted unit || wanted e2e; then
    title tools
    go_tools
    docker_tools
fi

if wanted unit; then
    title unit
    targets=(--lib --bins)
    for file in tests/*.rs tests/*/main.rs; do
        name=${file#tests/} name=${name%/main.rs} name=${name%.rs}
        if [ -e "$file" ] && [ "$name" != e2e ]; then targets+=(--test "$name"); fi
    done
    if [ "$(id -u)" != 0 ]; then
        # Built as the user, run as root: most of them work on the real kernel.
        host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
        export "CARGO_TARGET_${host}_RUNNER=sudo --preserve-env --"
    fi
    cargo test --quiet --locked --no-fail-fast "${targets[@]}" -- --show-output 2>&1 | tee "$logs/unit" |
        grep -vE '^(successes:|---- .* stdout ----|)$'
    counted unit "$logs/unit" "${PIPESTATUS[0]}"
fi

if wanted e2e; then
    built
    title e2e
    end_to_end e2e -- "${filters[@]}"
fi

if [[ " $stages " == *" cluster "* ]]; then
    title cluster
    if ! command -v go >/dev/null; then skip cluster "the Go toolchain is not installed"
    else
        if ! command -v etcd >/dev/null && [ $install = yes ]; then
            as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install etcd-server >/dev/null
        fi
        dir=$(realpath "${CARGO_TARGET_DIR:-target}")/apiserver
        mkdir -p "$dir"
        (cd tests/argocd/apiserver && CGO_ENABLED=0 go build -ldflags '-s -w' -o "$dir/kube-apiserver" .) || failures+=("cluster: no API server")
        schema=$(cd "$dir" && go mod download -json github.com/argoproj/argo-cd/v3@v3.3.0 | jq -r .Dir)/manifests/crds/application-crd.yaml
        parts=("KUBE_APISERVER=$dir/kube-apiserver" "ARGOCD_CRD=$schema")
        env "${parts[@]}" cargo test --quiet --locked --test argocd -- --show-output 2>&1 | tee "$logs/cluster"
        counted cluster "$logs/cluster" "${PIPESTATUS[0]}"
        built
        end_to_end cluster-e2e "${parts[@]}" -- --test-threads 2 cluster::
    fi
fi

# e2e_with DIR: the part of the end-to-end tests that meets containerd, with the
# programs in DIR before the system's.
e2e_with() {
    title "containerd: ${1##*/}"
    end_to_end "containerd-${1##*/}" "KUKE_CONTAINERD=$1" -- --test-threads 2 \
        apply:: lifecycle:: images:: daemon:: graces:: output:: cleanup:: containerd_dies "${filters[@]}"
}

if [[ " $stages " == *" containerd "* ]]; then
    title containerd
    dir=$(realpath "${CARGO_TARGET_DIR:-target}")/containerd
    built
    if [ $install = yes ] && command -v apt-get >/dev/null; then
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 \
            install libseccomp-dev pkg-config crun >/dev/null
    fi
    if ! command -v go >/dev/null; then skip containerd "the Go toolchain is not installed"
    else
        leave='no_btrfs no_devmapper no_zfs no_cri'
        for version in v1.7 v2; do
            mkdir -p "$dir/$version"
            gate "build containerd $version" env -C "tests/containerd/$version" CGO_ENABLED=0 \
                go build -tags "$leave" -ldflags '-s -w' -o "$dir/$version/" tool
        done
        # runc's own start is written in C, and so is libseccomp.
        gate "build runc" env -C tests/containerd/runc CGO_ENABLED=1 go build -tags seccomp -ldflags '-s -w' -o "$dir/v2/" tool
        for version in v1.7 v2; do e2e_with "$dir/$version"; done
    fi
    if ! command -v crun >/dev/null; then skip crun "crun is not installed"
    elif ! as_root prlimit --memlock=unlimited:unlimited true; then
        # It does so for every container, to load its device filter.
        skip crun "crun raises the limit of locked memory, which this machine refuses"
    else
        # containerd's shim asks for runc by name.
        mkdir -p "$dir/crun"
        ln -sf "$(command -v crun)" "$dir/crun/runc"
        e2e_with "$dir/crun"
    fi
fi

if [[ " $stages " == *" install "* ]]; then
    title install
    if ! command -v mmdebstrap >/dev/null && [ $install = yes ] && command -v apt-get >/dev/null; then
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 \
            install mmdebstrap >/dev/null
    fi
    as_root env "PATH=$PATH" "HOME=$HOME" tests/install/run.sh 2>&1 | tee "$logs/install"
    counted install "$logs/install" "${PIPESTATUS[0]}"
fi

if [[ " $stages " == *" vm "* ]]; then
    title vm
    if [ $install = yes ] && command -v apt-get >/dev/null; then
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 \
            install qemu-system-x86 mmdebstrap e2fsprogs busybox-static >/dev/null
    fi
    built
    as_root tests/vm/run.sh --binary "$binary" 2>&1 | tee "$logs/vm"
    counted vm "$logs/vm" "${PIPESTATUS[0]}"
fi

title summary
if [ ${#failures[@]} -gt 0 ]; then printf 'failed: %s\n' "${failures[@]}"; fi
grep -hs '^skipped: ' "$logs"/* || true
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
