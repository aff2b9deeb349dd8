#!/usr/bin/env bash
# Runs the Node.js, Go and Java 4 drivers against a running Coffer: cql-tests/other-clients.sh HOST PORT [node|go|java ...]
# Each needs its own tools (npm; go; JDK 17 and Maven) and says so when they are missing.
set -eu
cd "$(dirname "$0")"
host=${1:?HOST} port=${2:?PORT}
shift 2
[ $# -gt 0 ] || set -- node go java
failed=0
for suite in "$@"; do
    case $suite in
    node)
        command -v npm >/dev/null || { echo "node: npm is missing" >&2; failed=1; continue; }
        (cd node && npm install --silent --no-fund --no-audit && node clients.js "$host" "$port") || failed=1 ;;
    go)
        command -v go >/dev/null || { echo "go: the Go toolchain is missing" >&2; failed=1; continue; }
        (cd go && go mod tidy >/dev/null 2>&1 && go run . "$host:$port") || failed=1 ;;
    java)
        command -v mvn >/dev/null || { echo "java: Maven (and JDK 17) is missing" >&2; failed=1; continue; }
        (cd java && mvn -q -B compile exec:java -Dexec.args="$host $port") || failed=1 ;;
    *)
        echo "$suite: not one of node, go, java" >&2
        failed=1 ;;
    esac
done
exit $failed
