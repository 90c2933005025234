#!/bin/sh
# Submit every line of a file as a job, in one request and one commit, and fetch the replies.
#
#   sh openapi/curl/batch.sh
set -eu
. "$(dirname "$0")/setup.inc"

start_server
start_worker upper "tr a-z A-Z"

step 'a file with a job in each line'
printf '{"page":%d,"text":"to be or not to be"}\n' 1 2 3 4 5 6 7 8 9 10 >"$dir/jobs.ndjson"
wc -l <"$dir/jobs.ndjson"

step 'submit it'
ask POST /v1/services/upper/jobs:batch --data-binary "@$dir/jobs.ndjson" -H 'Content-Type: application/x-ndjson'
want 202
printf 'Titanic-Durability: %s\n' "$(header Titanic-Durability)"
[ "$(wc -l <"$dir/body" | tr -d ' ')" = 10 ] || fail "not a line per job: $(cat "$dir/body")"
ids >"$dir/ids"

step 'fetch the replies, in order, and close the jobs'
page=0
while read -r id; do
    page=$((page + 1))
    wait_reply "/v1/jobs/$id"
    want 200
    grep -q "\"PAGE\":$page,\"TEXT\":\"TO BE" "$dir/body" || fail "another reply: $(cat "$dir/body")"
    ask DELETE "/v1/jobs/$id"
    want 204
done <"$dir/ids"
[ "$page" = 10 ] || fail "$page replies"

step 'all as documented'
