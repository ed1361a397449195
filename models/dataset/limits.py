"""How much of a dataset's source is too much. One frozen value; the deployment decides, the user is told.

Standard library only, as all that packs, reads archives or reads reports: the command line has no Pillow.
"""

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """Caps on what is unpacked, counted while it is unpacked: what headers claim can only refuse earlier.

    `expansion` is how many times its archive's size the content may be, once it is past `expansion_floor` bytes
    (pictures hardly compress, so an honest archive is near 1). `pixels` is a cap on one picture, which is left
    out or refused as any other faulty file; passing one of the others refuses the whole source.
    """

    total_bytes: int = 20 * 1024 * MIB
    member_bytes: int = 64 * MIB
    members: int = 200_000
    expansion: int = 100
    expansion_floor: int = 32 * MIB
    path_depth: int = 16
    path_length: int = 1024
    pixels: int = 64_000_000
