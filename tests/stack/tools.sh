#!/usr/bin/env bash
# tools.sh DIR: a Docker engine, its client and the compose and buildx plugins under DIR, from Debian packages only.
# Exit 3 where this machine cannot have them.
set -euo pipefail
mkdir -p "${1:?folder}"
dir=$(cd "$1" && pwd)
export DEBIAN_FRONTEND=noninteractive

if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null || [ ! -f /etc/apt/sources.list.d/debian.sources ]; then
    echo "tools: a private engine needs root and Debian" >&2
    exit 3
fi

missing=()
for package in containerd runc iptables iproute2 tini mmdebstrap; do
    dpkg -s "$package" > /dev/null 2>&1 || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
fi
[ ! -x "$dir/config/cli-plugins/docker-buildx" ] || exit 0

# Debian 12 has engine 20.10 and compose 1.29. The packages of the next release need only libc 2.34 and run here.
apt=$dir/apt
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/etc" "$dir/debs" "$dir/bin" "$dir/config/cli-plugins"
awk 'BEGIN { RS = ""; ORS = "\n\n" }
     /Suites: [a-z]+ [a-z]+-updates/ { gsub(/#[^\n]*\n/, ""); sub(/Suites: [^\n]*/, "Suites: trixie"); print; exit }' \
    /etc/apt/sources.list.d/debian.sources > "$apt/etc/next.sources"
cat > "$apt/apt.conf" <<END
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$apt/etc";
Dir::State::lists "$apt/lists";
Dir::Cache "$apt/cache";
APT::Default-Release "trixie";
APT::Sandbox::User "root";
Acquire::Languages "none";
END
export APT_CONFIG=$apt/apt.conf
apt-get update -qq
(cd "$dir/debs" && apt-get download -qq docker.io docker-cli docker-buildx docker-compose)
for package in "$dir"/debs/*.deb; do dpkg -x "$package" "$dir/unpacked"; done
mv "$dir"/unpacked/usr/sbin/{dockerd,docker-proxy} "$dir"/unpacked/usr/bin/docker "$dir/bin/"
cp "$(command -v tini-static || command -v tini)" "$dir/bin/docker-init"
mv "$dir"/unpacked/usr/libexec/docker/cli-plugins/* "$dir/config/cli-plugins/"
rm -rf "$dir/unpacked" "$dir/debs" "$apt"
