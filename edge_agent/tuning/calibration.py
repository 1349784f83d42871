"""What was measured about a pair of models, and the thresholds that follow: the file `calibration.json`.

`python -m evaluation calibrate` writes it; the agent reads it from the draft model's folder. Pure values: the
caller reads and writes the file.
"""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, cast

from common.sampling.distribution import Sampling
from edge_agent.errors import CalibrationError
from edge_agent.policy.rejection_fit import Fit

FILE_NAME = "calibration.json"
FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)  # 1 has no threshold and no times


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What a threshold costs: the drift per token that skipping adds, and the share of tokens that go up."""

    threshold: float
    risk: float
    uplink_rate: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """One pair of models with one sampling; `operating_points` ascend in threshold."""

    tokenizer: str  # fingerprint, hexadecimal
    draft_model: str
    target_model: str
    sampling: Sampling
    estimator: str
    num_tokens: int
    date: str
    fit: Fit
    risk_prone: float
    offline_k: int
    operating_points: tuple[OperatingPoint, ...]
    sent_ks: tuple[tuple[float, int], ...] = ()  # (threshold, k* from the tokens above it), ascending
    threshold: float | None = None  # for opportunistic, where the user sets none
    acceptance: float | None = None  # the share of draft tokens that the target model accepts
    draft_seconds: float | None = None  # per draft token, on the machine that measured
    pass_seconds: float | None = None  # of a pass of the target model, and more per draft token in it
    row_seconds: float | None = None

    def sent_k(self, threshold: float) -> int:
        """CU-HLM's k* from the tokens that a threshold sends, or the next lower one that was measured."""
        known = [k for measured, k in self.sent_ks if measured <= threshold]
        return known[-1] if known else self.offline_k

    def threshold_for(self, risk: float) -> float:
        """The largest threshold whose measured risk is at most `risk`; 0 if there is none."""
        return max((point.threshold for point in self.operating_points if point.risk <= risk), default=0.0)

    def to_json(self) -> str:
        """Return the text of the file."""
        return json.dumps({"version": FORMAT_VERSION, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Calibration":
        """Read the text of a file; raises CalibrationError."""
        try:
            fields = cast("dict[str, Any]", json.loads(text))
            version = fields.pop("version", None)
            if version not in READABLE_VERSIONS:
                raise CalibrationError(f"its version is {version}, but this release reads {FORMAT_VERSION}")
            points = tuple(OperatingPoint(**point) for point in fields.pop("operating_points"))
            sampling, fit = Sampling(**fields.pop("sampling")), Fit(**fields.pop("fit"))
            sent_ks = tuple(sorted((float(above), k) for above, k in fields.pop("sent_ks", ())))
            ascending = tuple(sorted(points, key=lambda point: point.threshold))
            found = cls(sampling=sampling, fit=fit, operating_points=ascending, sent_ks=sent_ks, **fields)
            return _checked(found)
        except (TypeError, KeyError, AttributeError, RecursionError, ValueError) as error:
            raise CalibrationError(f"it is not a calibration: {error}") from error


def _checked(calibration: Calibration) -> Calibration:
    """Return it; raises CalibrationError for the first value that is not a number or out of range."""
    numbers: dict[str, object] = {
        **asdict(calibration.sampling),
        **asdict(calibration.fit),
        "risk_prone": calibration.risk_prone,
    }
    for index, point in enumerate(calibration.operating_points):
        numbers |= {f"{name} of operating point {index}": value for name, value in asdict(point).items()}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise CalibrationError(f"its {name} is not a number")
    for name in ("threshold", "acceptance", "draft_seconds", "pass_seconds", "row_seconds"):
        value = getattr(calibration, name)
        known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if value is not None and not (known and value >= 0):
            raise CalibrationError(f"its {name} is not a number of at least 0")
    if type(calibration.offline_k) is not int or calibration.offline_k < 1:
        raise CalibrationError("its offline_k is not a whole number above 0")
    if not all(type(k) is int and k >= 1 for _, k in calibration.sent_ks):
        raise CalibrationError("one of its sent_ks is not a whole number above 0")
    if not all(0 <= point.threshold <= 1 and point.risk >= 0 for point in calibration.operating_points):
        raise CalibrationError("an operating point has a threshold outside 0 to 1, or a risk below 0")
    return calibration
