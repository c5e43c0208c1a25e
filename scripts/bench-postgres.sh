#!/usr/bin/env bash
# The load table of `tidegate bench` for a data directory, and for PostgreSQL under one node and under three, in one run on this machine.
# The PostgreSQL server is started for it, with its defaults, on a free port and a directory that is removed afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(dirname "$(ls -d /usr/lib/postgresql/*/bin/initdb | tail -1)")
data=$(mktemp -d)
port=${PGPORT:-25432}
as=()
if [ "$(id -u)" = 0 ]; then # PostgreSQL refuses root
  as=(setpriv --reuid postgres --regid postgres --init-groups)
  chmod 755 "$data"
fi
finish() {
  kill $(jobs -p) 2>/dev/null || true
  wait 2>/dev/null || true
  "${as[@]}" "$bin/pg_ctl" -D "$data/pg/data" -m fast stop >/dev/null 2>&1 || true
  rm -rf "$data"
}
trap finish EXIT

mkdir "$data/pg"
[ ${#as[@]} = 0 ] || chown postgres: "$data/pg"
(cd "$data/pg" && "${as[@]}" "$bin/initdb" -D data -U postgres -A trust >/dev/null && "${as[@]}" "$bin/pg_ctl" -D data -o "-p $port -c listen_addresses=127.0.0.1 -k $data/pg -c max_connections=300" -l log -w start >/dev/null)

up() { # url: waits until it answers
  for _ in $(seq 200); do
    curl -sf "$1" >/dev/null && return
    sleep 0.1
  done
  echo "$1 does not answer" >&2
  return 1
}

head -c 32 /dev/urandom | base64 >"$data/key"
pids=()
node() { # number, store ("" is a data directory)
  TIDEGATE_STORE=$2 ./bin/tidegate serve --data "$data/$1" --secrets-key-file "$data/key" --log-level warn \
    --public "127.0.0.1:1${1}984" --admin "127.0.0.1:1${1}985" --metrics "127.0.0.1:1${1}986" &
  pids+=($!)
  up "http://127.0.0.1:1${1}985/_ping"
}
drive() { # --also
  ./bin/tidegate bench --url http://127.0.0.1:11984 --admin http://127.0.0.1:11985 --pid "$(IFS=,; echo "${pids[*]}")" \
    --only put,bulk,get,changes,latency --clients 1,8,32,128 --documents 20000 "$@" ${BENCH_FLAGS:-} 2>/dev/null
}
stop() {
  kill "${pids[@]}"
  wait "${pids[@]}" || true
  pids=()
}

echo "== data directory"
node 1 ""
drive
stop
url=postgres://postgres@127.0.0.1:$port/postgres
echo "== PostgreSQL, one node"
node 1 "$url"
drive
echo "== PostgreSQL, three nodes"
node 2 "$url"
node 3 "$url"
drive --also http://127.0.0.1:12984,http://127.0.0.1:13984
stop
