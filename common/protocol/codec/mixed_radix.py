"""Integers <-> one number in mixed radix: each is a digit whose radix is the number of its possible values.

Law: integers only, so every platform writes and reads the same bytes. A reader's work is bounded by the
digits it asks for and the bytes it is given, and a number with digits left over is refused.
"""

from collections.abc import Sequence

from common.protocol.codec.errors import CodecError


class DigitWriter:
    """Collects digits, the least significant first; `number` turns them into bytes."""

    def __init__(self) -> None:
        self._digits: list[tuple[int, int]] = []  # (digit, radix)

    def put(self, digit: int, radix: int) -> None:
        """Add one of `radix` values, 0 to radix - 1; each costs log2(radix) bits."""
        self._digits.append((digit, radix))

    def put_gamma(self, value: int) -> None:
        """Add an integer from 1; small ones are cheap, 1 costs one bit.

        (Elias, IEEE Trans. Inf. Theory 21, 1975.)
        """
        num_bits = value.bit_length() - 1
        self._digits += [(1, 2)] * num_bits
        self._digits += [(0, 2), (value - (1 << num_bits), 1 << num_bits)]

    def put_ascending(self, values: Sequence[int], top: int) -> None:
        """Add integers [n] from 0 to `top` that never descend: the middle one, then the middle of each half.

        Each is a digit among the values that its two neighbours leave open, so values close together cost
        little (binary interpolative coding, Moffat and Stuiver, Information Retrieval 3, 2000).
        """
        bounded = [0, *values, top]
        end = len(bounded) - 1
        stride = _first_stride(len(values))
        while stride:
            for index in range(stride, end, 2 * stride):
                low, high = bounded[index - stride], bounded[min(index + stride, end)]
                if low < high:
                    self._digits.append((bounded[index] - low, high - low + 1))
            stride >>= 1

    def number(self) -> bytes:
        """All digits as one number, little-endian, in as few bytes as possible."""
        number = 0
        for digit, radix in reversed(self._digits):
            number = number * radix + digit
        return number.to_bytes((number.bit_length() + 7) // 8, "little")


class DigitReader:
    """Reads the digits of a number in the order in which they were added; CodecError if it is malformed."""

    def __init__(self, data: bytes) -> None:
        if data.endswith(b"\x00"):
            raise CodecError("a packed number ends in a zero byte")
        self._number = int.from_bytes(data, "little")

    def get(self, radix: int) -> int:
        """The next digit, 0 to radix - 1."""
        self._number, digit = divmod(self._number, radix)
        return digit

    def get_gamma(self, high: int) -> int:
        """What `put_gamma` wrote, from 1 to `high`."""
        num_bits = 0
        while self.get(2):
            num_bits += 1
            if num_bits >= high.bit_length():
                raise CodecError(f"a packed number has a count of more than {high}")
        value = (1 << num_bits) + self.get(1 << num_bits)
        if value > high:
            raise CodecError(f"a packed number has a count of {value}, more than {high}")
        return value

    def get_ascending(self, count: int, top: int) -> list[int]:
        """What `put_ascending` wrote: `count` integers from 0 to `top` that never descend."""
        number = self._number
        bounded = [0] * (count + 1) + [top]
        end = count + 1
        stride = _first_stride(count)
        while stride:
            for index in range(stride, end, 2 * stride):
                low, high = bounded[index - stride], bounded[min(index + stride, end)]
                if low < high:
                    number, digit = divmod(number, high - low + 1)
                    low += digit
                bounded[index] = low
            stride >>= 1
        self._number = number
        return bounded[1:-1]

    def finish(self) -> None:
        """Raise CodecError unless every digit has been read."""
        if self._number:
            raise CodecError("a packed number holds more than its distributions")


def _first_stride(count: int) -> int:
    """The largest power of two that is at most `count`; 0 for none."""
    return 1 << count.bit_length() >> 1
