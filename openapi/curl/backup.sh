#!/bin/sh
# Take a backup of the store while the server works, prove it, and start a second server with it.
#
#   sh openapi/curl/backup.sh
set -eu
. "$(dirname "$0")/setup.inc"

start_server

step 'a job that must not be lost'
ask POST /v1/services/archive/jobs --data-binary @LICENSE
want 202
job=$(header Location)

step 'the image'
ask GET /v1/store/backup
want 200
cp "$dir/body" "$dir/titanic.ring"
printf '%s bytes, Repr-Digest: %s\n' "$(header Content-Length)" "$(header Repr-Digest)"
[ "$(wc -c <"$dir/titanic.ring" | tr -d ' ')" = "$(header Content-Length)" ] || fail 'it is cut short'
if command -v openssl >/dev/null; then
    digest=$(openssl dgst -sha256 -binary "$dir/titanic.ring" | openssl base64 -A)
    [ "sha-256=:$digest:" = "$(header Repr-Digest)" ] || fail "the digest is $digest"
fi

step 'prove every checksum in it'
$TITANIC store check "$dir/titanic.ring"

step 'a server that starts with it has the job'
for pid in $children; do
    kill "$pid"
    wait "$pid" 2>/dev/null || :
done
children=''
rm -rf "$dir/data"
mkdir "$dir/data"
mv "$dir/titanic.ring" "$dir/data/titanic.ring"
start_server
ask GET "$job"
want 200

step 'all as documented'
