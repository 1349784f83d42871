"""The noise of `common.sampling.randomness.gumbel_noise`, made on the device that needs it.

Law: every word equals numpy's Philox-4x64-10, bit for bit. A word is a function of (seed, position, id), so
only the ids that are asked for are computed.
"""

import logging
from collections.abc import Callable
from functools import cache

import numpy as np
import torch

from common.sampling.randomness import MAX_SEED, Purpose, coupling_words, gumbel_of

NUM_ROUNDS = 10
MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
KEY_STEPS = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
LOW = 0xFFFFFFFF

Words = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

_log = logging.getLogger(__name__)

_KERNEL = f"""
template <typename T> T coupling_word(T seed, T position, T id) {{
    unsigned long long a = 1ULL + ((unsigned long long)id >> 2), b = (unsigned long long)position;
    unsigned long long c = 0, d = 0;
    unsigned long long key = (unsigned long long)seed, other_key = {int(Purpose.COUPLING)}ULL;
    for (int round = 0; round < {NUM_ROUNDS}; ++round) {{
        unsigned long long high = __umul64hi({MULTIPLIERS[0]:#x}ULL, a), low = {MULTIPLIERS[0]:#x}ULL * a;
        unsigned long long other_high = __umul64hi({MULTIPLIERS[1]:#x}ULL, c);
        unsigned long long other_low = {MULTIPLIERS[1]:#x}ULL * c;
        a = other_high ^ b ^ key;
        b = other_low;
        c = high ^ d ^ other_key;
        d = low;
        key += {KEY_STEPS[0]:#x}ULL;
        other_key += {KEY_STEPS[1]:#x}ULL;
    }}
    unsigned long long lane = (unsigned long long)id & 3ULL;
    return (T)(lane == 0 ? a : lane == 1 ? b : lane == 2 ? c : d);
}}
"""


def gumbel_noise(seeds: torch.Tensor, positions: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise [n, k] for ids [n, k] or [1, k]; seeds and positions are int64 [n, 1].

    A seed of 64 bits is given as the int64 of the same bits.
    """
    if seeds.device.type == "cpu":
        return _on_host(seeds, positions, ids)
    words = _words(seeds.device.type)(seeds, positions, ids)
    numbers = ((words >> 12) & ((1 << 52) - 1)).double().add_(0.5).mul_(2.0**-52)
    return numbers.log_().neg_().log_().neg_()


def _on_host(seeds: torch.Tensor, positions: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """The same by numpy's generator, which is faster on the CPU also where few ids are wanted."""
    rows = ids.expand(len(seeds), -1).numpy()
    noise = np.empty(rows.shape)
    for row, seed, position in zip(range(len(rows)), seeds.flatten(), positions.flatten(), strict=True):
        words = coupling_words(int(seed) & MAX_SEED, int(position), int(rows[row].max()) + 1)
        noise[row] = gumbel_of(words[rows[row]])
    return torch.from_numpy(noise)


def words_in_torch(seeds: torch.Tensor, positions: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """The random words [n, k] as int64, by torch's integer operations."""
    a, b = 1 + (ids >> 2), positions
    c = d = torch.zeros_like(ids)
    key, other_key = seeds, torch.full_like(seeds, int(Purpose.COUPLING))
    for _ in range(NUM_ROUNDS):
        high, low = _product(a, MULTIPLIERS[0])
        other_high, other_low = _product(c, MULTIPLIERS[1])
        a, b, c, d = other_high ^ b ^ key, other_low, high ^ d ^ other_key, low
        key, other_key = key + _signed(KEY_STEPS[0]), other_key + _signed(KEY_STEPS[1])
    lane = ids & 3
    return torch.where(lane < 2, torch.where(lane == 0, a, b), torch.where(lane == 2, c, d))


def _product(numbers: torch.Tensor, multiplier: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The high and the low word of an unsigned product; int64 wraps as unsigned words do."""
    low, high = numbers & LOW, (numbers >> 32) & LOW
    m_low, m_high = multiplier & LOW, multiplier >> 32
    first = low * m_low
    middle = high * m_low + ((first >> 32) & LOW)
    other = low * m_high + (middle & LOW)
    top = high * m_high + ((middle >> 32) & LOW) + ((other >> 32) & LOW)
    return top, numbers * _signed(multiplier)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


@cache
def _words(device: str) -> Words:
    """The fastest way to the words on a kind of device that gives the right ones."""
    if device != "cuda":
        return words_in_torch
    try:
        made = getattr(torch.cuda.jiterator, "_create_jit_fn")(_KERNEL)  # noqa: B009 - its documented name
        check = torch.arange(64, device=device)[None]
        seed, position = torch.tensor([[-3]], device=device), torch.tensor([[11]], device=device)
        if torch.equal(made(seed, position, check), words_in_torch(seed, position, check)):
            return made
        reason = "it gives other words"
    except (RuntimeError, AttributeError, AssertionError, OSError) as error:
        reason = str(error).split("\n")[0]
    _log.warning("the kernel for coupling noise cannot be used (%s): torch's operations are slower", reason)
    return words_in_torch
