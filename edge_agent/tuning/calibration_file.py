"""The calibration of a draft model: in the model's folder, or named by the setting `calibration`.

Law: nothing the user asked for is silently dropped. A named file that does not fit is an error. One that is
only found beside the model, and was made for other sampling or another estimator, is ignored with a warning.
"""

import logging
import os
from dataclasses import asdict
from pathlib import Path

from common.sampling.distribution import Sampling
from edge_agent.errors import CalibrationError
from edge_agent.tuning.calibration import FILE_NAME, Calibration

ADVICE = "run `python -m evaluation calibrate` for this pair"

_log = logging.getLogger(__name__)


def find_calibration(
    folder: Path, named: str | None, *, tokenizer: bytes, sampling: Sampling, estimator: str | None
) -> Calibration | None:
    """Find the calibration for these settings, or None; raises CalibrationError. No estimator: any."""
    path = Path(os.path.expanduser(named)) if named is not None else folder / FILE_NAME
    if named is None and not path.exists():
        return None
    calibration = _read(path)
    if calibration.tokenizer != tokenizer.hex():
        raise CalibrationError(f"{path} is the calibration of a model with another tokenizer: {ADVICE}")
    difference = _difference(calibration, sampling, estimator)
    if difference is None:
        return calibration
    if named is not None:
        raise CalibrationError(f"{path} {difference}: {ADVICE}, or leave `calibration` unset")
    _log.warning("ignored %s, which %s", path, difference)
    return None


def _read(path: Path) -> Calibration:
    try:
        return Calibration.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CalibrationError(f"cannot read the calibration {path}: {error.strerror}") from error
    except (CalibrationError, UnicodeDecodeError) as error:
        raise CalibrationError(f"cannot use the calibration {path}: {error}; {ADVICE}") from error


def _difference(calibration: Calibration, sampling: Sampling, estimator: str | None) -> str | None:
    if calibration.sampling != sampling:
        return f"was made for {_shown(calibration.sampling)}, and this is {_shown(sampling)}"
    if estimator is not None and calibration.estimator != estimator:
        return f"was made for the estimator {calibration.estimator}, and this is {estimator}"
    return None


def _shown(sampling: Sampling) -> str:
    shown = f"temperature {sampling.temperature:g}, top-k {sampling.top_k}, top-p {sampling.top_p:g}"
    plain = Sampling(sampling.temperature, sampling.top_k, sampling.top_p)
    rest = asdict(sampling).items() - asdict(plain).items()
    return ", ".join([shown, *(f"{name.replace('_', ' ')} {value:g}" for name, value in sorted(rest))])
