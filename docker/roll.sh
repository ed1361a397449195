#!/bin/sh
# Upgrades gateways and workers to the images that are here, one after another, while they serve: no request is lost.
#   docker compose build && sh docker/roll.sh
# A new one is started beside each old one, which is told to end once the new one is healthy.
set -eu
cd "$(dirname "$0")/.."

replace() { # replace SERVICE
    old=$(docker compose ps --quiet "$1")
    [ -n "$old" ] || return 0
    number=$(echo "$old" | wc -l)
    for container in $old; do
        docker compose up -d --no-deps --no-recreate --wait --scale "$1=$((number + 1))" "$1"
        docker stop "$container" > /dev/null
        docker rm "$container" > /dev/null
    done
}

docker compose run -T --rm --no-deps migrate
replace worker-inference
replace gateway
# It serves nobody who waits: its job is given back, and goes on from its checkpoint.
[ -z "$(docker compose ps --quiet worker-training)" ] || docker compose up -d --no-deps --wait worker-training
