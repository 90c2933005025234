#!/bin/sh
# One durable job from curl's point of view: stored while no worker exists, kept through a kill -9 of the
# node, done by a worker that comes later, read and closed. Prints each step; ends with an error at the
# first answer that is not as documented.
#
#   sh openapi/curl/durable-job.sh
#
# HTTP_PORT and BROKER_PORT choose the ports (default: free ones), TITANIC the command (default: the one of
# .venv or of PATH), BODY the file to submit (default: LICENSE). Needs curl and wc; nothing is left behind.
set -eu
cd "$(dirname "$0")/../.."

if [ -z "${TITANIC:-}" ]; then
    TITANIC=.venv/bin/titanic
    [ -x "$TITANIC" ] || TITANIC=titanic
fi
BODY=${BODY:-LICENSE}
http_port=${HTTP_PORT:-0}
broker_port=${BROKER_PORT:-0}
dir=$(mktemp -d)
node='' gateway='' worker=''

cleanup() {
    status=$?
    trap - EXIT INT TERM
    for pid in $worker $gateway $node; do
        kill "$pid" 2>/dev/null || :
    done
    wait 2>/dev/null || :
    rm -rf "$dir"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() { printf '\n== %s\n' "$*"; }

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    for log in "$dir"/*.log; do
        [ -s "$log" ] && { printf '%s\n' "--- $log" && tail -n 20 "$log"; } >&2
    done
    exit 1
}

# until_true SECONDS WHAT COMMAND...: run COMMAND until it succeeds.
until_true() {
    tries=$(($1 * 10)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || fail "$what did not happen in time"
        sleep 0.1
    done
}

# ready_value KEY FILE: the value of KEY in the JSON line a process printed when it was ready.
ready_value() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" "$2"; }

# ask METHOD PATH [CURL ARGUMENTS]: leaves $status, $dir/head and $dir/body, and shows what came.
ask() {
    method=$1 path=$2
    shift 2
    status=$(curl -sS -m 30 -X "$method" -D "$dir/head" -o "$dir/body" -w '%{http_code}' "$@" "$url$path") ||
        fail "$method $path was not answered"
    printf '%s %s -> %s\n' "$method" "$path" "$status"
}

want() { [ "$status" = "$1" ] || fail "expected status $1, got $status: $(cat "$dir/body")"; }

# header NAME: its value in the last answer; fails if there is none.
header() {
    value=$(tr -d '\r' <"$dir/head" |
        awk -v name="$1:" 'tolower($1) == tolower(name) { sub(/^[^:]*: */, ""); print; exit }')
    [ -n "$value" ] || fail "no header $1"
    printf '%s\n' "$value"
}

start_node() {
    : >"$dir/node.out"
    $TITANIC node --data "$dir/data" --broker "$1" --json >"$dir/node.out" 2>>"$dir/node.log" &
    node=$!
    until_true 30 'the start of the node' grep -q broker "$dir/node.out"
    endpoint=$(ready_value broker "$dir/node.out")
}

step 'a node and a gateway, and no worker'
start_node "tcp://127.0.0.1:$broker_port"
$TITANIC gateway --nodes "$endpoint" --http "127.0.0.1:$http_port" --json >"$dir/gateway.out" 2>"$dir/gateway.log" &
gateway=$!
until_true 30 'the start of the gateway' grep -q http "$dir/gateway.out"
url=$(ready_value http "$dir/gateway.out")
until_true 30 'readiness' curl -sf -m 5 -o /dev/null "$url/readyz"
printf 'HTTP %s, broker %s\n' "$url" "$endpoint"

step "submit $BODY to the service wordcount"
ask POST /v1/services/wordcount/jobs --data-binary "@$BODY" -H 'Content-Type: text/plain'
want 202
job=$(header Location)
id=${job##*/}
printf '%s' "$id" | grep -Eqx '[0-9a-f]{32}' || fail "'$id' is no id"
grep -q "$id" "$dir/body" || fail "the body does not name the id: $(cat "$dir/body")"

step 'the reply is not there yet'
ask GET "$job/reply"
want 202
printf 'Retry-After: %s\n' "$(header Retry-After)"

step 'kill -9 the node, and start it again'
kill -9 "$node"
wait "$node" 2>/dev/null || :
start_node "$endpoint"
until_true 30 'readiness' curl -sf -m 5 -o /dev/null "$url/readyz"
ask GET "$job"
want 200

step 'a worker comes: wc -w'
$TITANIC worker wordcount --exec 'wc -w' --nodes "$endpoint" >"$dir/worker.out" 2>"$dir/worker.log" &
worker=$!

step 'the reply is there'
tries=0
ask GET "$job/reply" -H 'Prefer: wait=10'
while [ "$status" = 202 ] && [ "$tries" -lt 3 ]; do
    tries=$((tries + 1))
    ask GET "$job/reply" -H 'Prefer: wait=10'
done
want 200
got=$(tr -d ' \n' <"$dir/body")
expected=$(wc -w <"$BODY" | tr -d ' \n')
[ "$got" = "$expected" ] || fail "wc -w says $expected words, the reply says '$got'"
printf '%s words\n' "$got"

step 'close it, and it is gone'
ask DELETE "$job"
want 204
ask GET "$job/reply"
want 410
ask DELETE "$job"
want 204

step 'an id that was never issued, and what is no id'
ask GET /v1/jobs/00000000000000000000000000000000/reply
want 404
ask GET /v1/jobs/iceberg/reply
want 400

step 'every process stops by itself'
for pid in $worker $gateway $node; do
    kill "$pid"
    wait "$pid" || fail "a process ended with exit code $?"
done
worker='' gateway='' node=''
step 'all as documented'
