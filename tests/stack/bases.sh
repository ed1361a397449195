#!/usr/bin/env bash
# bases.sh DIR PYTHON: stand-ins for the public base images, out of Debian packages and this machine's own CPython.
# They carry the machine's certificates and pip settings: what is built on them is for the test alone.
# Prints the name of the Python image: PYTHON (3.12) where this machine has it, else Debian's own 3.11.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:?folder}
python=${2:-3.12}
mkdir -p "$dir"

if [ ! -s "$dir/debian.tar" ]; then
    hooks=()
    for certificate in /usr/local/share/ca-certificates/*.crt; do
        [ ! -f "$certificate" ] || hooks+=("--customize-hook=copy-in $certificate /usr/local/share/ca-certificates")
    done
    [ ! -f /etc/pip.conf ] || hooks+=("--customize-hook=copy-in /etc/pip.conf /etc")
    # shellcheck disable=SC2016  # the hooks' own $1
    mmdebstrap --quiet --variant=minbase \
        --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --include=ca-certificates,netbase,tzdata "${hooks[@]}" \
        --customize-hook='chroot "$1" update-ca-certificates > /dev/null 2>&1' \
        --customize-hook='copy-in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list.d' \
        --customize-hook='rm -f "$1/etc/apt/sources.list"' \
        bookworm "$dir/debian.tar" >&2
fi
docker import -c 'CMD ["bash"]' -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    "$dir/debian.tar" debian:bookworm-slim > /dev/null

prefix=
if version=$(pyenv latest "$python" 2> /dev/null); then
    prefix=$(PYENV_VERSION=$version "python$python" -c 'import sys; print(sys.base_prefix)' 2> /dev/null || true)
fi
if [ -n "$prefix" ] && [ "$prefix" != /usr ]; then
    context=$dir/python
    rm -rf "$context"
    mkdir -p "$context/local"
    tar -C "$prefix" --exclude=__pycache__ --exclude=test --exclude=tests --exclude=idlelib --exclude=tkinter \
        --exclude='_tkinter*' --exclude='config-3*' --exclude=site-packages --exclude='*.a' --exclude=share -cf - \
        bin/python3 "bin/python$python" lib include | tar -C "$context/local" -xf -
    ln -sf python3 "$context/local/bin/python"
    docker build -q -f "$here/bases/python-copied.Dockerfile" -t "python:$python-slim-bookworm" "$context" > /dev/null
else
    python=3.11
    docker build -q -f "$here/bases/python-debian.Dockerfile" -t "python:$python-slim-bookworm" "$here/bases" > /dev/null
fi
docker build -q -f "$here/bases/redis.Dockerfile" -t redis:7-bookworm "$here/bases" > /dev/null
docker build -q -f "$here/bases/postgres.Dockerfile" -t postgres:15-bookworm "$here/bases" > /dev/null
docker build -q -f "$here/bases/nginx.Dockerfile" -t nginx:1.22-bookworm "$here/bases" > /dev/null
echo "python:$python-slim-bookworm"
