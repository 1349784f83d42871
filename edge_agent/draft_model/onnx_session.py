"""ONNX Runtime behind a few typed calls; besides the exporter, the only importer of onnxruntime.

Law: any error that ONNX Runtime raises leaves here as a ModelError with a one-line message.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from common.process.telemetry import ORT_SWITCH, is_declined
from edge_agent.draft_model.graph import Tensor
from edge_agent.errors import ModelError

Buffer: TypeAlias = ort.OrtValue
Array: TypeAlias = npt.NDArray[np.generic]

CPU = "CPUExecutionProvider"
ON_CUDA = frozenset({"CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider"})
OLDEST = "1.23.2"  # as in pyproject.toml
REFUSES_LINKS = ("1.24.0", "1.24.1")
# In ONNX Runtime's errors: an operator, a version of one, or a format that this release does not know.
_SIGNS_OF_AGE = (
    "is under development and support for this is limited",
    "Unsupported model IR version",
    "not in range [min=",
    "is not a registered function/op",
    "No Op registered for",
)
# onnxruntime-genai's graphs with this operator share a quantised embedding with the head, through a Reshape.
# Folded, it is a copy of the embedding in memory; as a node it copies nothing, and costs nothing.
_SHARED_EMBEDDING = b"GatherBlockQuantized"
_MAX_HEADER = 1 << 26  # bytes: a graph whose weights are in it is larger
_SILENT = 4  # ONNX Runtime's log level: failures are raised, and printed once

if is_declined(
    ORT_SWITCH
):  # again, for an app that loads ONNX Runtime before us, and for Windows' own builds
    ort.disable_telemetry_events()

# ONNX Runtime's errors have no common base class; they are defined in its compiled module.
_COMPILED = vars(import_module("onnxruntime.capi.onnxruntime_pybind11_state"))
_FAILURES = (
    RuntimeError,
    ValueError,
    *(kind for kind in _COMPILED.values() if isinstance(kind, type) and issubclass(kind, Exception)),
)


@dataclass(frozen=True, slots=True)
class Binding:
    """The buffers of a run. `fresh` names the outputs that get a new buffer, and its device."""

    io: ort.IOBinding
    fresh: Mapping[str, str]


def runtime() -> tuple[str, tuple[str, ...]]:
    """The version of ONNX Runtime, and the execution providers that this build of it has."""
    return ort.__version__, tuple(ort.get_available_providers())


class OnnxSession:
    """One loaded graph, and buffers on the device that it runs on."""

    def __init__(self, session: ort.InferenceSession, device: str) -> None:
        """Wrap `session`, whose cache is on `device` ("cpu" or "cuda")."""
        self._session = session
        self._device = device
        self.inputs = tuple(Tensor(node.name, tuple(node.shape), node.type) for node in session.get_inputs())
        self.outputs = tuple(
            Tensor(node.name, tuple(node.shape), node.type) for node in session.get_outputs()
        )
        self._logits = next((i for i, output in enumerate(self.outputs) if output.name == "logits"), 0)

    @classmethod
    def open(cls, path: Path, *, num_threads: int, providers: Sequence[str]) -> "OnnxSession":
        """Load the graph at `path`.

        `num_threads` 0 means one per core; `providers` are ONNX Runtime's execution providers in order of
        preference, and none means the CPU. Raises ModelError when the file or a provider does not work.
        """
        missing = [name for name in providers if name not in ort.get_available_providers()]
        if missing:
            raise ModelError(
                f"This ONNX Runtime has no {missing[0]} (it has {', '.join(ort.get_available_providers())}): "
                "install the onnxruntime build for it, or change `providers`."
            )
        options = ort.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = _SILENT
        try:
            left_out = ["ConstantFolding"] if _shares_embedding(path) else []
            session = ort.InferenceSession(
                path, options, providers=[*providers, CPU], disabled_optimizers=left_out
            )
        except _FAILURES as error:
            raise _cannot_load(path, error) from error
        for name in providers:
            if name not in session.get_providers():
                raise ModelError(f"{name} could not start: install its libraries, or change `providers`.")
        return cls(session, "cuda" if ON_CUDA & set(providers) else "cpu")

    def buffer(self, array: Array) -> Buffer:
        """Put `array` where the graph runs. On the CPU this is the array itself: do not change it."""
        return ort.OrtValue.ortvalue_from_numpy(array, self._device)

    def bind(self, past: Mapping[str, Buffer], present: Mapping[str, Buffer | None]) -> Binding:
        """Bind where runs read the past and write the present; None means a new buffer each run."""
        io = self._session.io_binding()
        for name, value in past.items():
            io.bind_ortvalue_input(name, value)
        fresh: dict[str, str] = {}
        for output in self.outputs:  # in the order of the results
            value = present.get(output.name)
            if value is None:
                fresh[output.name] = self._device if output.name in present else "cpu"
                io.bind_output(output.name, fresh[output.name])
            else:
                io.bind_ortvalue_output(output.name, value)
        return Binding(io, fresh)

    def run(self, binding: Binding, arrays: Mapping[str, Array]) -> Array:
        """Run the graph once on `arrays` and the bound buffers, and return the logits; raises ModelError."""
        try:
            for name, array in arrays.items():
                binding.io.bind_cpu_input(name, array)
            for name, device in binding.fresh.items():
                binding.io.bind_output(name, device)  # each time: else the last run's buffer is overwritten
            self._session.run_with_iobinding(binding.io)
        except _FAILURES as error:
            raise ModelError(f"The draft model failed to run ({_reason(error)}).") from error
        return binding.io.get_outputs_as_ortvaluevector()[self._logits].numpy()

    def present(self, binding: Binding) -> dict[str, Buffer]:
        """Return all outputs of the last run by name."""
        names = (output.name for output in self.outputs)
        return dict(zip(names, binding.io.get_outputs(), strict=True))


def _shares_embedding(path: Path) -> bool:
    try:
        return path.stat().st_size <= _MAX_HEADER and _SHARED_EMBEDDING in path.read_bytes()
    except OSError:
        return False  # ONNX Runtime says what is wrong


def _cannot_load(path: Path, error: Exception) -> ModelError:
    reason = _reason(error)
    if any(sign in str(error) for sign in _SIGNS_OF_AGE):
        return ModelError(
            f"ONNX Runtime {ort.__version__} is too old for {path}: install {OLDEST} or newer "
            "(pip install --upgrade onnxruntime)."
        )
    if "external" in reason.lower() and ort.__version__ in REFUSES_LINKS:
        return ModelError(
            f"ONNX Runtime {ort.__version__} refuses weights behind links, as those beside {path} may be: "
            "install 1.24.2 or newer."
        )
    if "external" in reason.lower():
        return ModelError(
            f"The weights beside {path} are missing or cut short: copy the *.data file with the graph."
        )
    return ModelError(
        f"{path} is not a graph that ONNX Runtime can load ({reason}): export or download it again."
    )


def _reason(error: Exception) -> str:
    """The first line of an error, without its final period."""
    return str(error).splitlines()[0].strip().removesuffix(".") if str(error) else type(error).__name__
