"""The simulation says what a real run says: the same texts, the same bytes, and times that follow from it."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from common.protocol.messages import Correction
from common.sampling.distribution import Dense, Lattice, TopK
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.policy.schemes import SCHEMES
from evaluation.__main__ import main
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from evaluation.models.pair import Pair, load_pair
from evaluation.simulate.curves import DRIFT, PAYLOAD, SKIPPED, TOKENS, TRUNCATION
from evaluation.simulate.families import Family, run_family
from evaluation.simulate.measures import greedy_reply, speed, token_delays
from evaluation.simulate.papers import AS_PUBLISHED, at_rate_of
from evaluation.simulate.running import Prompt, Simulation, World
from evaluation.simulate.study import Study
from evaluation.simulate.variants import Case, variant
from evaluation.simulate.world.accounting import Accounting, Extra, Papers, Wire
from evaluation.simulate.world.channel import Channel, Direction, FadingRate, FixedRate
from evaluation.simulate.world.compute import Compute
from evaluation.simulate.world.device import Known, Outcome
from evaluation.smart_home.held_out import held_out
from tests.support.narrowing import present

NUM_PROMPTS = 3
FIRST = 10  # of the held-out commands, and their seeds: here the target rejects some of the draft
COMPUTE = Compute(draft_seconds=0.02, pass_seconds=0.06, position_seconds=0.001, prompt_seconds=0.001)
PLAIN = Compute(draft_seconds=0.02, pass_seconds=0.06)
SENDING = tuple(name for name in SCHEMES if name != "slm")


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with load_pair() as loaded:
        yield loaded


def prompts(pair: Pair, count: int = NUM_PROMPTS) -> list[Prompt]:
    asked = enumerate(held_out(count, first=FIRST), FIRST)
    return [Prompt(tuple(pair.prompt(one.command)), seed) for seed, one in asked]


def world(
    pair: Pair,
    rate_bps: float = 1e6,
    delay: float = 0.02,
    compute: Compute = COMPUTE,
    accounting: Callable[[], Accounting] | None = None,
) -> World:
    direction = Direction(FixedRate(rate_bps), delay)
    return World(
        lambda seed: Channel(direction, direction, seed),
        compute,
        accounting or (lambda: Wire(pair.vocab_size, tcp=False)),
    )


def fading() -> World:
    return World(
        lambda seed: Channel(up=Direction(FadingRate(1e5, -5.0, seed))), PLAIN, lambda: Papers(32_000)
    )


def run(pair: Pair, name: str, where: World, **settings: object) -> list[Outcome]:
    simulation = Simulation(pair, variant(name, temperature=1.0, **settings))
    (outcomes,) = simulation.run([prompts(pair)], where)
    return outcomes


def texts(outcomes: Sequence[Outcome]) -> list[list[int]]:
    return [outcome.tokens for outcome in outcomes]


# -- against a real run --------------------------------------------------------------------------------


async def generated(config: AgentConfig, count: int) -> tuple[list[list[int]], int, int]:
    """Texts, the bytes that went up, and how many drafts went twice: on a busy machine some do."""
    found: list[list[int]] = []
    num_resent = 0
    async with EdgeAgent.open(config) as agent:
        for seed, one in enumerate(held_out(count, first=FIRST), FIRST):
            generation = agent.generate(one.command, seed=seed)
            tokens = [token.token async for token in generation]
            num_resent += generation.session.tally.num_resent
            found.append([token for token in tokens if token is not None])
        return found, agent.link_statistics.num_bytes_up, num_resent


@pytest.mark.slow
def test_texts_are_those_of_a_real_run_and_so_are_the_bytes_where_nothing_overlaps(
    pair: Pair, broker: LocalBroker
) -> None:
    with LocalWorker(broker.url, name="w1"):
        for name in ("u-hlm", "cu-hlm-online", "opportunistic", "lossless", "coupled", "llm"):
            config = AgentConfig(broker=broker.url, device="device0", scheme=name, temperature=1.0)
            real, num_bytes, num_resent = asyncio.run(generated(config, NUM_PROMPTS))
            outcomes = run(pair, name, world(pair))
            assert texts(outcomes) == real, name
            if SCHEMES[name].window == 1:
                simulated = sum(outcome.traffic.bytes_up for outcome in outcomes)
                assert num_resent or simulated == num_bytes, name


# -- laws ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SENDING)
def test_the_text_does_not_depend_on_the_channel_or_on_other_devices(pair: Pair, name: str) -> None:
    alone = run(pair, name, world(pair))
    simulation = Simulation(pair, variant(name, temperature=1.0))
    assert texts(simulation.run_alone(prompts(pair), fading())) == texts(alone)
    side_by_side = simulation.run(
        [[prompt] for prompt in prompts(pair)], world(pair, rate_bps=1e5, delay=0.3)
    )
    assert [outcomes[0].tokens for outcomes in side_by_side] == texts(alone)


def test_coupled_text_is_what_the_target_alone_samples(pair: Pair) -> None:
    assert texts(run(pair, "coupled", world(pair))) == texts(run(pair, "llm", world(pair)))


@pytest.mark.parametrize("name", ["lossless", "coupled", "hlm", "sd-4", "dssd-3"])
def test_greedy_text_of_what_loses_nothing_is_the_targets_own(pair: Pair, name: str) -> None:
    simulation = Simulation(pair, variant(name, temperature=0.0))
    assert simulation.variant.is_lossless
    for outcome in simulation.run_alone(prompts(pair), world(pair)):
        assert outcome.tokens == greedy_reply(pair, outcome.prompt, 256)


def test_equal_arguments_give_equal_outcomes(pair: Pair) -> None:
    first, second = (run(pair, "lossless", world(pair)) for _ in range(2))
    assert [outcome.times for outcome in first] == [outcome.times for outcome in second]
    assert [outcome.traffic for outcome in first] == [outcome.traffic for outcome in second]


# -- times ---------------------------------------------------------------------------------------------


def test_hlm_takes_a_draft_an_uplink_and_a_pass_for_each_token(pair: Pair) -> None:
    payload = 32_000 * 23 / 8
    where = world(pair, rate_bps=8 * payload, delay=0.0, compute=PLAIN, accounting=lambda: Papers(32_000))
    (outcome, *_) = run(pair, "hlm", where)
    assert token_delays(outcome) == pytest.approx([0.02 + 1.0 + 0.06] * len(outcome.finals))
    found = speed([outcome])
    assert found.tokens_per_second == pytest.approx(1 / 1.08)
    assert found.papers_rate == pytest.approx(found.tokens_per_second)
    assert found.bytes_up == payload


def test_the_papers_clock_runs_faster_than_time_where_some_tokens_are_slow(pair: Pair) -> None:
    found = speed(run(pair, "u-hlm", world(pair, rate_bps=1e4), threshold=0.05))
    assert found.papers_rate > 1.5 * found.tokens_per_second


def test_where_nobody_hurries_nothing_is_sent_twice_however_slow_the_link(pair: Pair) -> None:
    for name in ("hlm", "sd-4", "opportunistic", "lossless"):
        simulation = Simulation(pair, variant(name, temperature=1.0))
        (outcome,) = simulation.run_alone(prompts(pair, 1), world(pair, rate_bps=50))
        assert max(token_delays(outcome)) > 5.0, name  # longer than a device waits for its first answer
        assert outcome.tally.num_resent == 0, name


def test_delays_share_out_the_whole_time(pair: Pair) -> None:
    for outcome in run(pair, "lossless", world(pair)):
        assert sum(token_delays(outcome)) == pytest.approx(outcome.times[-1])


def test_a_shorter_round_trip_is_never_slower(pair: Pair) -> None:
    seconds = [
        sum(outcome.seconds for outcome in run(pair, "lossless", world(pair, delay=delay)))
        for delay in (0.005, 0.05, 0.5)
    ]
    assert seconds == sorted(seconds)


def test_devices_share_the_passes_of_a_worker(pair: Pair) -> None:
    simulation = Simulation(pair, variant("llm", temperature=1.0))
    queues = [[prompt] for prompt in prompts(pair, 8)]
    together = simulation.run(queues, world(pair, compute=PLAIN))
    alone = [simulation.run([queue], world(pair, compute=PLAIN))[0][0] for queue in queues]
    longest = max(outcome.seconds for (outcome,) in together)
    assert longest < 1.5 * max(outcome.seconds for outcome in alone)


# -- what is counted -----------------------------------------------------------------------------------


def test_payloads_are_the_published_ones() -> None:
    papers = Papers(32_000)
    ids = np.arange(30)
    assert papers.bits(Dense(np.ones(1280, np.float16))) / 8 == 92_000
    assert papers.bits(TopK(ids, np.zeros(30, np.uint8), 1.0)) / 8 == 86.25
    assert papers.bits(Lattice(ids[:3], np.array([254, 1, 1]))) == 69
    assert papers.bits(None) == 15


def test_a_split_verification_sends_less_up_and_more_down_for_the_same_text(pair: Pair) -> None:
    whole, split = (run(pair, name, world(pair)) for name in ("sd-4", "dssd-4"))
    assert texts(whole) == texts(split)
    assert sum(outcome.tally.num_tested - outcome.tally.num_accepted for outcome in whole) > 0
    sent = [sum(outcome.traffic.bytes_up for outcome in outcomes) for outcomes in (whole, split)]
    received = [sum(outcome.traffic.bytes_down for outcome in outcomes) for outcomes in (whole, split)]
    assert sent[1] < sent[0] / 20
    assert received[1] > received[0]


def test_what_is_skipped_and_what_it_costs_is_counted(pair: Pair) -> None:
    study = Study.of(pair, held_out(NUM_PROMPTS, first=FIRST), FIRST, {"temperature": 1.0}, PLAIN)
    nothing, everything = study.worth("lossless"), study.worth("slm")
    assert (nothing.skipped, nothing.drift, nothing.truly_skipped) == (0.0, 0.0, None)
    assert everything.skipped == 1.0
    assert everything.drift == pytest.approx(1 - present(everything.truly_skipped))
    some, more = (study.worth("opportunistic", threshold=threshold) for threshold in (0.02, 0.6))
    assert 0 < some.skipped < more.skipped < 1
    assert some.drift < more.drift <= everything.drift + 0.02


def test_the_papers_count_what_comes_down_but_let_it_take_no_time(pair: Pair) -> None:
    papers = Papers(32_000)
    assert papers.down(Correction(1, 0, 7, "w1"), "", Extra()) == 15 / 8
    assert papers.down(Correction(1, 0, 7, "w1"), "", Extra(num_rows=1)) == 64_000
    assert papers.down(Correction(1, 2, None, "w1", context_codes=b"abc"), "", Extra()) == 3
    slow_down = Channel(down=Direction(FixedRate(100.0)))
    where = World(lambda _seed: slow_down, PLAIN, lambda: Papers(32_000))
    (outcome, *_) = run(pair, "hlm", where)
    assert token_delays(outcome) == pytest.approx([0.08] * len(outcome.finals))
    assert outcome.traffic.bytes_down > 0


# -- what a device learns ------------------------------------------------------------------------------


def test_a_gate_that_weighs_the_link_learns_it_from_one_generation_to_the_next(pair: Pair) -> None:
    study = Study.of(pair, held_out(NUM_PROMPTS, first=FIRST), FIRST, {"temperature": 1.0}, PLAIN)
    simulation = study.simulation("opportunistic", rejection_cost=3.0)
    slow, fast = (study.run(simulation, world(pair, rate_bps=rate, compute=PLAIN)) for rate in (1000.0, 1e6))
    assert slow[0].numbers == fast[0].numbers  # nothing is known yet
    assert slow[-1].numbers.threshold > fast[-1].numbers.threshold > 0
    assert study.worth_of(simulation, slow).skipped > study.worth_of(simulation, fast).skipped


def test_a_price_of_bytes_is_learnt_from_the_link_too(pair: Pair) -> None:
    study = Study.of(pair, held_out(NUM_PROMPTS, first=FIRST), FIRST, {"temperature": 1.0}, PLAIN)
    simulation = study.simulation("opportunistic", max_ids=0)
    slow = study.run(simulation, world(pair, rate_bps=1000.0, compute=PLAIN))
    assert slow[-1].numbers.byte_price != slow[0].numbers.byte_price


def test_a_fixed_threshold_is_run_with_each_prompt_alone(pair: Pair) -> None:
    study = Study.of(pair, held_out(2, first=FIRST), FIRST, {"temperature": 1.0}, PLAIN)
    simulation = study.simulation("opportunistic")
    alone = simulation.run_alone(prompts(pair, 2), fading())
    assert [one.times for one in study.run(simulation, fading())] == [one.times for one in alone]


# -- what the papers' schemes are given ---------------------------------------------------------------


def test_rows_as_published_use_the_papers_twenty_votes_and_their_thresholds() -> None:
    for case in AS_PUBLISHED:
        made = variant(case.name, **case.settings).config
        assert made.estimator == "perturbation-vote", case.label
        assert made.threshold in (0.073, 0.43, 0.081, 0.81), case.label


def test_the_papers_schemes_may_draft_ahead_and_write_the_same_text_sooner(pair: Pair) -> None:
    where = world(pair, delay=0.1)
    for name in ("u-hlm", "cu-hlm-offline", "cu-hlm-online"):
        waiting, ahead = (run(pair, name, where, threshold=0.02, window=window) for window in (1, 4))
        assert texts(ahead) == texts(waiting), name
        assert sum(one.seconds for one in ahead) < sum(one.seconds for one in waiting), name


def test_rand_hlm_sends_as_large_a_share_as_the_scheme_it_is_compared_with(pair: Pair) -> None:
    study = Study.of(pair, held_out(NUM_PROMPTS, first=FIRST), FIRST, {"temperature": 1.0}, PLAIN)
    case = at_rate_of(study, Case("u-hlm", "u-hlm", {"threshold": 0.05}), "matched")
    assert case.settings["uplink_probability"] == 1 - study.worth("u-hlm", threshold=0.05).skipped


def test_every_command_is_asked_again_with_other_seeds(pair: Pair) -> None:
    once = Study.of(pair, held_out(NUM_PROMPTS, first=FIRST), FIRST, {"temperature": 1.0}, PLAIN)
    study = once.repeated(2)
    assert [one.tokens for one in study.prompts] == [one.tokens for one in once.prompts] * 2
    assert study.prompts[:NUM_PROMPTS] == once.prompts
    assert len({one.seed for one in study.prompts}) == 2 * NUM_PROMPTS
    (found,) = run_family(study, Family("slm", {"slm": None}, knobs=()), {"near": world(pair)})
    assert found.commands.tolist() == [*range(NUM_PROMPTS)] * 2
    assert (found.columns[TOKENS][0, :NUM_PROMPTS] > 0).all()
    assert study.described == f"{NUM_PROMPTS} held-out commands, 2 seeds each"


def test_a_peers_block_is_tuned_on_other_commands_and_short_where_rows_are_slow(pair: Pair) -> None:
    study = Study.of(pair, held_out(NUM_PROMPTS, first=FIRST), FIRST, {"temperature": 1.0}, PLAIN)
    assert not {prompt.tokens for prompt in study.tuning} & {prompt.tokens for prompt in study.prompts}
    study.tuning = study.tuning[:2]
    slow = study.simulation_in("sd", world(pair, rate_bps=1e4, compute=PLAIN))
    far = study.simulation_in("dssd", world(pair, delay=0.5, compute=PLAIN))
    assert slow.variant.gamma < far.variant.gamma


def test_policies_that_differ_in_their_gate_share_their_drafts_and_decide_for_themselves(pair: Pair) -> None:
    known: Known = {}
    alone, shared = (
        [
            Simulation(pair, variant("u-hlm", temperature=1.0, threshold=threshold), store)
            for threshold in (-1.0, 0.05, 1.0)
        ]
        for store in (None, known)
    )
    outcomes = [[each.run_alone(prompts(pair, 2), world(pair)) for each in made] for made in (alone, shared)]
    assert [[one.times for one in each] for each in outcomes[0]] == [
        [one.times for one in each] for each in outcomes[1]
    ]
    assert len(known) == 2  # one for each seed


def test_one_run_gives_a_scheme_s_replies_at_every_threshold_window_and_world(pair: Pair) -> None:
    study = Study.of(pair, held_out(2, first=FIRST), FIRST, {"temperature": 1.0}, PLAIN)
    family = Family(
        "cu-hlm-offline",
        {"waiting": None, "ahead": 4},
        {"max_ids": 1},
        knobs=(-1.0, 0.1, 1.0),
    )
    waiting, ahead = run_family(study, family, {"far": world(pair, delay=0.1, compute=PLAIN)})
    assert waiting.columns[SKIPPED].sum(axis=1)[0] == 0
    assert (np.diff(waiting.columns[SKIPPED].sum(axis=1)) > 0).all()
    assert (waiting.columns[DRIFT] == ahead.columns[DRIFT]).all()
    assert (waiting.columns[TRUNCATION][0] > 0).all()
    assert (waiting.columns[TRUNCATION][-1] == 0).all()
    assert waiting.columns[PAYLOAD][0] == pytest.approx(waiting.columns[TOKENS][0] * 23 / 8)


# -- the command ---------------------------------------------------------------------------------------


def test_the_command_prints_a_row_per_scheme(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    flags = ["--commands", "2", "--schemes", "lossless,sd-2", "--rate-kbps", "200", "--cache", str(tmp_path)]
    assert main(["simulate", "compare", *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines] == ["scheme", "---", "lossless", "sd-2"]


def test_the_command_knows_fading_links(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    flags = ["--commands", "1", "--schemes", "hlm", "--bandwidth-mhz", "1", "--cache", str(tmp_path)]
    assert main(["simulate", "compare", *flags]) == 0
    assert "| hlm |" in capsys.readouterr().out


def test_times_that_are_given_replace_the_profiles_and_no_others(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    flags = ["--commands", "1", "--schemes", "slm", "--cache", str(tmp_path), "--draft-ms", "100"]
    assert main(["simulate", "compare", *flags]) == 0
    shown = capsys.readouterr()
    assert "a draft token takes 100 ms; the rest: TinyLlama" in shown.err
    assert "| slm | 9." in shown.out  # a little less than 10: the profile's time for the prompt is kept


def test_the_command_compares_a_gate_that_weighs_the_link(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    flags = ["--commands", "2", "--schemes", "opportunistic", "--rate-kbps", "1", "--cache", str(tmp_path)]
    assert main(["simulate", "compare", *flags, "--rejection-cost", "3", "--max-ids", "0"]) == 0
    assert "| opportunistic |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--rejection-cost", "1", "--schemes", "hlm"], "--rejection-cost is for schemes that skip"),
        (["--schemes", "magic"], "no scheme 'magic'"),
        (["--bandwidth-mhz", "1", "--rate-kbps", "1"], "without --rate-kbps"),
        (["--trace", "/nowhere.csv"], "nowhere.csv"),
    ],
)
def test_a_wrong_flag_gets_a_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: list[str], said: str
) -> None:
    assert main(["simulate", "compare", "--commands", "1", "--cache", str(tmp_path), *flags]) in (1, 2)
    assert said in capsys.readouterr().err
