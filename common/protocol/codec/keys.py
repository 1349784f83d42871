"""The integer keys of the messages; docs/protocol.cddl lists the same keys (a test compares them).

Keys 0 to 23 take one byte. N and VERSION keep their numbers in every version of the protocol, so any worker
can state which draft it refuses, and that it speaks another version.
"""

from enum import IntEnum


class DraftKey(IntEnum):
    """Keys of a message to a worker. An empty map is a Close."""

    N = 0
    EPOCH = 1
    BASE = 2
    CHECK = 3
    CONTEXT = 4
    BLOCK = 5
    LATTICES = 6
    DENSES = 7
    TOP_KS = 8  # with logarithmic codes, as version 0.1.0 wrote them
    ID_BYTES = 9
    BONUS = 10
    NUM_CONTEXT_PROBS = 11
    TOKENIZER = 12  # always and only in an opening; the keys down to TOP_P may come with it
    VOCAB_SIZE = 13
    SEED = 14
    VERSION = 15
    TEMPERATURE = 16
    TOP_K = 17
    TOP_P = 18
    PACKED = 19  # instead of the block and its distributions
    TOP_K_SHARES = 20
    MIN_P = 21  # this key and those that follow may come with an opening, too
    PENALTIES = 22
    GRAMMAR = 23  # likewise; workers that know no grammars refuse this key


class CorrectionKey(IntEnum):
    """Keys of a correction."""

    N = 0
    NUM_ACCEPTED = 1
    TOKEN = 2
    WORKER = 3
    INDEX = 4
    CONTEXT_CODES = 5
    COMPUTE_TENTH_MS = 6
    LIMIT = 9  # only for a device that has sent its prompt ahead: older ones refuse this key


class RefusalKey(IntEnum):
    """Keys of a refusal. A correction never has REASON, which distinguishes the two."""

    N = 0
    WORKER = 3
    REASON = 7
    DETAIL = 8
    HAVE = 9
    RETRY_AFTER_MS = 10
