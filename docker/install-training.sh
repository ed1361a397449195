#!/bin/sh
# Inside a build: installs what training needs, with the torch of the pins or that of another index (TORCH_INDEX).
set -eu
pins=/requirements.txt
install() { uv pip install --system --no-cache --system-certs --compile-bytecode --no-deps "$@"; }

if [ -z "${TORCH_INDEX:-}" ]; then
    install --require-hashes -r "$pins"
    exit
fi

# Another build of the same version is another file: it is held to the version, everything else to its hash.
# What only the published build of torch asks for is left out; the other build brings its own or needs none.
awk '/^[^ ]/ { left_out = /^(torch|torchvision|triton|nvidia-|cuda-)/ } !left_out' "$pins" > /tmp/others.txt
awk '/^(torch|torchvision)==/ { print $1 }' "$pins" > /tmp/torch.txt
install --require-hashes -r /tmp/others.txt
install --index-url "$TORCH_INDEX" -r /tmp/torch.txt
rm /tmp/others.txt /tmp/torch.txt
