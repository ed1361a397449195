"""Manifests of datasets, and what may stand in Redis where a message should be."""

import dataclasses
import json
from collections.abc import Iterator
from functools import cache

from support.attacks.attack import Attack, file, mutations

from workers.contract.messages import ClassifyBatch, ClassifyReply, ClassScore, Heartbeat, ImageOutcome, RunJob

MESSAGES = {
    "batch": ClassifyBatch("b", "r", "m", 1, "models/m/1", ("i",), ("q",), 5, 1.0, 2.0),
    "reply": ClassifyReply("b", "w", "cpu", (ImageOutcome((ClassScore(0, "a", 0.5),)),)),
    "heartbeat": Heartbeat("w", ("q",), 2, "cpu"),
    "job": RunJob("job_1"),
}
VALUES = (
    b"",
    b"null",
    b"5",
    b"[]",
    b"{}",
    b'"x"',
    b"true",
    b"no JSON",
    b"\xff",
    b"NaN",
    b"1e999",
    b"-0",
    b"[" * 100_000,
    b'{"a":' * 10_000,
    b'{"batch": null}',
    b'{"job": 5}',
    b'{"job": "\\ud800"}',
    b'{"job": "a", "job": 5}',
    b" " * 10**6,
    b'{"worker": "w", "queues": [], "slots": 99999999999999999999999}',
    b'{"worker": "w", "queues": "q", "slots": 1}',
    b'{"worker": "w", "queues": ["q"], "slots": -1}',
    b'{"worker": "w", "queues": ["q"], "slots": true}',
)
MANIFESTS = (
    b"",
    b"\n",
    b"file",
    b"file,label",
    b"FILE , Label\na,b",
    b"\xff\xfe\x00",
    b"\xef\xbb\xbffile,label\na,b\n",
    b'file,label\n"',
    b"file,label\n" + b'"' * 10_001,
    b"file,label\n" + b"," * 10**6,
    b"file,label\r\ra,b",
    b"file,label\n" + b"x" * 200_000 + b",a\n",
    b"file,label\n\x00,a\n",
    b"file,label\na,\xe2\x80\xae\n",
    b"file,label,split\na,b,train\nc,d\n",
    b"file,file,label,label\na,b,c,d\n",
    b"label;file\n",
    b"file,label\n" + b"a,b\n" * 100_000,
)


@cache
def written(name: str) -> bytes:
    return json.dumps(dataclasses.asdict(MESSAGES[name])).encode()


def attacks(scale: int) -> Iterator[Attack]:
    for value in VALUES:
        yield file("redis", f"{value[:24]!r} of {len(value)}", "value", lambda v=value: v)  # type: ignore[misc]
    yield from mutations("redis", "value", {name: lambda n=name: written(n) for name in MESSAGES}, 10 * scale)  # type: ignore[misc]
    for suffix in ("csv", "jsonl"):
        for text in MANIFESTS:
            yield file(
                "manifest", f"{suffix} {text[:24]!r} of {len(text)}", f"manifest.{suffix}", lambda t=text: t
            )  # type: ignore[misc]
    csv = b"file,label,split\n" + b"".join(b'"a %d.png",ant,train\n' % n for n in range(20))
    lines = b"".join(b'{"file": "%d.png", "label": "ant"}\n' % n for n in range(20))
    yield from mutations("manifest", "manifest.csv", {"csv": lambda: csv}, 10 * scale)
    yield from mutations("manifest", "manifest.jsonl", {"jsonl": lambda: lines}, 10 * scale)
