"""Kernels for a GPU that do in one launch what takes torch many; compiled when first used, by NVRTC.

Law: each gives what the torch operations beside it give, and is used only after it has given it. The words
behind the noise equal numpy's Philox-4x64-10, bit for bit.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

NUM_ROUNDS = 10
MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
KEY_STEPS = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
NOTHING = "-1e300"  # a score that no token with any probability has

Kernel = Callable[..., torch.Tensor]

_log = logging.getLogger(__name__)

_UNIFORM = f"""
    unsigned long long a = 1ULL + ((unsigned long long)id >> 2), b = (unsigned long long)position;
    unsigned long long c = 0, d = 0, other_key = (unsigned long long)purpose;
    unsigned long long key = ((unsigned long long)high << 32) | (unsigned long long)low;
    for (int round = 0; round < {NUM_ROUNDS}; ++round) {{
        unsigned long long top = __umul64hi({MULTIPLIERS[0]:#x}ULL, a), product = {MULTIPLIERS[0]:#x}ULL * a;
        unsigned long long other_top = __umul64hi({MULTIPLIERS[1]:#x}ULL, c);
        unsigned long long other_product = {MULTIPLIERS[1]:#x}ULL * c;
        a = other_top ^ b ^ key;
        b = other_product;
        c = top ^ d ^ other_key;
        d = product;
        key += {KEY_STEPS[0]:#x}ULL;
        other_key += {KEY_STEPS[1]:#x}ULL;
    }}
    unsigned long long lane = (unsigned long long)id & 3ULL;
    unsigned long long word = lane == 0 ? a : lane == 1 ? b : lane == 2 ? c : d;
    double uniform = ((double)(word >> 12) + 0.5) * {2.0**-52!r};
"""
_DRAW = f"""
template <typename T> T uniform_at(T high, T low, T position, T id, T purpose) {{
    {_UNIFORM}
    return uniform;
}}
"""
_GUMBEL = f"""
template <typename T> T gumbel_at(T high, T low, T position, T id, T purpose) {{
    {_UNIFORM}
    return -log(-log(uniform));
}}
"""
_WEIGHT = """
template <typename T> T weight(T logit, T largest, T temperature) {
    return exp((logit - largest) / temperature);
}
"""
_SCORE = f"""
template <typename T> T score(T logit, T largest, T temperature, T noise, T weight) {{
    return weight > 0 ? (logit - largest) / temperature + noise : {NOTHING};
}}
"""


@dataclass(frozen=True, slots=True)
class Kernels:
    """The kernels of a GPU, all on float64; the two halves of a seed are numbers of their own."""

    uniform: Kernel  # (high, low, position, id, purpose)
    gumbel: Kernel  # the same
    weight: Kernel  # (logit, largest, temperature)
    score: Kernel  # (logit, largest, temperature, noise, weight)


@cache
def kernels(device: torch.device) -> Kernels | None:
    """The kernels of a device; None where it has none, or they cannot be made."""
    if device.type != "cuda":
        return None
    try:
        make: Callable[[str], Kernel] = getattr(torch.cuda.jiterator, "_create_jit_fn")  # noqa: B009
        made = Kernels(make(_DRAW), make(_GUMBEL), make(_WEIGHT), make(_SCORE))
        reason = _fault(made, device)
    except (RuntimeError, AttributeError, AssertionError, OSError) as error:
        made, reason = None, str(error).split("\n")[0]
    if reason is not None:
        _log.warning("judging on the GPU is slower than it could be: its kernels cannot be used (%s)", reason)
        return None
    return made


def _fault(made: Kernels, device: torch.device) -> str | None:
    """What is wrong with the kernels, if anything."""
    seeds = torch.tensor([[-3], [5]], device=device)
    positions, ids = torch.tensor([[11], [1 << 20]], device=device), torch.arange(64, device=device)[None]
    halves = (seeds >> 32 & 0xFFFFFFFF).double(), (seeds & 0xFFFFFFFF).double()
    purpose = torch.full((1, 1), 3.0, dtype=torch.float64, device=device)
    found = made.uniform(*halves, positions.double(), ids.double(), purpose)
    if not torch.equal(found, unit(words_in_torch(seeds, positions, ids, 3))):
        return "the random numbers differ"
    logits = torch.linspace(-20, 3, 64, device=device)[None].bfloat16()
    three, half = (torch.full((1, 1), value, dtype=torch.float64, device=device) for value in (3.0, 0.5))
    if not torch.allclose(made.weight(logits, three, half), ((logits.double() - 3) / 0.5).exp(), rtol=1e-13):
        return "the weights differ"
    return None


def words_in_torch(
    seeds: torch.Tensor, positions: torch.Tensor, ids: torch.Tensor, purpose: int
) -> torch.Tensor:
    """The random words [n, k] as int64, by torch's integer operations; the arguments are int64, too."""
    a, b = 1 + (ids >> 2), positions
    c = d = torch.zeros_like(ids)
    key, other_key = seeds, torch.full_like(seeds, purpose)
    for _ in range(NUM_ROUNDS):
        top, product = _product(a, MULTIPLIERS[0])
        other_top, other_product = _product(c, MULTIPLIERS[1])
        a, b, c, d = other_top ^ b ^ key, other_product, top ^ d ^ other_key, product
        key, other_key = key + _signed(KEY_STEPS[0]), other_key + _signed(KEY_STEPS[1])
    lane = ids & 3
    return torch.where(lane < 2, torch.where(lane == 0, a, b), torch.where(lane == 2, c, d))


def unit(words: torch.Tensor) -> torch.Tensor:
    """The numbers in (0, 1) that words stand for."""
    return ((words >> 12) & ((1 << 52) - 1)).double().add_(0.5).mul_(2.0**-52)


def _product(numbers: torch.Tensor, multiplier: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The high and the low word of an unsigned product; int64 wraps as unsigned words do."""
    half = 0xFFFFFFFF
    low, high = numbers & half, (numbers >> 32) & half
    m_low, m_high = multiplier & half, multiplier >> 32
    middle = high * m_low + ((low * m_low >> 32) & half)
    other = low * m_high + (middle & half)
    top = high * m_high + ((middle >> 32) & half) + ((other >> 32) & half)
    return top, numbers * _signed(multiplier)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word
