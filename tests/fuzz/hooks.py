"""Schemathesis loads this by its name: what exists in the service, and what no answer may hold."""

import json
import os
from typing import Any

import schemathesis
from fuzz.inside import TRACE
from hypothesis import strategies as st
from support.colours import picture
from support.world import colours_archive

# By parameter, what is really there: made-up names alone would see nothing but 404.
KNOWN: dict[str, list[str]] = json.loads(os.environ["FOVEA_FUZZ_KNOWN"])
SECRETS: list[str] = json.loads(os.environ["FOVEA_FUZZ_SECRETS"])

ARCHIVE, PICTURE = colours_archive(per_class=1), picture("red")


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """It, a part of it, it with a byte changed, or anything."""
    places = st.integers(0, len(whole) - 1)
    cut = places.map(lambda end: whole[:end])
    changed = st.builds(lambda at, byte: whole[:at] + bytes([byte]) + whole[at + 1 :], places, st.integers(0, 255))
    return st.one_of(st.just(whole), cut, changed, st.binary(max_size=200))


for kind in ("application/zip", "application/x-tar", "application/gzip"):
    schemathesis.openapi.media_type(kind, damaged(ARCHIVE))
for kind in ("image/jpeg", "image/png", "image/webp", "image/bmp", "image/gif", "image/tiff", "image/avif"):
    schemathesis.openapi.media_type(kind, damaged(PICTURE))


@schemathesis.serializer("application/zip", "application/x-tar", "application/gzip", "image/*")
def as_it_is(context: schemathesis.SerializationContext, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """Half of the names in paths exist, but never what would be deleted: all the others live on them."""
    for methods in raw_schema["paths"].values():
        for method, operation in methods.items():
            for parameter in operation.get("parameters", ()):
                known = KNOWN.get(parameter["name"])
                if known and parameter["in"] == "path" and method != "delete":
                    parameter["schema"] = {"anyOf": [{"enum": known}, parameter["schema"]]}


@schemathesis.check
def tells_nothing_of_the_inside(
    context: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    text = response.content.decode(errors="replace") + repr(response.headers)
    if response.headers.get("content-type", [""])[0].startswith(("application/zip", "image/")):
        return
    for secret in SECRETS:
        assert secret not in text, f"the answer names {secret}"
    assert not TRACE.search(text), "the answer holds a stack trace"


@schemathesis.check
def is_protected(
    context: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    for name in ("content-security-policy", "x-content-type-options", "cache-control", "x-request-id"):
        assert name in response.headers, f"the answer has no {name}"
