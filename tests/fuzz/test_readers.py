"""The functions that read what strangers write, given anything: they answer, or raise what they document."""

import asyncio
import base64
import gzip
import io
import json
import os
import random
import tarfile
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.attacks.archives import pictures, tarred, zipped
from support.attacks.attack import mutated
from support.attacks.texts import MESSAGES, written

from models.dataset.archive import read_members
from models.dataset.errors import ArchiveError, LayoutUnclear
from models.dataset.limits import MIB, Limits
from models.dataset.manifest import parse_manifest
from service.errors import Problem
from service.images import read_images
from service.intake import ImageLimits, Intake
from storage.errors import InvalidCursor, InvalidReference
from storage.page import decode_cursor, encode_cursor
from storage.reference import Reference
from system.hidden import hidden_character
from workers.contract.messages import InvalidMessage, decode, encode

SCALE = int(os.environ.get("FOVEA_FUZZ_SCALE", "1"))
LIMITS = Limits(total_bytes=64 * MIB, member_bytes=8 * MIB, members=1_000)
IMAGES = ImageLimits(max_images=3, max_image_bytes=50_000)
pytestmark = [pytest.mark.slow, pytest.mark.fuzz, pytest.mark.timeout(300 + 300 * SCALE)]


def often(times: int) -> Any:
    """Neither a deadline nor a check of health: the machine may have other work."""
    return settings(max_examples=times * SCALE, deadline=None, suppress_health_check=list(HealthCheck))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=20,
)
CELLS = st.text(alphabet=st.characters() | st.sampled_from(',"\n\r;\\/\0\u202e'), max_size=12)
NAMES = st.lists(
    st.sampled_from(["..", ".", "/", "\\", "\0", "C:", "é", "e\u0301", " ", "\n", "\u202e", "ants", "1.png", ""]),
    max_size=8,
).map("".join)


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """Files with names of every kind, packed in one of the ways, and then damaged or not."""
    files = dict(pictures()) if draw(st.booleans()) else {}
    files |= draw(st.dictionaries(NAMES, st.binary(max_size=50), max_size=4))
    kind = draw(st.sampled_from(["zip", "pax", "gnu", "ustar", "gzip"]))
    if kind == "zip":
        made = zipped(files)
    else:
        form = {"gnu": tarfile.GNU_FORMAT, "ustar": tarfile.USTAR_FORMAT}.get(kind, tarfile.PAX_FORMAT)
        try:
            made = tarred({name: content for name, content in files.items() if "\0" not in name}, form)
        except ValueError:  # a name too long or too odd for this form
            made = tarred(pictures(), form)
        if kind == "gzip":
            made = gzip.compress(made)
    seed = draw(st.none() | st.integers(0, 2**32))
    return made if seed is None else mutated(made, random.Random(seed))


@often(400)
@given(archives())
def test_an_archive_is_read_within_its_folder_or_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "archive")
        path.write_bytes(data)
        names = set()
        with suppress(ArchiveError):
            for member in read_members(path, LIMITS):
                assert (Path("/data") / member.name).resolve().is_relative_to("/data")
                assert hidden_character(member.name) is None
                assert member.is_folder or member.name not in names
                names.add(member.name)
                with suppress(ArchiveError):
                    assert sum(map(len, member.chunks())) <= LIMITS.member_bytes


@often(400)
@given(st.sampled_from(["manifest.csv", "manifest.jsonl", "labels.csv"]), st.data())
def test_a_manifest_gives_rows_and_faults_or_is_unclear(name: str, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.lists(CELLS, max_size=4).map(",".join) | JSON.map(json.dumps), max_size=6))
    text = "\n".join([data.draw(st.sampled_from(["file,label", "file,label,split", "", "x"])), *rows])
    content = text.encode("utf-8", "surrogatepass") if data.draw(st.booleans()) else data.draw(st.binary())
    with suppress(LayoutUnclear):
        kept, _ = parse_manifest(name, content)
        assert all(row.file and row.label and hidden_character(row.label) is None for row in kept)


