"""Logits remembered by prefix are the model's own, across processes, crashes and sessions."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from cloud_worker.passes.forward_pass import Pass
from common.process.settings import SettingsError
from evaluation.models.cached_logits import NUM_PENDING, CachedDraft, CachedTarget, RowStore, prefix_keys
from tests.support.fakes import VOCAB_SIZE, FakeModel


class CountingDraft(FakeModel):
    """The fake model as a draft model; counts what it is asked."""

    max_positions = 512
    num_asked = 0

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        self.num_asked += 1
        return super().logits(tokens)


class CountingTarget:
    """The fake model as a target model; counts what it is asked."""

    def __init__(self, seed: int) -> None:
        self._model = FakeModel(seed)
        self.vocabulary: Mapping[str, int] = {str(number): number for number in range(VOCAB_SIZE)}
        self.eos_ids = frozenset[int]()
        self.vocab_size = VOCAB_SIZE
        self.max_positions = 512
        self.num_asked = 0

    def logits(self, passes: Sequence[Pass]) -> list[np.ndarray]:
        self.num_asked += 1
        return [self._model.rows(one.tokens, one.num_rows) for one in passes]

    def forget(self, session: Hashable) -> None:
        pass


def test_a_prefix_is_asked_of_the_model_once() -> None:
    model = CountingDraft(1)
    draft = CachedDraft(model, RowStore())
    first, second = draft.logits([1, 2, 3]), draft.logits((1, 2, 3))
    assert model.num_asked == 1
    assert (first == second).all()
    assert (draft.logits([1, 2, 4]) == FakeModel(1).logits([1, 2, 4])).all()


def test_rows_of_a_pass_serve_later_passes_of_other_sessions() -> None:
    model = CountingTarget(1)
    target = CachedTarget(model, RowStore())
    (rows,) = target.logits([Pass("a", (1, 2, 3, 4, 5), 4)])
    (fewer,) = target.logits([Pass("b", [1, 2, 3], 2)])
    assert model.num_asked == 1
    assert (fewer == rows[:2]).all()
    assert target.logits([Pass("b", [1, 2, 3], 0)])[0].shape == (0, VOCAB_SIZE)


def test_only_passes_with_unknown_rows_reach_the_model() -> None:
    model = CountingTarget(1)
    target = CachedTarget(model, RowStore())
    target.logits([Pass("a", [1, 2], 1)])
    known, new = target.logits([Pass("a", [1, 2], 1), Pass("b", [3, 4], 2)])
    assert (known == FakeModel(1).rows([1, 2], 1)).all()
    assert (new == FakeModel(1).rows([3, 4], 2)).all()


def test_what_a_worker_would_have_to_compute_does_not_depend_on_what_is_remembered() -> None:
    target = CachedTarget(CountingTarget(1), RowStore())
    one = Pass("a", list(range(10)), 2)
    target.logits([Pass("other", one.tokens, 10)])
    assert target.num_missing(one) == 10
    target.logits([one])
    assert target.num_missing(Pass("a", [*range(10), 11, 12], 2)) == 2
    assert target.cached_tokens("a") == 10
    target.forget("a")
    assert target.num_missing(one) == 10


def test_rows_outlive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.sqlite"
    store = RowStore(path)
    CachedDraft(CountingDraft(1), store).logits([1, 2])
    store.close()
    model = CountingDraft(1)
    assert (CachedDraft(model, RowStore(path)).logits([1, 2]) == FakeModel(1).logits([1, 2])).all()
    assert model.num_asked == 0


def test_a_crash_costs_the_last_rows_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "rows.sqlite"
    store = RowStore(path)
    for token in range(NUM_PENDING + 1):
        store.put(prefix_keys([token])[0], np.full(4, token, np.float32))
    again = RowStore(path)  # the first was never closed
    assert again.get(prefix_keys([7])[0]) is not None
    assert again.get(prefix_keys([NUM_PENDING])[0]) is None


def test_rows_that_memory_has_no_room_for_are_found_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluation.models.cached_logits.MEMORY_BYTES", 64)
    store = RowStore(tmp_path / "rows.sqlite")
    for token in range(2 * NUM_PENDING + 5):
        store.put(prefix_keys([token])[0], np.full(4, token, np.float32))
    for token in (0, NUM_PENDING, 2 * NUM_PENDING + 1):
        row = store.get(prefix_keys([token])[0])
        assert row is not None
        assert row[0] == token


def test_prefix_keys_name_each_prefix_alone() -> None:
    assert prefix_keys([5, 6, 7], 3) == [
        prefix_keys([5])[0],
        prefix_keys([5, 6])[0],
        prefix_keys([5, 6, 7])[0],
    ]
    assert len({prefix_keys(tokens)[0] for tokens in ([1], [1, 0], [0, 1], [256])}) == 4


def test_a_file_that_is_no_cache_is_named_in_the_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.sqlite"
    path.write_text("this is not a database, and long enough to be looked at as one" * 20)
    with pytest.raises(SettingsError, match=r"rows\.sqlite"):
        RowStore(path)
