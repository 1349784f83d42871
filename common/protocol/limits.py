"""Limits on the size of a message and its parts. Both ends refuse anything larger before they process it."""

MAX_PAYLOAD_BYTES = 576 * 1024
"""One untruncated distribution over 262,144 ids (512 KiB), the largest vocabulary in common use, plus 64 KiB
for everything else. The `max_packet_size` of the brokers in mosquitto/ follows from it."""

MAX_CBOR_ITEMS = 1024  # a full block with every field present has fewer than 820
MAX_CBOR_DEPTH = 3  # a map of arrays of arrays

MAX_UINT32 = 2**32 - 1  # numbers of drafts, epochs, positions, checks
MAX_VOCAB_SIZE = 2**24  # ids travel in two or three bytes
MAX_BLOCK_TOKENS = 64
MAX_BONUS_TOKENS = 4096
MAX_TRUNCATED_IDS = 65536  # k of one distribution
MAX_PACKED_IDS = 2048  # in all distributions of a packed block: they expand from far fewer bytes
MAX_NUMBER_IDS = 512  # in one packed number, whose cost grows with the square of its length
MAX_NUMBER_BYTES = 2048
MAX_TEMPERATURE = 100.0
LEAST_REPETITION_PENALTY, MAX_REPETITION_PENALTY = 0.01, 100.0
MAX_PENALTY = 100.0  # of presence and frequency, in either direction
MAX_DETAIL_CHARS = 200  # in a refusal's explanation
MAX_RETRY_AFTER_MS = 3_600_000
MAX_APP_PAYLOAD_BYTES = 64 * 1024  # of what an app sends to a device
