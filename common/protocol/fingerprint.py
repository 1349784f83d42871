"""A short fingerprint of a vocabulary, so that models with different vocabularies are never paired.

Law: equal fingerprints mean that every id stands for the same token string at both ends.
"""

import hashlib
from collections.abc import Mapping

FINGERPRINT_BYTES = 8


def fingerprint(vocabulary: Mapping[str, int]) -> bytes:
    """The first 8 bytes of SHA-256 over all (id, token) pairs, in the order of the ids.

    `vocabulary` maps token strings to ids, added tokens included, as `Tokenizer.get_vocab()` returns it.
    """
    digest = hashlib.sha256()
    for token, token_id in sorted(vocabulary.items(), key=lambda item: (item[1], item[0])):
        digest.update(f"{token_id}\0{token}\0".encode("utf-8", "surrogatepass"))
    return digest.digest()[:FINGERPRINT_BYTES]
