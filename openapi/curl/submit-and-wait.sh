#!/bin/sh
# Submit a job and get its reply in the same answer, if it comes in time; else fetch it later.
#
#   sh openapi/curl/submit-and-wait.sh
set -eu
. "$(dirname "$0")/setup.inc"

start_server
start_worker wordcount 'wc -w'

step 'submit, and wait up to ten seconds for the reply itself'
ask POST /v1/services/wordcount/jobs --data-binary @LICENSE -H 'Content-Type: text/plain' -H 'Prefer: wait=10'
job=$(header Location)
if [ "$status" = 202 ]; then # it was not there in time, but the job is stored
    wait_reply "$job"
fi
want 200
printf '%s words\n' "$(tr -d ' \n' <"$dir/body")"
[ "$(tr -d ' \n' <"$dir/body")" = "$(wc -w <LICENSE | tr -d ' \n')" ] || fail 'that is another number'

step 'close it'
ask DELETE "$job"
want 204
ask GET "$job/reply"
want 410

step 'all as documented'
