"""The `Idempotency-Key` header: a repeated POST returns what the first one made."""

import hashlib

from fastapi import Request

from service.errors import Problem
from storage.job import Idempotency

LONGEST_KEY = 255


async def idempotency(request: Request) -> Idempotency | None:
    """The request's `Idempotency-Key` with a fingerprint of its body, which is read; None without a key.

    Raises Problem 400 for a key that is empty or longer than `LONGEST_KEY`.
    """
    if "idempotency-key" not in request.headers:
        return None
    return idempotency_of(request, hashlib.sha256(await request.body()).hexdigest())


def idempotency_of(request: Request, body_sha256: str) -> Idempotency | None:
    """The key where the body was streamed and only its SHA-256 is left.

    A key counts for its caller, method and path; the fingerprint is of query and body. Raises Problem 400.
    """
    key = idempotency_key_of(request)
    if key is None:
        return None
    caller = hashlib.sha256(request.headers.get("authorization", "").encode()).hexdigest()[:16]
    fingerprint = hashlib.sha256(f"{request.url.query}\0{body_sha256}".encode()).hexdigest()
    return Idempotency(f"{caller} {request.method} {request.url.path}", key, fingerprint)


def idempotency_key_of(request: Request) -> str | None:
    """The header's value. Raises Problem 400."""
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= LONGEST_KEY:
        detail = f"The Idempotency-Key has {len(key)} characters; expected 1 to {LONGEST_KEY}."
        raise Problem(400, "bad_idempotency_key", detail)
    return key
