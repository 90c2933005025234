#!/bin/sh
# Follow what happens to jobs, break off, and go on where it was.
#
#   sh openapi/curl/follow-events.sh
set -eu
. "$(dirname "$0")/setup.inc"

start_server
: >"$dir/events"

step 'follow the events of a service, in the background'
curl -sSN "$url/v1/events?service=wordcount" >>"$dir/events" 2>"$dir/events.log" &
follower=$!
children="$children $follower"
until_true 10 'the beginning of the stream' grep -q '^retry:' "$dir/events"

step 'a job is accepted'
ask POST /v1/services/wordcount/jobs -d 'to be or not to be'
want 202
job=$(header Location)
until_true 10 'the event' grep -q '^event: accepted' "$dir/events"
kill "$follower"
wait "$follower" 2>/dev/null || :
last=$(sed -n 's/^id: //p' "$dir/events" | tail -n 1)
cat "$dir/events"

step 'while nobody follows, it is done and closed'
start_worker wordcount 'wc -w'
wait_reply "$job"
want 200
ask DELETE "$job"
want 204

step "go on behind event $last"
: >"$dir/events"
curl -sSN -H "Last-Event-ID: $last" "$url/v1/events?service=wordcount" >>"$dir/events" 2>"$dir/events.log" &
children="$children $!"
until_true 10 'the last event' grep -q '^event: closed' "$dir/events"
for kind in started succeeded closed; do
    grep -q "^event: $kind" "$dir/events" || fail "$kind was missed: $(cat "$dir/events")"
done
cat "$dir/events"

step 'all as documented'
