"""With a grammar: the masked target's law, the same text under any fault, and forced tokens for free."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_worker.session.admission import Target
from cloud_worker.session.judging import judge
from cloud_worker.session.session import CloudSession
from cloud_worker.session.verification import accept_probability, residual, target_choice, verify_token
from common.grammar.errors import UnusableGrammarError
from common.protocol.grammar import AnswerGrammar, Grammar, KnownGrammar
from common.protocol.messages import Draft, DraftToken, Reason, Refusal
from common.sampling.distribution import Sampling, softmax, warp
from common.sampling.mask import Mask, forbid, num_words, unpack
from edge_agent.policy.policy import Policy
from edge_agent.policy.schemes import SCHEMES
from edge_agent.policy.uncertainty import ESTIMATORS
from edge_agent.session.transcript import Fate
from tests.laws.test_bad_link import ALL_CHECKS, BadLink, undisturbed
from tests.support.circle import PROMPT, Circle
from tests.support.fakes import TOKENIZER, VOCAB_SIZE, FakeModel
from tests.support.narrowing import expect, present
from tests.support.toy_grammar import CONSTANT, END, LISTS, TOKENS, UNUSED, masks
from tests.support.toy_grammar import given as opened

EXACT = ["lossless", "coupled", "auto"]
UPLINKING = ["hlm", "rand-hlm", "u-hlm", "cu-hlm-offline", "cu-hlm-online", "opportunistic", *EXACT, "llm"]
samplings = st.builds(
    Sampling,
    st.sampled_from([0.3, 1.0, 1.5]),
    st.sampled_from([0, 1, 3, 20]),
    st.sampled_from([1.0, 0.9, 0.3]),
    st.sampled_from([0.0, 0.2]),
)


def random_mask(rng: np.random.Generator, size: int) -> Mask:
    bits = rng.random(size) < rng.choice([0.05, 0.3, 0.9])
    bits[rng.integers(size)] = True
    packed = np.packbits(np.pad(bits, (0, num_words(size) * 32 - size)), bitorder="little")
    return packed.view(np.uint32)


def output_law(draft_probs: np.ndarray, accept: np.ndarray, rest: np.ndarray) -> np.ndarray:
    return draft_probs * accept + float((draft_probs * (1 - accept)).sum()) * rest


# -- one token -----------------------------------------------------------------------------------------


@given(
    st.integers(0, 10_000),
    st.integers(2, 70),
    st.sampled_from(["lossless", "hlm"]),
    st.integers(1, 40),
    st.sampled_from([256, 65536]),
    samplings,
)
@settings(max_examples=150)
def test_summed_over_tokens_the_law_is_the_masked_targets_at_any_truncation(
    seed: int, size: int, scheme: str, k: int, total: int, sampling: Sampling
) -> None:
    rng = np.random.default_rng(seed)
    mask = random_mask(rng, size)
    own, others = 2 * rng.normal(size=size), 2 * rng.normal(size=size)
    y = warp(forbid(own, mask), sampling)
    policy = Policy(SCHEMES[scheme], sampling, seed, threshold=1.0, max_ids=k, resolution=total)
    q = present(policy.propose(forbid(others, mask), 5).draft.distribution)
    dense = q.dense(size)
    assert not dense[~unpack(mask, size)].any()
    accept = np.array([accept_probability(y, DraftToken(d, q)) if dense[d] > 0 else 1.0 for d in range(size)])
    assert output_law(dense, accept, residual(y, dense)) == pytest.approx(y, abs=1e-9)


@given(st.integers(0, 10_000), st.integers(2, 70))
def test_the_masked_law_is_the_targets_renormalised_over_what_is_allowed(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    mask, logits = random_mask(rng, size), rng.normal(size=size)
    plain = softmax(logits) * unpack(mask, size)
    assert warp(forbid(logits, mask), Sampling()) == pytest.approx(plain / plain.sum(), abs=1e-12)


@given(st.integers(0, 10_000), st.integers(2, 70), samplings)
def test_a_coupled_draft_of_the_same_law_is_the_targets_choice_and_any_other_ends_as_it(
    seed: int, size: int, sampling: Sampling
) -> None:
    rng = np.random.default_rng(seed)
    mask, logits = random_mask(rng, size), rng.normal(size=size)
    y = warp(forbid(logits, mask), sampling)
    policy = Policy(SCHEMES["coupled"], sampling, seed, threshold=1.0)
    choice = target_choice(y, seed, 7)
    assert unpack(mask, size)[choice]
    if sampling.min_p == 0.0:  # which the draft's law leaves out
        assert policy.propose(forbid(logits, mask), 7).draft.token == choice
    assert {verify_token(y, DraftToken(d), seed, 7) for d in range(size)} == {choice}


@given(st.integers(0, 10_000), st.integers(2, 70))
def test_greedy_takes_the_most_probable_of_what_is_allowed(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    mask, logits = random_mask(rng, size), rng.normal(size=size)
    allowed = np.flatnonzero(unpack(mask, size))
    best = allowed[np.argmax(logits[allowed])]
    assert warp(forbid(logits, mask), Sampling(0.0))[best] == 1.0
    policy = Policy(SCHEMES["lossless"], Sampling(0.0), seed, threshold=1.0)
    assert policy.propose(forbid(logits, mask), 7).draft.token == best


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("size", [40, 9000])
@pytest.mark.parametrize("num_allowed", [1, 2, 30])
def test_uncertainty_is_measured_among_what_is_allowed(estimator: str, size: int, num_allowed: int) -> None:
    rng = np.random.default_rng(3)
    logits = (3 * rng.normal(size=size)).astype(np.float32)
    bits = np.zeros(size, np.bool_)
    bits[rng.choice(size, num_allowed, replace=False)] = True
    row = np.where(bits, logits, np.float32(-np.inf))
    token = int(np.argmax(row))
    found = ESTIMATORS[estimator](row, token, 1, 5)
    assert 0.0 <= found <= 1.0
    if num_allowed == 1:
        assert found == pytest.approx(0.0, abs=1e-6)
    elif estimator != "entropy":  # which is relative to the size of the vocabulary
        alone = ESTIMATORS[estimator](row[bits], int(np.argmax(row[bits])), 1, 5)
        assert found == pytest.approx(alone, abs=0.02)


# -- whole texts ---------------------------------------------------------------------------------------


def target_text(seed: int, temperature: float, length: int) -> list[int]:
    """What the target model writes alone within the grammar, with the noise of the seed."""
    rules, tokens = masks(opened(LISTS, len(PROMPT), frozenset([END]))), list(PROMPT)
    while len(tokens) < len(PROMPT) + length and tokens[-1] != END:
        logits = forbid(FakeModel(0).logits(tokens), present(rules.mask(tokens, len(tokens))))
        tokens.append(target_choice(warp(logits, Sampling(temperature)), seed, len(tokens)))
    return tokens[len(PROMPT) :]


@pytest.mark.parametrize("scheme", [*EXACT, "llm"])
@given(seed=st.integers(0, 1000), window=st.none() | st.integers(1, 5))
@settings(max_examples=15)
def test_greedy_text_is_the_masked_targets_own(scheme: str, seed: int, window: int | None) -> None:
    text = undisturbed(scheme=scheme, seed=seed, temperature=0.0, window=window, grammar=LISTS)
    assert list(text) == target_text(seed, 0.0, 24)


@given(seed=st.integers(0, 1000), window=st.integers(1, 5))
@settings(max_examples=20)
def test_coupled_text_is_what_the_masked_target_samples_alone(seed: int, window: int) -> None:
    for scheme in ("coupled", "llm"):
        text = undisturbed(scheme=scheme, seed=seed, window=window, grammar=LISTS)
        assert list(text) == target_text(seed, 1.0, 24)


@pytest.mark.parametrize("scheme", UPLINKING)
@given(seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_the_text_does_not_depend_on_window_or_block_length_or_how_many_are_forced_at_once(
    scheme: str, seed: int
) -> None:
    texts: list[list[int]] = []
    for window, block, most in [(1, 4, 64), (8, 4, 64), (1, 1, 1), (3, 8, 2), (None, None, 64), (4, None, 1)]:
        circle = Circle(
            scheme=scheme, seed=seed, window=window, block_length=block, most_forced=most, grammar=LISTS
        )
        circle.settle()
        assert circle.edge.failure is None
        texts.append(circle.text)
    assert all(text == texts[0] for text in texts)


@pytest.mark.parametrize("scheme", ["slm", *UPLINKING])
@given(
    seed=st.integers(0, 1000),
    ends=st.sampled_from([frozenset([END]), frozenset([UNUSED]), frozenset([END, UNUSED])]),
)
@settings(max_examples=15)
def test_every_text_is_allowed_token_by_token_and_complete_where_it_stops(
    scheme: str, seed: int, ends: frozenset[int]
) -> None:
    circle = Circle(scheme=scheme, seed=seed, window=4, grammar=LISTS, worker_ends=ends, max_tokens=40)
    circle.settle()
    assert circle.edge.failure is None
    text = circle.text
    if circle.edge.finish_reason == "stop":
        assert text[-1] in (END, UNUSED)
        assert is_list("".join(TOKENS[token] for token in text[:-1]))
        text = text[:-1]
    rules = masks(opened(LISTS, 0, frozenset([END])))
    for position, token in enumerate(text):
        assert unpack(present(rules.mask(text, position)), VOCAB_SIZE)[token]


def is_list(text: str) -> bool:
    """Whether the text is one of `LISTS`, by another parser."""
    depth, item = 0, ""
    for i, char in enumerate(text):
        if char in "abc":
            item += char
            continue
        if item:
            if not (item in ("abcabc", "ca") or (2 <= len(item) <= 3 and "c" not in item)):
                return False
            item = ""
        depth += {"[": 1, "]": -1, ",": 0}[char]
        if depth == 0 and i < len(text) - 1:
            return False
    return depth == 0 and text.startswith("[") and "[]" not in text and ",," not in text


@cache
def exact_law(tokens: tuple[int, ...]) -> np.ndarray:
    rules = masks(opened(LISTS, len(PROMPT), frozenset([END])))
    text = [*PROMPT, *tokens]
    return warp(forbid(FakeModel(0).logits(text), present(rules.mask(text, len(text)))), Sampling())


@pytest.mark.slow
def test_lossless_sampling_has_the_masked_targets_law_over_three_positions() -> None:
    counts: dict[tuple[int, ...], int] = {}
    for seed in range(3000):
        text = tuple(undisturbed(seed=seed, max_tokens=3, window=2, block_length=2, grammar=LISTS))
        counts[text] = counts.get(text, 0) + 1
    distance = sum(
        abs(count / 3000 - float(np.prod([exact_law(text[:i])[text[i]] for i in range(len(text))])))
        for text, count in counts.items()
    )
    assert distance / 2 < 0.06


# -- forced tokens -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scheme", ["slm", "hlm", "u-hlm", "cu-hlm-online", "opportunistic", "lossless", "coupled"]
)
def test_a_text_that_is_forced_runs_no_model_and_sends_nothing(scheme: str) -> None:
    circle = Circle(scheme=scheme, grammar=CONSTANT)
    circle.settle()
    assert (circle.num_passes, circle.edge.tally.num_uplinks) == (0, 0)
    assert circle.edge.finish_reason == "stop"
    assert "".join(TOKENS[token] for token in circle.text) == "[abc,abc,ca]<end>"
    assert {item.fate for item in circle.final} == {Fate.FORCED}


@pytest.mark.parametrize("scheme", EXACT)
@given(seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_forced_tokens_make_no_draft_of_their_own_and_keep_their_fate(scheme: str, seed: int) -> None:
    circle = Circle(scheme=scheme, seed=seed, window=None, block_length=None, grammar=LISTS, max_tokens=60)
    sent: dict[int, Draft] = {}
    for _ in range(1000):
        if circle.edge.finished:
            break
        circle.draft()
        sent |= {one.message.n: one.message for one in circle.to_workers if isinstance(one.message, Draft)}
        if circle.to_workers or not circle.edge.wants_draft:
            circle.exchange()
    rules = masks(opened(LISTS, len(PROMPT), frozenset([END])))
    tokens = [*PROMPT, *circle.text]
    for position, item in enumerate(circle.final, len(PROMPT)):
        is_only = np.count_nonzero(unpack(present(rules.mask(tokens, position)), VOCAB_SIZE)) == 1
        assert (item.fate is Fate.FORCED) == (is_only and item.fate is not Fate.TARGET)
    for draft in sent.values():
        ids = [token.distribution.dense(VOCAB_SIZE) for token in draft.block if token.distribution]
        assert not draft.block or scheme == "coupled" or any(np.count_nonzero(one) for one in ids)


def test_risk_is_measured_over_skipped_tokens_and_never_over_forced_ones() -> None:
    circle = Circle(scheme="opportunistic", threshold=0.75, grammar=LISTS, max_tokens=200, audits=True)
    circle.settle()
    tally = circle.edge.tally
    assert tally.num_by_fate[Fate.FORCED] > 0
    assert 0 < tally.num_measured <= tally.num_by_fate[Fate.LOCAL]


# -- refusals and faults -------------------------------------------------------------------------------


def refusal_of(circle: Circle, grammar: AnswerGrammar | KnownGrammar) -> Refusal:
    """What a worker answers to the first opening of a device, with this grammar in place of its own."""
    while not circle.to_workers:
        circle.draft()
    draft = expect(Draft, circle.to_workers[0].message)
    worker = circle.workers["w0"]
    assert worker.receive(replace(draft, opening=replace(present(draft.opening), grammar=grammar))) == []
    return expect(Refusal, worker.next_job()[1][0])


def test_a_worker_with_another_engine_refuses_in_one_line_that_names_both() -> None:
    own = opened(LISTS, len(PROMPT), frozenset([END]))
    refusal = refusal_of(Circle(grammar=LISTS), replace(own, engine="llguidance 0.1.0 00000000"))
    assert refusal.reason is Reason.BAD_REQUEST
    for part in (own.engine, "llguidance 0.1.0 00000000", "; use the same version of llguidance"):
        assert part in refusal.detail


def test_a_worker_refuses_a_grammar_that_does_not_compile() -> None:
    own = opened(Grammar.regex("[a-"), len(PROMPT), frozenset([END]))
    refusal = refusal_of(Circle(grammar=LISTS), own)
    assert (refusal.reason, "does not compile" in refusal.detail) == (Reason.BAD_REQUEST, True)
    assert "[a-" not in refusal.detail  # it may reach a log


def test_a_worker_without_an_engine_refuses_and_never_ignores_a_grammar() -> None:
    circle = Circle(grammar=LISTS)
    circle.workers["w0"] = CloudSession(Target("w0", TOKENIZER, VOCAB_SIZE, max_tokens=512))
    refusal = refusal_of(circle, opened(LISTS, len(PROMPT), frozenset([END])))
    assert (refusal.reason, "cannot constrain" in refusal.detail) == (Reason.BAD_REQUEST, True)


def test_a_worker_that_does_not_hold_a_known_grammar_gets_its_source_and_the_text_is_the_same() -> None:
    fresh = Grammar.lark(LISTS.source + "\n// another text of the same grammar")
    circle = Circle(grammar=fresh, knows_grammar=True)
    sizes: list[type] = []
    for _ in range(1000):
        if circle.edge.finished:
            break
        circle.draft()
        for one in circle.to_workers:
            draft = one.message
            if isinstance(draft, Draft) and draft.opening is not None:
                sizes.append(type(draft.opening.grammar))
        circle.exchange()
    assert sizes == [KnownGrammar, AnswerGrammar]
    assert circle.text == list(undisturbed(grammar=LISTS))
    again = Circle(grammar=fresh, knows_grammar=True, seed=2)
    again.settle()
    assert again.edge.tally.num_resent == 0


def test_a_context_that_breaks_its_grammar_is_refused_and_ends_no_other_session() -> None:
    circle = Circle(grammar=LISTS, scheme="coupled")
    while not circle.to_workers:
        circle.draft()
    draft = expect(Draft, circle.to_workers[0].message)
    wrong = replace(draft, context=(*draft.context, UNUSED), block=(DraftToken(0),))
    assert circle.workers["w0"].receive(wrong) == []
    job = present(circle.workers["w0"].next_job()[0])
    with pytest.raises(UnusableGrammarError, match="breaks its grammar"):
        judge(job, FakeModel(0).rows(job.tokens, job.num_rows))


@given(seed=st.integers(0, 200))
@settings(max_examples=20)
def test_a_forbidden_draft_token_is_rejected_where_it_stands(seed: int) -> None:
    circle = Circle(grammar=LISTS, scheme="coupled", seed=seed)
    while not circle.to_workers:
        circle.draft()
    draft = expect(Draft, circle.to_workers[0].message)
    wrong = replace(draft, block=(*draft.block, DraftToken(UNUSED), DraftToken(UNUSED)))
    worker = circle.workers["w0"]
    assert worker.receive(wrong) == []
    job = present(worker.next_job()[0])
    rows = FakeModel(0).rows(job.tokens, job.num_rows)
    verdict = judge(job, rows)[0].verdict
    assert verdict.num_accepted <= len(draft.block)
    assert verdict.token != UNUSED
    masked = present(job.row_masks())
    assert (masked[-1] == 0xFFFFFFFF).all()
    assert not unpack(masked[len(draft.block)], VOCAB_SIZE)[UNUSED]


class BadLinkWithGrammar(BadLink):
    """The same faults, and texts that must match a grammar: every rewind rolls its matchers back."""

    grammar: Grammar | None = LISTS


BadLinkWithGrammar.TestCase.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, suppress_health_check=ALL_CHECKS
)
test_any_fault_leaves_a_constrained_text_unchanged = BadLinkWithGrammar.TestCase


@pytest.mark.slow
class TestLong(BadLinkWithGrammar.TestCase):
    """The same, for minutes."""

    settings = settings(
        max_examples=2000, stateful_step_count=150, deadline=None, suppress_health_check=ALL_CHECKS
    )
