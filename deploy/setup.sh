#!/bin/sh
# Runs once before everything else, and changes nothing when it runs again: a password for Valkey, a first API key, and
# one for Prometheus. They stay in the volume "secrets"; nothing secret stands in the environment or in the repository.
set -eu
cd /secrets
if [ ! -e redis-password ]; then
    python -c 'import secrets; print(secrets.token_hex(24))' > .new
    mv .new redis-password
fi
echo "$REDIS_URL" | sed "s/PASSWORD/$(cat redis-password)/" > redis-url
if [ ! -e api-keys.json ]; then
    first=$(python -m tailrace.gateway.auth.new_key first --scopes submit,read,control,publish)
    metrics=$(python -m tailrace.gateway.auth.new_key metrics --tenant '*' --scopes admin)
    echo "$metrics" | sed -n 1p > metrics-key
    { echo "["; echo "$first" | sed -n 2p; echo ","; echo "$metrics" | sed -n 2p; echo "]"; } > .new
    mv .new api-keys.json
    key=$(echo "$first" | sed -n 1p)
    cat <<EOF
The first API key, shown only now: $key
Try it:
curl -N http://localhost:8080/v1/executions/stream -H 'Authorization: Bearer $key' -H 'Content-Type: application/json' -d '{"pipeline": "document", "input": {"name": "mill.md", "content": "Water drives the mill."}}'
EOF
fi
