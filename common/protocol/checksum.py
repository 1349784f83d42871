"""The checksum that a draft carries of the prefix it builds on.

Law: a worker whose prefix differs from the device's detects this and asks for the context. It never verifies
against a prefix that has drifted.
"""

import struct
import zlib
from collections.abc import Sequence


def prefix_check(tokens: Sequence[int], after: int = 0) -> int:
    """CRC-32 of the tokens as little-endian 32-bit integers; 0 for no tokens.

    `after` is the check of the tokens before them, if these continue a sequence.
    """
    return zlib.crc32(struct.pack(f"<{len(tokens)}I", *tokens), after)
