"""The agent in an emulated Debian 12 for arm64, against broker and worker outside: the same texts as here.

`make test-arm64` makes the root (deploy/arm64/make-root) and names it in ARM64_ROOT; other runs skip this.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_agent.draft_model.files import DEMO_FOLDER
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker

ROOT = Path(os.environ.get("ARM64_ROOT", "no such folder")).absolute()
REAL = Path(os.environ.get("REAL_MODELS", "no such folder"))  # onnx/NAME, from real_models.py
EXACT = ("llm", "lossless", "coupled")  # their text is the target model's, wherever the draft model runs
SCHEMES = (*EXACT, "hlm", "u-hlm", "cu-hlm-offline", "opportunistic", "slm")
TEMPERATURES = (0.0, 1.0)
PROMPTS = ("turn on the kitchen light", "set the bedroom to 19 degrees", "is the front door locked?")
TIMEOUT = 3600.0  # emulation is forty times slower

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "python").exists(), reason="needs an arm64 root: make test-arm64"),
]

Texts = dict[str, list[list[int]]]  # "SCHEME TEMPERATURE" -> the tokens of each answer

ANSWERS = """
import asyncio, json, sys
from edge_agent import AgentConfig, EdgeAgent

async def answers(scheme, temperature, broker, prompts):
    found = []
    config = AgentConfig(broker=broker, scheme=scheme, temperature=temperature, cloud_timeout=600)
    async with EdgeAgent.open(config) as agent:
        for prompt in prompts:
            generation = agent.generate(prompt, seed=3)
            found.append([token.token async for token in generation])
            assert generation.failure is None, agent.explain(generation.failure)
    return found

async def main(broker, schemes, temperatures, prompts):
    return {f"{s} {t}": await answers(s, t, broker, prompts) for s in schemes for t in temperatures}

print(json.dumps(asyncio.run(main(*json.loads(sys.argv[1])))))
"""


@pytest.fixture(name="texts", scope="module")
def texts_of_both_machines() -> tuple[Texts, Texts]:
    """Here and there, one process each: under emulation, starting one takes longer than all answers."""
    with LocalBroker() as broker, LocalWorker(broker.url, "--model", "demo"):
        given = json.dumps([broker.url, SCHEMES, TEMPERATURES, PROMPTS])
        here, there = (
            json.loads(subprocess.check_output([python, "-c", ANSWERS, given], text=True, timeout=TIMEOUT))
            for python in (sys.executable, str(ROOT / "python"))
        )
    return here, there


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_texts_are_those_of_this_machine(scheme: str, temperature: float, texts: tuple[Texts, Texts]) -> None:
    """For `EXACT` this is a law. The other schemes keep some of the draft model's tokens unverified.

    Its logits differ by 1e-5 between processors, so on another model or seed a draw that falls within 1e-5 of
    a border is another token there, and that is right. On these prompts none does.
    """
    here, there = (one[f"{scheme} {temperature}"] for one in texts)
    assert len(here) == len(PROMPTS)
    assert there == here


LOGITS = """
import sys
from pathlib import Path
import numpy as np
from edge_agent.draft_model.draft_model import DraftModel
model = DraftModel.load(Path(sys.argv[1]), num_threads=1)
tokens = [int(token) for token in sys.argv[3].split(",")]
np.save(sys.argv[2], np.stack([model.logits(tokens[:end]) for end in range(1, len(tokens) + 1)]))
"""


@pytest.mark.parametrize(
    ("folder", "bound"),
    [("demo", 1e-5), ("smollm2-135m-int8", 0.2), ("smollm2-135m-int4", 0.2)],
)
def test_logits_are_near_those_of_this_machine(folder: str, bound: float, tmp_path: Path) -> None:
    """`bound` is a total variation. Quantised graphs take other kernels on other processors."""
    path = DEMO_FOLDER if folder == "demo" else REAL / "onnx" / folder
    if not path.exists():
        pytest.skip("needs a real model: REAL_MODELS=FOLDER")
    tokens = ",".join(map(str, range(300, 316)))
    rows: list[np.ndarray] = []
    for name, python in (("here", sys.executable), ("there", str(ROOT / "python"))):
        file = tmp_path / f"{name}.npy"
        command = [python, "-c", LOGITS, str(path), str(file), tokens]
        subprocess.run(command, check=True, timeout=TIMEOUT)
        rows.append(probabilities(np.load(file)))
    distance = 0.5 * np.abs(rows[0] - rows[1]).sum(axis=-1)
    print(f"{folder}: total variation {distance.mean():.2g}, at most {distance.max():.2g}")
    assert distance.mean() <= bound


def probabilities(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits.astype(float) - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)
