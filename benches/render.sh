#!/usr/bin/env bash
# Measures rendering a bundle of 500 documents with 20 patches: the whole
# `kuke recipe render`, start of the program included. Needs the release binary.
#
# usage: benches/render.sh [ROUNDS]      (default 25; target: median ≤ 200 ms)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rounds=${1:-25}
kuke=$(realpath "${KUKE_BIN:-target/release/kuke}")
unset "${!KUKEON_@}" "${!KUKE_@}"
dir=$(mktemp -d /var/tmp/kuke-bench-XXXX)
trap 'rm -rf "$dir"' EXIT
export HOME=$dir
mkdir "$dir/bundle"

for n in $(seq 0 499); do
    cat <<TEXT
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: app-$n
  labels: {app: app-$n, tier: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: app-$n}}
  template:
    metadata: {labels: {app: app-$n}}
    spec:
      containers:
        - name: web
          image: example.com/app:$n
          args: ["--port=8080", "--mode=on", "yes"]
          env:
            - {name: A, value: "1"}
            - {name: B, value: "two words"}
          resources: {limits: {memory: 64Mi, cpu: 100m}}
TEXT
done >"$dir/bundle/manifest.yaml"
{
    printf '%s\n' 'apiVersion: delivery.kokumi.dev/v1alpha1' 'kind: Recipe' \
        'metadata: {name: bench}' 'spec:' '  source: {path: '"$dir"'/bundle}' \
        '  target: {type: argocd}' '  patches:'
    for n in $(seq 0 19); do
        echo "    - target: {kind: Deployment, name: app-$((n * 25))}"
        echo "      set: {'.spec.template.spec.containers[name=web].image': 'x:$n', '.spec.replicas': '$n'}"
    done
} >"$dir/recipe.yaml"

for _ in $(seq "$rounds"); do
    start=$(date +%s%N)
    "$kuke" recipe render --check -f "$dir/recipe.yaml" >/dev/null
    echo $((($(date +%s%N) - start) / 1000))
done | sort -n | awk '{t[NR] = $1} END {
    printf "500 documents, 20 patches: median %.1f ms, best %.1f ms, worst %.1f ms of %d\n",
        t[int((NR + 1) / 2)] / 1000, t[1] / 1000, t[NR] / 1000, NR }'
