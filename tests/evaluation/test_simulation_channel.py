"""The channel: capacity over time, order, and what a seed fixes."""

import math

import numpy as np
import pytest

from evaluation.simulate.world.channel import Direction, FadingRate, FixedRate, Line, Rate, TraceRate


def test_a_fixed_rate_takes_bits_over_rate() -> None:
    assert FixedRate(1000).finish(500, 3.0) == 3.5
    assert FixedRate().finish(10**9, 3.0) == 3.0


def test_without_fading_the_rate_is_shannons() -> None:
    rate = FadingRate(1e6, 10.0, seed=1, fading=False)
    bits = 1e6 * math.log2(11)
    assert rate.finish(bits, 0.0) == pytest.approx(1.0)
    assert rate.finish(bits / 2, 7.3) == pytest.approx(7.8)


def test_fading_has_the_mean_of_its_exponential_gains() -> None:
    rate = FadingRate(1e6, 0.0, seed=1)
    gains = np.random.default_rng(0).exponential(size=200_000)
    mean = 1e6 * np.log2(1 + gains).mean()
    assert 1000 * mean / rate.finish(1000 * mean, 0.0) == pytest.approx(mean, rel=0.02)


def test_fades_are_a_function_of_the_seed_and_not_of_what_is_sent() -> None:
    one, other, third = (FadingRate(1e6, 0.0, seed) for seed in (1, 1, 2))
    for start in (900.0, 3.0, 0.0):
        one.finish(1e5, start)
    assert one.finish(12345.0, 10.02) == other.finish(12345.0, 10.02)
    assert one.finish(12345.0, 10.02) != third.finish(12345.0, 10.02)


@pytest.mark.parametrize("rate", [FadingRate(1e5, -10.0, 3), TraceRate([0.0, 1.0, 1.5], [1.0, 0.0, 3.0])])
def test_sending_in_two_parts_takes_as_long_as_in_one(rate: Rate) -> None:
    for start in (0.0, 0.013, 2.5, 77.7):
        middle = rate.finish(40_000, start)
        assert rate.finish(25_000, middle) == pytest.approx(rate.finish(65_000, start))


def test_a_trace_is_replayed_and_repeated() -> None:
    lines = ["t_s,ul_mbps,dl_mbps", "10.0,1.0,", "10.5,2.0,", "11.0,4.0,"]
    trace = TraceRate.read(lines)
    assert trace.finish(0.5e6, 0.0) == pytest.approx(0.5)
    assert trace.finish(1.5e6, 0.0) == pytest.approx(1.0)
    assert trace.finish(3.5e6, 0.0) == pytest.approx(1.5)
    assert trace.finish(0.5e6, 1.5) == pytest.approx(2.0)  # from its beginning again
    assert TraceRate.read(lines, offset=0.5).finish(1e6, 0.0) == pytest.approx(0.5)


def test_a_gap_in_a_trace_is_slow_and_ends() -> None:
    assert TraceRate([0.0, 1.0], [0.0, 0.0]).finish(1000, 0.0) == pytest.approx(0.1)


@pytest.mark.parametrize(
    "lines", [["time,rate", "1,2", "3,4"], ["t_s,ul_mbps", "1.0,2.0"], ["t_s,ul_mbps", "x,1"]]
)
def test_a_file_that_is_no_trace_is_refused(lines: list[str]) -> None:
    with pytest.raises(ValueError, match=r"trace|float"):
        TraceRate.read(lines)


def test_messages_share_the_line_and_never_overtake() -> None:
    line = Line(Direction(FixedRate(8000), delay=0.1, jitter=0.5), seed=1)
    arrivals = [line.send(100, now) for now in (0.0, 0.0, 0.05, 3.0)]
    assert arrivals == sorted(arrivals)
    assert arrivals[1] >= 0.3  # two times 100 bytes at 1000 bytes a second, and the delay
    assert 3.2 <= arrivals[3] <= 3.7
