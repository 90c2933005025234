#!/bin/sh
# Find the jobs that failed for good, and run them again once the worker is repaired.
#
#   sh openapi/curl/retry-dead-letters.sh
set -eu
. "$(dirname "$0")/setup.inc"

start_server

step 'a worker that is broken, and three jobs that may be tried once'
start_worker resize 'echo no such image >&2; exit 1'
for number in 1 2 3; do
    ask POST '/v1/services/resize/jobs?attempts=1' -d "image $number"
    want 202
    wait_reply "$(header Location)"
    want 409
done
printf 'last error: %s\n' "$(member last_error)"

step 'the dead letters'
ask GET '/v1/jobs?service=resize&state=failed'
want 200
ids >"$dir/ids"
[ "$(wc -l <"$dir/ids" | tr -d ' ')" = 3 ] || fail "not three: $(cat "$dir/body")"

step 'repair the worker'
kill "$worker"
wait "$worker" 2>/dev/null || :
start_worker resize 'cat'

step 'retry each, and fetch its reply'
while read -r id; do
    ask POST "/v1/jobs/$id:retry"
    want 200
    wait_reply "/v1/jobs/$id"
    want 200
    grep -q '^image' "$dir/body" || fail "another reply: $(cat "$dir/body")"
    ask DELETE "/v1/jobs/$id"
    want 204
done <"$dir/ids"

step 'all as documented'
