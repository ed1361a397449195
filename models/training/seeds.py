"""Random numbers as a function of what they are for: a resumed training draws what an unbroken one would.

Knows no torch: `models.training.seeding` seeds it.
"""

import hashlib

HIGHEST_SEED = 2**63 - 1


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part and on their order."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
