"""The original: float32 numbers from weights that stay as they are stored."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from edge_agent.errors import ModelError
from edge_agent.export.original import Original
from tests.support.small_models import FAMILIES, FolderOf, make_model, make_tokenizer, save


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_in_bfloat16_computes_in_float32_and_stays_as_it_is(family: str, tmp_path: Path) -> None:
    halved = make_model(family)
    torch.nn.Module.to(halved, torch.bfloat16)  # in place
    save(halved, tmp_path)
    original = Original.load(tmp_path)
    tokens = [3, 5, 8, 13, 21]
    expected = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)(
        torch.tensor([tokens])
    ).logits
    for _ in range(2):
        assert torch.allclose(original.logits(tokens, 3), expected[0, -3:], atol=1e-3)
    assert {weight.dtype for weight in original.model.parameters()} == {torch.bfloat16}


def test_answers_follow_their_prompts_and_the_seed(family_folder: FolderOf) -> None:
    original = Original.load(family_folder("llama"))
    prompts = ["the window", "turn on the light in the kitchen"]
    answers = original.answers(prompts, 8, seed=1)
    asked = [make_tokenizer().encode(prompt).ids for prompt in prompts]
    assert [(tokens[:length], len(tokens) - length) for tokens, length in answers] == [
        (ids, 8) for ids in asked
    ]
    assert original.answers(prompts, 8, seed=1) == answers
    assert original.answers(prompts, 8, seed=2) != answers


def test_a_folder_without_a_model_is_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="transformers cannot load the model"):
        Original.load(tmp_path)
