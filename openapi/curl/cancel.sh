#!/bin/sh
# Cancel a job before it runs.
#
#   sh openapi/curl/cancel.sh
set -eu
. "$(dirname "$0")/setup.inc"

start_server

step 'a job that runs in an hour'
ask POST '/v1/services/reminder/jobs?delay=1h' -d 'stand up'
want 202
job=$(header Location)
printf 'state: %s\n' "$(member state)"

step 'cancel it; twice is no error'
ask POST "$job:cancel"
want 200
ask POST "$job:cancel"
want 200
[ "$(member state)" = cancelled ] || fail "it is $(member state)"

step 'it has no reply and never will'
ask GET "$job/reply"
want 409

step 'close it; now there is nothing to cancel'
ask DELETE "$job"
want 204
ask POST "$job:cancel"
want 410

step 'all as documented'
