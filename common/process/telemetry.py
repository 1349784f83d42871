"""Decline the telemetry of the libraries that we use, before they are loaded.

Law: what the user has set stands. The packages that load such a library call `decline_telemetry` when they
are imported themselves, because ONNX Runtime writes a device id to ~/.cache as soon as it is imported.
"""

import os

ORT_SWITCH = "ORT_DISABLE_TELEMETRY"  # ONNX Runtime (Linux: since 1.29) and onnxruntime-genai
HUB_SWITCH = "HF_HUB_DISABLE_TELEMETRY"  # huggingface_hub, transformers, hf_xet
SWITCHES = (ORT_SWITCH, HUB_SWITCH)


def decline_telemetry() -> None:
    """Set each switch that is not set in the environment of this process and of those that it starts."""
    for name in SWITCHES:
        os.environ.setdefault(name, "1")


def is_declined(switch: str) -> bool:
    """Whether telemetry is off; the user may have turned it on."""
    return os.environ.get(switch, "").strip().lower() not in ("", "0", "false", "no", "off")
