#!/usr/bin/env bash
# engine.sh up DIR    start a private Docker engine whose state is all under DIR; exit 3 where this machine cannot
# engine.sh down DIR  stop it, and take back what it changed on this machine; its images stay in DIR/data
# Its socket is DIR/docker.sock, its log DIR/dockerd.log.
set -euo pipefail
command=${1:?up or down}
mkdir -p "${2:?folder}"
dir=$(cd "$2" && pwd)
cgroup=/fovea-stack-test

up() {
    local program
    for program in dockerd containerd runc iptables unshare ip tini; do
        command -v "$program" > /dev/null || { echo "engine: no $program" >&2; return 3; }
    done
    grep -qw overlay /proc/filesystems || { echo "engine: no overlayfs in this kernel" >&2; return 3; }
    [ ! -e "$dir/iptables.before" ] || down # one that was killed left this machine's rules changed
    iptables-save > "$dir/iptables.before" || { echo "engine: iptables cannot be used" >&2; return 3; }
    cat /proc/sys/net/ipv4/ip_forward > "$dir/ip_forward.before"
    ip -o link show type bridge | awk -F ': ' '{ print $2 }' > "$dir/bridges.before"
    local interface mtu=1500
    interface=$(ip -4 route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -1)
    [ -z "$interface" ] || mtu=$(cat "/sys/class/net/$interface/mtu")
    # Namespaces of its own: when the first process of a pid namespace ends, every container in it ends with it.
    setsid unshare --mount --pid --fork --kill-child=KILL --mount-proc tini -- \
        dockerd --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/dockerd.pid" \
        -H "unix://$dir/docker.sock" --cgroup-parent "$cgroup" --mtu "$mtu" --bip 198.18.0.1/24 \
        --default-address-pool base=198.18.128.0/17,size=24 --storage-driver overlay2 \
        > "$dir/dockerd.log" 2>&1 < /dev/null &
    echo $! > "$dir/unshare.pid"
    local _
    for _ in $(seq 150); do
        if ! kill -0 "$(cat "$dir/unshare.pid")" 2> /dev/null; then
            echo "engine: dockerd cannot run here" >&2
            tail -15 "$dir/dockerd.log" >&2
            down
            return 3
        fi
        ! DOCKER_HOST=unix://$dir/docker.sock docker info > /dev/null 2>&1 || return 0
        sleep 0.2
    done
    echo "engine: not up in 30 s" >&2
    tail -15 "$dir/dockerd.log" >&2
    return 1
}

down() {
    local pid children bridge table _
    pid=$(cat "$dir/unshare.pid" 2> /dev/null || true)
    if [ -n "$pid" ] && [ -d "/proc/$pid" ]; then
        children=$(cat "/proc/$pid/task/$pid/children" 2> /dev/null || true)
        # shellcheck disable=SC2086  # several numbers
        [ -z "$children" ] || kill -TERM $children 2> /dev/null || true
        for _ in $(seq 100); do
            [ -d "/proc/$pid" ] || break
            sleep 0.2
        done
        [ ! -d "/proc/$pid" ] || kill -KILL "$pid" 2> /dev/null || true
        sleep 0.2
    fi
    if [ -f "$dir/bridges.before" ]; then
        # No bridge to take away is no fault; grep says 1 to it, and the shell would end here without a word.
        { ip -o link show type bridge | awk -F ': ' '{ print $2 }' | grep -vxFf "$dir/bridges.before" || true; } |
            while read -r bridge; do ip link del "$bridge" 2> /dev/null || true; done
    fi
    if [ -f "$dir/iptables.before" ]; then
        for table in filter nat; do
            iptables -t $table -F
            iptables -t $table -X
        done
        iptables -P FORWARD ACCEPT
        [ ! -s "$dir/iptables.before" ] || iptables-restore < "$dir/iptables.before"
        cat "$dir/ip_forward.before" > /proc/sys/net/ipv4/ip_forward
    fi
    find /sys/fs/cgroup -depth -type d -path "/sys/fs/cgroup/*$cgroup*" -exec rmdir {} \; 2> /dev/null || true
    rm -rf --one-file-system "$dir/exec"
    rm -f "$dir"/*.pid "$dir"/docker.sock "$dir"/*.before
}

"$command"
