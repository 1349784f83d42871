"""How long the models take, by machine. Pure values; `model_times` measures those of this machine.

Law: every figure names its source, and states if it is assumed.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Compute:
    """The seconds of both models.

    A forward pass takes the same time for any number of sessions, plus a little per position, since it reads
    all weights once in any case.
    """

    draft_seconds: float  # the draft model, per token
    pass_seconds: float  # the target model, per forward pass
    prompt_seconds: float = 0.0  # the draft model, per further token that it must read
    position_seconds: float = 0.0  # the target model, per new position in a pass
    source: str = "given"

    def draft(self, num_new: int) -> float:
        """Return the time for the draft model to read `num_new` tokens and predict the next."""
        return self.draft_seconds + self.prompt_seconds * (num_new - 1)

    def forward(self, num_new: int) -> float:
        """Return the time for the target model to compute `num_new` positions, of all sessions together."""
        return self.pass_seconds + self.position_seconds * num_new


# TinyLlama-1.1B on the device, Llama-2-7B in the cloud: the pair of arXiv 2412.12687.
PI5_SOURCE = (
    "TinyLlama 1.1B at 4 bits on a Raspberry Pi 5: 8 to 12 tokens/s (specpicks.com, 'Best SBC for Local LLM "
    "Inference', 2026), 10 used; prompt at 80 tokens/s, assumed"
)
ORIN_SOURCE = (
    "TinyLlama 1.1B on a Jetson Orin Nano: 64 tokens/s, from 68 GB/s of memory (ericxliu.me, 'Benchmarking "
    "LLMs on Jetson Orin Nano') over 0.64 GB of 4-bit weights at an assumed 60 % of the bandwidth; prompt at "
    "1000 tokens/s, assumed"
)
H100_SOURCE = (
    "H100: GPT-J 6B, batch 1, 185 tokens/s and 7.1 ms to the first token after 128 (NVIDIA, TensorRT-LLM "
    "'H100 has 4.6x A100 performance'), used for 7B: 5.4 ms per pass, plus (7.1 - 5.4) / 128 = 0.013 ms per "
    "position"
)

PROFILES = {
    "pi5-h100": Compute(
        draft_seconds=1 / 10,
        prompt_seconds=1 / 80,
        pass_seconds=1 / 185,
        position_seconds=0.013e-3,
        source=f"{PI5_SOURCE}. {H100_SOURCE}.",
    ),
    "orin-h100": Compute(
        draft_seconds=1 / 64,
        prompt_seconds=1 / 1000,
        pass_seconds=1 / 185,
        position_seconds=0.013e-3,
        source=f"{ORIN_SOURCE}. {H100_SOURCE}.",
    ),
}
