#!/bin/sh
# What `fovea init` does, for a host without Python: writes .env and secrets/ for docker-compose.yml, once.
#   sh docker/init.sh [FOLDER]
# What is there already is never written again.
set -eu
cd "${1:-$(dirname "$0")/..}"
[ -f docker/env.template ] || { echo "init: $(pwd) is no copy of Fovea: it has no docker/env.template" >&2; exit 1; }

random() { # random BYTES: as base64url
    head -c "$1" /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n'
}

key() {
    printf 'fov_%s.%s' "$(head -c 6 /dev/urandom | od -An -v -tx1 | tr -d ' \n')" "$(random 32)"
}

write() { # write FILE MODE TEXT
    if [ -e "$1" ]; then
        echo "  kept   $1"
        return
    fi
    (umask 077 && printf '%s\n' "$3" > "$1.part")
    chmod "$2" "$1.part"
    mv "$1.part" "$1"
    echo "  wrote  $1"
}

# Nobody else enters the folder; its files are read by containers whose users own nothing here.
mkdir -p secrets
chmod 700 secrets
echo "$(pwd):"
write secrets/postgres_password 444 "$(random 32)"
write secrets/redis_password 444 "$(random 32)"
postgres=$(cat secrets/postgres_password)
redis=$(cat secrets/redis_password)
write secrets/database_url 444 "postgresql://fovea:$postgres@database/fovea"
write secrets/broker_url 444 "redis://:$redis@broker:6379/0"
write secrets/transit_url 444 "redis://:$redis@transit:6379/0"
write secrets/admin_key 444 "$(key)"
write secrets/metrics_key 444 "$(key)"
write secrets/grafana_password 444 "$(random 32)"
cores=$(getconf _NPROCESSORS_ONLN)
write .env 644 "$(sed "s/@cores@/$cores/" docker/env.template)"

cat <<'END'

Next:
  docker compose up -d --wait
  curl -H "Authorization: Bearer $(cat secrets/admin_key)" http://127.0.0.1:8000/v1/models
END
