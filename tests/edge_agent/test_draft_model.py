"""The draft model against torch: whatever was asked before, the logits are those of the sequence."""

# its caches show only inside
# pyright: reportPrivateUsage=false

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from edge_agent.draft_model import draft_model
from edge_agent.draft_model.draft_model import CHUNK, DraftModel
from edge_agent.draft_model.graph import Tensor, read_graph
from edge_agent.draft_model.kv_cache import FIRST_CAPACITY, GrowingCache, SharedCache
from edge_agent.errors import ModelError
from edge_agent.export import graphs
from edge_agent.export.quiet import quiet
from tests.support.small_models import FAMILIES, MAX_POSITIONS, VOCAB_SIZE, FolderOf

TOLERANCE = 1e-3  # of logits that reach about 20


class Pair:
    """A draft model, and the logits that torch computes for one long sequence."""

    def __init__(self, torch_folder: Path, onnx_folder: Path) -> None:
        self.draft = DraftModel.load(onnx_folder, num_threads=1)
        model = AutoModelForCausalLM.from_pretrained(torch_folder, dtype=torch.float32).eval()
        self.tokens = [
            int(token) for token in np.random.default_rng(7).integers(VOCAB_SIZE, size=MAX_POSITIONS)
        ]
        with torch.no_grad():
            self.expected = model(torch.tensor([self.tokens])).logits[0].numpy()

    def difference(self, length: int) -> float:
        """How far the logits after the first `length` tokens are from torch's."""
        found = self.draft.logits(self.tokens[:length])
        return float(np.abs(found - self.expected[length - 1]).max())


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest, family_folder: FolderOf, twin_folder: FolderOf) -> Pair:
    return Pair(family_folder(request.param), twin_folder(request.param))


@pytest.fixture
def llama(family_folder: FolderOf, twin_folder: FolderOf) -> Pair:
    return Pair(family_folder("llama"), twin_folder("llama"))


def test_every_next_token_has_the_logits_of_torch(pair: Pair) -> None:
    assert max(pair.difference(length) for length in range(1, 60)) < TOLERANCE


def test_a_rewound_cache_gives_the_same_logits(pair: Pair) -> None:
    lengths = np.random.default_rng(3).integers(1, 80, size=60)
    assert max(pair.difference(int(length)) for length in lengths) < TOLERANCE


def test_a_prompt_of_several_chunks_and_a_jump_back_give_the_same_logits(pair: Pair) -> None:
    lengths = [CHUNK, CHUNK + 1, 2 * CHUNK + 5, 3, FIRST_CAPACITY, FIRST_CAPACITY + 1, MAX_POSITIONS, 1]
    assert max(pair.difference(length) for length in lengths) < TOLERANCE


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_logits_depend_on_the_tokens_alone(pair: Pair, data: st.DataObject) -> None:
    sequences = st.lists(st.integers(0, 2), min_size=1, max_size=6)
    wanted = data.draw(sequences)
    first = pair.draft.logits(wanted)
    for other in data.draw(st.lists(sequences, max_size=4)):
        pair.draft.logits(other)
    np.testing.assert_allclose(pair.draft.logits(wanted), first, atol=TOLERANCE)


def test_asking_again_runs_nothing(llama: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: list[int]) -> None:
        pytest.fail("it ran")

    first = llama.draft.logits([5, 6, 7])
    monkeypatch.setattr(llama.draft, "_extend", fail)
    assert llama.draft.logits((5, 6, 7)) is first