@often(400)
@given(st.sampled_from(sorted(MESSAGES)), JSON, st.integers(0, 2**32))
def test_a_message_is_decoded_or_refused(name: str, value: Any, seed: int) -> None:
    kind = type(MESSAGES[name])
    changed = json.loads(written(name))
    changed[random.Random(seed).choice(sorted(changed))] = value
    for payload in (value, changed, json.dumps(changed), mutated(written(name), random.Random(seed))):
        try:
            message = decode(kind, payload)
        except InvalidMessage as error:
            told = str(error)
        else:
            told = ""
            assert isinstance(message, kind)
            json.dumps(encode(message))
        assert len(told) < 1_000


@often(400)
@given(st.text() | st.sampled_from([str, int]).flatmap(lambda kind: st.from_type(kind)).map(repr), st.binary())
def test_a_cursor_is_a_key_or_refused(text: str, data: bytes) -> None:
    for cursor in (text, data.decode("latin-1"), base64.urlsafe_b64encode(data).decode()):
        for kind in (str, int):
            with suppress(InvalidCursor):
                key = decode_cursor(cursor, kind)
                assert decode_cursor(encode_cursor(key), kind) == key


@often(400)
@given(st.text() | st.text("ab1@:-._Z\n", max_size=12))
def test_a_reference_is_read_as_it_is_written_or_refused(text: str) -> None:
    with suppress(InvalidReference):
        assert str(Reference.parse(text)) == text


class Gone:
    """Where large images lie; how they are read does not depend on it."""

    def servers(self) -> Sequence[str]:
        return ("one",)

    async def append(self, _server: str, key: str, data: bytes, size: int, keep: Sequence[str]) -> None:
        assert 0 < len(data) <= size
        assert key in keep

    async def drop(self, _server: str, keys: Sequence[str]) -> None:
        assert keys


def images_of(body: bytes, content_type: str) -> None:
    """Raises whatever reading the request raises but the problems that are its answers."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [
        (b"content-type", content_type.encode("utf-8", "replace")),
        (b"content-length", str(len(body)).encode()),
    ]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}

    async def read() -> None:
        try:
            async with Intake(Gone(), IMAGES, 2**30).reception(None) as reception:
                images = await read_images(Request(scope, receive), reception)
        except Problem as problem:
            status = problem.status
        else:
            status = 400
            assert 0 < len(images) <= IMAGES.max_images
            assert all(len(image.content) <= IMAGES.max_image_bytes for image in images)
        assert 400 <= status < 500

    asyncio.run(read())


@often(300)
@given(JSON, st.lists(st.text(max_size=20) | st.binary(max_size=30).map(repr) | JSON, max_size=5), st.binary())
def test_a_json_body_holds_images_or_a_problem(value: Any, images: list[Any], damage: bytes) -> None:
    for body in (json.dumps(value), json.dumps({"images": images}), json.dumps({"images": value})):
        images_of(body.encode(), "application/json")
        images_of(body.encode()[: len(body) // 2] + damage, "application/json; charset=x")


@st.composite
def forms(draw: st.DrawFn) -> tuple[bytes, str]:
    """Multipart bodies of parts with odd headers, whole or damaged."""
    boundary = draw(st.sampled_from(["b", "a b", "-" * 70, "x" * 300, "é", ""]))
    body = io.BytesIO()
    for _ in range(draw(st.integers(0, 5))):
        name, filename = draw(CELLS), draw(CELLS | st.just("a.png"))
        kind = draw(st.sampled_from(["image/png", "text/plain", "x" * 300, "multipart/mixed; boundary=c"]))
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        body.write(f"{head}Content-Type: {kind}\r\n\r\n".encode("utf-8", "surrogatepass"))
        body.write(draw(st.sampled_from(list(pictures().values())) | st.binary(max_size=80)) + b"\r\n")
    body.write(f"--{boundary}--\r\n".encode())
    seed = draw(st.none() | st.integers(0, 2**32))
    data = body.getvalue()
    return (
        data if seed is None else mutated(data, random.Random(seed))
    ), f"multipart/form-data; boundary={boundary}"


# Starlette leaves the file in memory, of a part that does not end, to be collected.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@often(300)
@given(forms())
def test_a_form_holds_images_or_a_problem(form: tuple[bytes, str]) -> None:
    images_of(*form)
    images_of(form[0], "multipart/form-data")
