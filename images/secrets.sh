#!/usr/bin/env bash
# What docker-compose.yml needs and no image may hold: .env, secrets/ and the folders that the containers write to.
# What is there stays as it is, so this may be run again. A new password: delete its file first.
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"
umask 077

# The containers' user: whoever calls this, but never root.
owner=$(id -u):$(id -g)
if [ "$(id -u)" = 0 ]; then owner=10001:10001; fi

secret() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

setting() { # its value in .env, without quotes and comment
  sed -nE "s/^$1=//p" .env | tail -n 1 | sed -E "s/[[:space:]]+(#.*)?$//; s/^([\"'])(.*)\1$/\2/"
}

if [ ! -e .env ]; then
  sed -e "s/^FTQ_UID=.*/FTQ_UID=${owner%:*}/" -e "s/^FTQ_GID=.*/FTQ_GID=${owner#*:}/" .env.example > .env
fi
artifacts=${FTQ_ARTIFACTS:-$(setting FTQ_ARTIFACTS)}
artifacts=${artifacts:-artifacts}
artifacts=${artifacts/#\~/$HOME}
mkdir -p secrets "$artifacts"
if [ "$(ls -A "$artifacts")" = .gitignore ]; then chmod 700 "$artifacts"; fi # a clone's: git keeps no modes
mkdir -p "$artifacts/flower"
if [ ! -s secrets/broker_password ]; then
  rm -f secrets/broker_acl
  secret > secrets/broker_password
fi
if [ ! -s secrets/broker_acl ]; then
  hash=$(sha256sum < secrets/broker_password | cut -d' ' -f1)
  {
    echo "user default off"
    echo "user ftq on #$hash resetkeys ~cpu* ~gpu* ~ask* ~_kombu.* ~unacked* ~celeryev.* ~*.celery.pidbox*" \
      "resetchannels &* +@all -@dangerous -@admin +info +keys"
  } > secrets/broker_acl
  chmod 644 secrets/broker_acl # the broker runs as a user of its own; there is only a hash in it
fi
[ -s secrets/flower_auth ] || echo "ftq:$(secret)" > secrets/flower_auth
[ -e secrets/hub_token ] || touch secrets/hub_token
for name in database_password metrics_token grafana_password; do
  [ -s "secrets/$name" ] || secret > "secrets/$name"
done
if [ ! -s secrets/s3_credentials ]; then # in the forms of its client and of its server
  key=$(secret)
  printf '[default]\naws_access_key_id = ftq\naws_secret_access_key = %s\n' "$key" > secrets/s3_credentials
  printf '{"identities": [{"name": "ftq", "credentials": [{"accessKey": "ftq", "secretKey": "%s"}], %s}]}\n' "$key" \
    '"actions": ["Admin", "Read", "Write", "List", "Tagging"]' > secrets/s3_identities
fi
cluster=${FTQ_CLUSTER:-$(setting FTQ_CLUSTER)}
cluster=${cluster:-cluster}
cluster=${cluster/#\~/$HOME}
mkdir -p "$cluster"/{postgres,storage,prometheus,grafana}
if [ "$(id -u)" = 0 ]; then
  chown "$(setting FTQ_UID):$(setting FTQ_GID)" secrets/* "$artifacts" "$artifacts/flower" "$cluster" "$cluster"/*
fi
echo "Flower's login: $(cat secrets/flower_auth)"
