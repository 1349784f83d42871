"""How many bytes a message counts: as the papers count, or as it crosses the network.

Law: all count the same messages; they differ only in what they leave out.

    papers  a distribution of k ids costs k (8 + ceil(log2 |V|)) bits, a token without one costs its id;
            skipped tokens, prompt and headers are free, and the downlink takes no time. Its bytes are counted
            all the same: ids, one byte per probability, 16 bits per number of a row
    mqtt    whole PUBLISH packets in both directions, as the agent's and the worker's links count them
    tcp     the same with the headers of the TCP/IP segments that carry them (without acknowledgements)
"""

import math
from dataclasses import dataclass
from typing import Protocol

from common.link.packets import TopicAliases, publish_size
from common.link.properties import publish_properties
from common.protocol.codec import encode
from common.protocol.messages import Correction, Draft, ToDevice, ToWorker
from common.sampling.distribution import Dense, Distribution, Lattice, TopK

PAPERS_VOCAB_SIZE = 32_000  # Llama 2's, on which the papers' payloads are based
TCP_IP_HEADER = 52  # IPv4 (20) and TCP with timestamps (32)
SEGMENT_BYTES = 1448  # of payload in an Ethernet frame
PROBABILITY_BITS = 8  # as the papers count
EXPIRY = 30  # seconds, as agents and workers set it
NUM_ALIASES = 10  # as many as mosquitto grants per connection; it uses none itself on the downlink
NO_ALIASES = TopicAliases(0)
FLOAT16_BYTES, FLOAT32_BYTES = 2, 4


@dataclass(frozen=True, slots=True)
class Extra:
    """What a peer's message holds in addition to ours: single probabilities up, whole rows down.

    `num_end_id_bytes` is what ours holds in addition to the papers': the target's end tokens.
    """

    num_probs: int = 0
    num_rows: int = 0
    num_end_id_bytes: int = 0


class Accounting(Protocol):
    """The bytes of one device's messages; stateful, so each simulated device has its own."""

    @property
    def is_down_free(self) -> bool:
        """Whether the downlink takes no time."""
        ...

    def up(self, message: ToWorker, payload: bytes, topic: str, qos: int, extra: Extra) -> float:
        """Return the bytes of a message to a worker; `payload` is its encoded form."""
        ...

    def down(self, message: ToDevice, topic: str, extra: Extra) -> float:
        """Return the bytes of an answer."""
        ...


class Wire:
    """Whole MQTT packets, and with `tcp` their segments; `vocab_size` is the length of a peer's rows."""

    is_down_free = False

    def __init__(self, vocab_size: int, *, tcp: bool) -> None:
        self._vocab_size, self._tcp = vocab_size, tcp
        self._up = TopicAliases(NUM_ALIASES)

    def up(self, message: ToWorker, payload: bytes, topic: str, qos: int, extra: Extra) -> float:  # noqa: ARG002
        """See `Accounting`."""
        aliases = self._up if qos == 0 else NO_ALIASES
        return self._packet(payload, aliases, topic, qos) + FLOAT32_BYTES * extra.num_probs

    def down(self, message: ToDevice, topic: str, extra: Extra) -> float:
        """See `Accounting`."""
        row = FLOAT16_BYTES * self._vocab_size
        return self._packet(encode(message), NO_ALIASES, topic, 0) + row * extra.num_rows

    def _packet(self, payload: bytes, aliases: TopicAliases, topic: str, qos: int) -> int:
        shown, alias = aliases.assign(topic)
        properties = publish_properties(EXPIRY, alias)
        size = publish_size(shown, payload, len(properties.pack()), qos)
        return size + TCP_IP_HEADER * math.ceil(size / SEGMENT_BYTES) if self._tcp else size


class Papers:
    """The papers' payload model (arXiv 2505.11788) for a vocabulary of any size, not only the pair's."""

    is_down_free = True

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._id_bits = math.ceil(math.log2(vocab_size))

    def up(self, message: ToWorker, payload: bytes, topic: str, qos: int, extra: Extra) -> float:  # noqa: ARG002
        """See `Accounting`."""
        if not isinstance(message, Draft):
            return 0.0
        bits = sum(self.bits(drafted.distribution) for drafted in message.block)
        return (bits + PROBABILITY_BITS * extra.num_probs) / 8

    def down(self, message: ToDevice, topic: str, extra: Extra) -> float:  # noqa: ARG002
        """See `Accounting`; a row replaces the token that is drawn from it."""
        if not isinstance(message, Correction):
            return 0.0
        rows = 8 * FLOAT16_BYTES * self._vocab_size * extra.num_rows
        token = 0 if message.token is None or extra.num_rows else self._id_bits
        num_codes = len(message.context_codes) - extra.num_end_id_bytes
        return (rows + token + PROBABILITY_BITS * num_codes) / 8

    def bits(self, distribution: Distribution | None) -> int:
        """Return the bits of one uplinked token."""
        match distribution:
            case None:
                return self._id_bits
            case Dense():
                num_ids = self._vocab_size
            case TopK(ids=ids) | Lattice(ids=ids):
                num_ids = len(ids)
        return num_ids * (PROBABILITY_BITS + self._id_bits)


def is_rejection(message: ToDevice, num_block: int) -> bool:
    """Whether an answer replaces a token of the block."""
    return isinstance(message, Correction) and message.num_accepted < num_block
