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
PROMPTS = "turn on the kitchen light\nset the bedroom to 19 degrees\nis the front door locked?\n"
TIMEOUT = 600.0  # emulation is forty times slower

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "python").exists(), reason="needs an arm64 root: make test-arm64"),
]


@pytest.mark.parametrize("scheme", [*EXACT, "hlm", "u-hlm", "cu-hlm-offline", "opportunistic", "slm"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_texts_are_those_of_this_machine(scheme: str, temperature: float, broker: LocalBroker) -> None:
    flags = ("--scheme", scheme, "--temperature", str(temperature), "--cloud-timeout", "60")
    with LocalWorker(broker.url, "--model", "demo"):
        here, there = (generated(python, broker, *flags) for python in (sys.executable, str(ROOT / "python")))
    assert there == here


def generated(python: str, broker: LocalBroker, *flags: str) -> list[tuple[str, str, int]]:
    command = [python, "-m", "edge_agent", "generate", "--broker", broker.url, "--lines", "--json"]
    done = subprocess.run(
        [*command, "--seed", "3", *flags, "-"],
        input=PROMPTS,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == PROMPTS.count("\n")
    return [(one["text"], one["finish_reason"], one["num_tokens"]) for one in answers]


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
