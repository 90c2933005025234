#!/bin/sh
# Submit, lose the answer, submit again with the same Idempotency-Key: there is one job.
#
#   sh openapi/curl/idempotent-retry.sh
set -eu
. "$(dirname "$0")/setup.inc"

start_server
key="order-$(date +%s)-$$"

step 'submit, and throw the answer away as a broken network would'
ask POST /v1/services/shop/jobs -d 'three shirts' -H "Idempotency-Key: \"$key\""
want 202
first=$(member id)

step 'submit again, exactly as before'
ask POST /v1/services/shop/jobs -d 'three shirts' -H "Idempotency-Key: \"$key\""
want 202
printf 'Idempotent-Replayed: %s\n' "$(header Idempotent-Replayed)"
[ "$(member id)" = "$first" ] || fail 'a second job was made'

step 'another request under the same key is refused'
ask POST /v1/services/shop/jobs -d 'four shirts' -H "Idempotency-Key: \"$key\""
want 422
printf '%s\n' "$(member detail)"

step 'there is one job'
ask GET '/v1/jobs?service=shop'
want 200
[ "$(ids)" = "$first" ] || fail "not one job: $(cat "$dir/body")"

step 'all as documented'
