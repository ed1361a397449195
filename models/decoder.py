"""A process that decodes what it is given, one file after the other: `python -m models.decoder` [NICENESS].

Decoders are native code that strangers' bytes are fed to. One that ends its process ends this one, which holds one
file at a time, so that there is no doubt which file it was. `models.decoder_process` is the other side.
"""

import json
import os
import struct
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from models.errors import ImageError

LENGTHS = struct.Struct("<II")
OOM_SCORE = Path("/proc/self/oom_score_adj")
MOST_OOM_SCORE = 1000


def write(stream: IO[bytes], header: Mapping[str, Any], body: bytes = b"") -> None:
    """One message: JSON, and bytes that are none."""
    encoded = json.dumps(header).encode()
    stream.write(LENGTHS.pack(len(encoded), len(body)) + encoded)
    stream.write(body)
    stream.flush()


def read(stream: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """The next message; None where the stream ends, in the middle of one, too."""
    lengths = stream.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return None
    of_header, of_body = LENGTHS.unpack(lengths)
    header, body = stream.read(of_header), stream.read(of_body)
    if len(header) < of_header or len(body) < of_body:
        return None
    return json.loads(header), body


def offer_to_oom_killer() -> None:
    """Have the kernel end this process first when memory is short, and not the one that it works for."""
    with suppress(OSError):
        OOM_SCORE.write_text(str(MOST_OOM_SCORE))


def main() -> None:
    offer_to_oom_killer()
    if len(sys.argv) > 1:
        os.nice(int(sys.argv[1]))
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # What a library prints must not come between the answers.
    os.dup2(2, 1)
    while request := read(requests):
        header, body = request
        try:
            write(answers, *_answer(header, body))
        except ImageError as error:
            write(answers, {"error": type(error).__name__, "detail": str(error)})


def _answer(asked: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
    """Imports what a request needs when it is the first of its kind, so that the process is soon there."""
    if asked["do"] == "look":
        from models.dataset.looks import look_at_file
        from models.dataset.picture import PictureInfo

        seen = look_at_file(Path(asked["folder"]), asked["max_pixels"], asked["sha256"])
        if isinstance(seen, PictureInfo):
            told = asdict(seen)
            return {"picture": {**told, "fingerprint": ""}}, seen.fingerprint
        return {"flaw": asdict(seen)}, b""
    from models.preprocess import prepare
    from models.spec import Preprocessing

    pixels = prepare(content, Preprocessing(**asked["preprocessing"]), max_pixels=asked["max_pixels"])
    return {"shape": pixels.shape}, pixels.tobytes()


if __name__ == "__main__":
    main()
