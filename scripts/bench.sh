#!/usr/bin/env bash
# Starts a gateway on an empty data directory, and one beside it to replicate with; drives it with `tidegate bench`, stops both.
# With "peers", drives pouchdb-server (npm, test/bench) in the same run too.
set -euo pipefail
cd "$(dirname "$0")/.."
data=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$data"' EXIT

up() { # url: waits until it answers
  for _ in $(seq 100); do
    curl -sf "$1" >/dev/null && return
    sleep 0.1
  done
  echo "$1 does not answer" >&2
  return 1
}

./bin/tidegate serve --data "$data/tidegate" --public 127.0.0.1:14984 --admin 127.0.0.1:14985 --metrics 127.0.0.1:14986 --log-level warn &
pid=$!
./bin/tidegate serve --data "$data/peer" --public 127.0.0.1:24984 --admin 127.0.0.1:24985 --metrics 127.0.0.1:24986 --log-level warn &
peer=$!
up http://127.0.0.1:14985/_ping
up http://127.0.0.1:24985/_ping
./bin/tidegate bench --url http://127.0.0.1:14984 --admin http://127.0.0.1:14985 --pid $pid \
  --peer http://127.0.0.1:24984 --peer-admin http://127.0.0.1:24985 --peer-pid $peer ${BENCH_FLAGS:-}
kill $pid $peer
wait $pid $peer || true

if [ "${1:-}" = peers ]; then
  [ -d test/bench/node_modules ] || (cd test/bench && npm ci --no-audit --no-fund --loglevel=error)
  mkdir "$data/pouchdb"
  cp -rs "$PWD/test/bench/node_modules" "$data/pouchdb/"
  (cd "$data/pouchdb" && exec node node_modules/.bin/pouchdb-server --port 15984 --dir "$data/pouchdb/db" --no-stdout-logs) &
  pid=$!
  up http://127.0.0.1:15984/
  ./bin/tidegate bench --url http://127.0.0.1:15984 --couch --pid $pid ${BENCH_FLAGS:-}
fi
