"""The judge of the long runs: it sees a leak through noise, and none where there is none."""

import os
import random

import numpy as np

from benchmarks.fuzz.messages import Aim, payloads, topics
from benchmarks.support.memory_sampler import MemorySampler, Sample, sample, slope
from tests.support.fakes import opening
from tests.support.narrowing import present


def test_one_spike_and_a_noisy_line_do_not_hide_a_slope() -> None:
    rng = np.random.default_rng(1)
    times = np.arange(60.0)
    values = 100 + 0.5 * times + rng.normal(0, 1, 60)
    values[30] += 500
    assert abs(slope(times.tolist(), values.tolist()) - 0.5) < 0.05
    assert abs(slope(times.tolist(), (values - 0.5 * times).tolist())) < 0.05


def test_a_slope_needs_two_moments() -> None:
    assert slope([], []) == slope([1.0], [5.0]) == slope([2.0, 2.0], [1.0, 9.0]) == 0.0


def test_growth_is_told_after_the_warm_up_only() -> None:
    sampler = MemorySampler(dict)
    early = [Sample(float(t), 10.0 * t, 3) for t in range(60)]
    later = [Sample(float(t), 600 + (t - 60) / 60, 3 + t // 100) for t in range(60, 180)]
    sampler.samples = {"leaky": early + later}
    (growth,) = sampler.growth(warm_up=60)
    assert growth.num_samples == 120
    assert round(growth.mib_per_minute, 3) == 1.0
    assert (growth.first_files, growth.last_files) == (3, 4)
    assert sampler.growth(warm_up=999) == []


def test_a_process_that_is_there_is_seen_and_one_that_is_gone_is_not() -> None:
    taken = present(sample(os.getpid(), 1.0))
    assert taken.resident_mib > 10
    assert taken.num_files > 0
    assert sample(2**22 + 1, 1.0) is None


def test_the_same_seed_makes_the_same_hostile_messages() -> None:
    def some(seed: int) -> list[tuple[bytes, str]]:
        rng = random.Random(seed)
        stream = zip(payloads(opening(), rng), topics(Aim(), rng), strict=False)
        return [next(stream) for _ in range(500)]

    assert some(5) == some(5) != some(6)


def test_it_is_known_which_topics_reach_the_worker() -> None:
    aim = Aim(worker="w", pool="demo", root="hlm/v1")
    reaching = ["hlm/v1/demo/open/d/s", "hlm/v1/demo/open//", "hlm/v1/demo/draft/w/d/s"]
    missing = [
        "hlm/v1/demo/open/d",
        "hlm/v1/demo/open/d/s/t",
        "hlm/v1/demo/draft/v/d/s",
        "hlm/v1/x/open/d/s",
        "a",
    ]
    assert [aim.reaches(topic) for topic in [*reaching, *missing]] == [True] * 3 + [False] * 5