def test_only_what_is_new_is_run(llama: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    llama.draft.logits([5, 6, 7])
    runs: list[list[int]] = []
    extend = llama.draft._extend

    def noted(tokens: list[int]) -> None:
        runs.append(tokens)
        extend(tokens)

    monkeypatch.setattr(llama.draft, "_extend", noted)
    llama.draft.logits([5, 6, 8, 9])
    llama.draft.logits([5, 6])
    assert runs == [[8, 9], [6]]


def test_a_run_that_fails_leaves_the_cache_as_it_was(llama: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    llama.difference(20)

    def fail(*_: object) -> None:
        raise ModelError("Out of memory.")

    with monkeypatch.context() as patch:
        patch.setattr(llama.draft._session, "run", fail)
        with pytest.raises(ModelError, match="Out of memory"):
            llama.difference(30)
    assert max(llama.difference(length) for length in (25, 30, 20)) < TOLERANCE


def test_shared_and_growing_caches_agree(llama: Pair) -> None:
    draft = llama.draft
    assert isinstance(draft._cache, SharedCache)
    growing = DraftModel(
        draft._session, draft._graph, GrowingCache(draft._session, draft._graph.cache), MAX_POSITIONS
    )
    for length in (1, 40, 39, 300, 17, 18):
        expected = draft.logits(llama.tokens[:length])
        np.testing.assert_allclose(growing.logits(llama.tokens[:length]), expected, atol=TOLERANCE)


def test_a_shared_cache_takes_memory_only_as_it_grows(llama: Pair) -> None:
    cache = llama.draft._cache
    assert isinstance(cache, SharedCache)
    llama.draft.logits(llama.tokens[:3])
    assert cache._capacity == FIRST_CAPACITY
    llama.draft.logits(llama.tokens[: FIRST_CAPACITY + 1])
    assert cache._capacity == 2 * FIRST_CAPACITY


def test_graphs_with_the_names_of_optimum_load_alike(
    family_folder: FolderOf, twin_folder: FolderOf, tmp_path: Path
) -> None:
    graph = onnx.load(twin_folder("gpt2") / "model.onnx")
    for node in graph.graph.node:
        node.input[:] = [_optimum_name(name) for name in node.input]
        node.output[:] = [_optimum_name(name) for name in node.output]
    for value in (*graph.graph.input, *graph.graph.output):
        value.name = _optimum_name(value.name)
    (tmp_path / "onnx").mkdir()
    onnx.save(graph, tmp_path / "onnx" / "model.onnx")
    (tmp_path / "config.json").write_bytes((twin_folder("gpt2") / "config.json").read_bytes())
    pair = Pair(family_folder("gpt2"), tmp_path)
    assert pair.draft._graph.cache[0].past == "past_key_values.0.key"
    assert max(pair.difference(length) for length in (1, 2, 30, 29, 40)) < TOLERANCE


def _optimum_name(name: str) -> str:
    called = r"\.(?:past_key_values|cache)\.layers\.(\d+)\.(key|value)s$"
    name = re.sub("^input" + called, r"past_key_values.\1.\2", name)
    return re.sub("^output" + called, r"present.\1.\2", name)


def test_a_graph_that_drops_old_positions_is_refused(twin_folder: FolderOf) -> None:
    draft = DraftModel.load(twin_folder("gpt2"), num_threads=1)
    cache = draft._cache
    assert isinstance(cache, GrowingCache)
    binding = cache.bind(1)
    draft._session.run(binding, draft_model._inputs(draft._graph, [5], cache.length))
    cache.length += 7
    with pytest.raises(ModelError, match="only a window of past positions"):
        cache.keep(binding, 1)


def test_gpt2_has_a_growing_cache(twin_folder: FolderOf) -> None:
    assert isinstance(DraftModel.load(twin_folder("gpt2"), num_threads=1)._cache, GrowingCache)


def test_logits_tell_their_width_and_cannot_be_changed(llama: Pair) -> None:
    logits = llama.draft.logits([1])
    assert (llama.draft.logits_size, llama.draft.max_positions) == (VOCAB_SIZE, MAX_POSITIONS)
    assert (logits.shape, logits.dtype) == ((VOCAB_SIZE,), np.float32)
    with pytest.raises(ValueError, match="read-only"):
        logits[0] = 0.0


def test_a_sequence_that_is_too_long_is_refused(llama: Pair) -> None:
    with pytest.raises(ModelError, match=f"takes {MAX_POSITIONS} tokens, not {MAX_POSITIONS + 1}"):
        llama.draft.logits([1] * (MAX_POSITIONS + 1))


def test_an_empty_sequence_is_refused(llama: Pair) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        llama.draft.logits([])


def test_float16_graphs_give_float32_logits(family_folder: FolderOf, tmp_path: Path) -> None:
    source = family_folder("llama")
    (tmp_path / "config.json").write_bytes((source / "config.json").read_bytes())
    with quiet():
        graphs.build_with_genai(source, tmp_path, "fp16", True)
    pair = Pair(source, tmp_path)
    assert pair.draft._graph.cache[0].dtype is np.float16
    assert pair.draft.logits([1]).dtype == np.float32
    assert max(pair.difference(length) for length in (1, 2, 30, 29, 40)) < 0.3


def copy_llama(twin_folder: FolderOf, out: Path) -> Path:
    """A folder of our own to break."""
    for name in ("config.json", "model.onnx", "model.onnx.data"):
        (out / name).write_bytes((twin_folder("llama") / name).read_bytes())
    return out


def refusal(folder: Path, providers: Sequence[str] = ()) -> str:
    """The sentence with which loading fails; it is one sentence, on one line."""
    with pytest.raises(ModelError) as caught:
        DraftModel.load(folder, num_threads=1, providers=providers)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


def test_a_corrupt_graph_is_refused_in_one_sentence(twin_folder: FolderOf, tmp_path: Path) -> None:
    copy_llama(twin_folder, tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    assert "is not a graph that ONNX Runtime can load" in refusal(tmp_path)


def test_missing_weights_are_named(twin_folder: FolderOf, tmp_path: Path) -> None:
    copy_llama(twin_folder, tmp_path)
    (tmp_path / "model.onnx.data").unlink()
    assert "The weights beside" in refusal(tmp_path)


def test_weights_that_are_cut_short_are_named(twin_folder: FolderOf, tmp_path: Path) -> None:
    copy_llama(twin_folder, tmp_path)
    data = tmp_path / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:1000])
    assert "missing or cut short" in refusal(tmp_path)


def test_a_provider_that_is_not_there_is_named(twin_folder: FolderOf) -> None:
    assert "no RocketExecutionProvider" in refusal(
        twin_folder("llama"), providers=["RocketExecutionProvider"]
    )


def test_a_wrong_head_size_is_noticed_at_load(twin_folder: FolderOf, tmp_path: Path) -> None:
    copy_llama(twin_folder, tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"head_dim": 16', '"head_dim": 24'))
    assert "failed to run" in refusal(tmp_path)


PAST = Tensor("past_key_values.0.key", (1, 2, "past", 16), "tensor(float)")
PAST_VALUE = Tensor("past_key_values.0.value", (1, 2, "past", 16), "tensor(float)")
IDS = Tensor("input_ids", (1, "new"), "tensor(int64)")
LOGITS = Tensor("logits", (1, "new", 10), "tensor(float)")
PRESENT = (Tensor("present.0.key", (), "tensor(float)"), Tensor("present.0.value", (), "tensor(float)"))


@pytest.mark.parametrize(
    ("inputs", "outputs", "sentence"),
    [
        ((IDS,), (LOGITS,), "no key/value cache inputs"),
        ((IDS, PAST), (LOGITS, *PRESENT), "do not pair up"),
        ((IDS, PAST, PAST_VALUE), PRESENT, "no output named logits"),
        ((PAST, PAST_VALUE), (LOGITS, *PRESENT), "no input named input_ids"),
        (
            (IDS, PAST, PAST_VALUE, Tensor("past_conv.0", (1, 3), "tensor(float)")),
            (LOGITS, *PRESENT),
            "past_conv.0",
        ),
        (
            (IDS, Tensor(PAST.name, PAST.shape, "tensor(int8)"), PAST_VALUE),
            (LOGITS, *PRESENT),
            r"type tensor\(int8\)",
        ),
        (
            (IDS, Tensor(PAST.name, (1, 2, "past", "size"), PAST.type), PAST_VALUE),
            (LOGITS, *PRESENT),
            "head_dim",
        ),
    ],
)
def test_a_graph_that_is_no_draft_model_is_refused(
    inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], sentence: str
) -> None:
    with pytest.raises(ModelError, match=sentence):
        read_graph(inputs, outputs, num_heads=None, head_size=None)


def test_layers_may_have_caches_of_different_sizes() -> None:
    wide = [
        Tensor(name, (1, 4, "past", "32"), "tensor(float)")
        for name in ("past_key_values.1.key", "past_key_values.1.value")
    ]
    more = [Tensor(name, (), "tensor(float)") for name in ("present.1.value", "present.1.key")]
    graph = read_graph((*wide, IDS, PAST_VALUE, PAST), (LOGITS, *more, *PRESENT), num_heads=9, head_size=9)
    assert [(tensor.past, tensor.present, tensor.num_heads, tensor.head_size) for tensor in graph.cache] == [
        ("past_key_values.0.key", "present.0.key", 2, 16),
        ("past_key_values.0.value", "present.0.value", 2, 16),
        ("past_key_values.1.key", "present.1.key", 4, 32),
        ("past_key_values.1.value", "present.1.value", 4, 32),
    ]


@pytest.mark.parametrize("called", ["past_key_values", "cache"])  # by transformers, before and since 5.24
@pytest.mark.parametrize(("into", "out_of"), [("input.", "output."), ("input.", "")])
def test_graphs_of_every_transformers_are_read(called: str, into: str, out_of: str) -> None:
    past, present = (
        [Tensor(f"{where}{called}.layers.0.{what}", PAST.shape, PAST.type) for what in ("keys", "values")]
        for where in (into, out_of)
    )
    graph = read_graph((IDS, *past), (LOGITS, *present), num_heads=None, head_size=None)
    assert [(tensor.past, tensor.present) for tensor in graph.cache] == [
        (before.name, after.name) for before, after in zip(past, present, strict=True)
    ]


def test_what_a_graph_may_ask_for_beside_the_cache_is_filled_in() -> None:
    inputs = (
        IDS,
        Tensor("attention_mask", (), "tensor(int64)"),
        Tensor("position_ids", (), "tensor(int32)"),
        Tensor("use_cache_branch", (1,), "tensor(bool)"),
        Tensor("num_logits_to_keep", (), "tensor(int64)"),
    )
    graph = read_graph((*inputs, PAST, PAST_VALUE), (LOGITS, *PRESENT), num_heads=None, head_size=None)
    arrays = draft_model._inputs(graph, [8, 9], 3)
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "input_ids": [[8, 9]],
        "attention_mask": [[1, 1, 1, 1, 1]],
        "position_ids": [[3, 4]],
        "use_cache_branch": [True],
        "num_logits_to_keep": 1,
    }
    assert [array.dtype for array in arrays.values()] == [np.int64, np.int64, np.int32, np.bool_, np.int64]
