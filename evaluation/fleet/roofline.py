"""Pass times of a model on a GPU that was not measured: a roofline of its published figures.

Law: such a profile has "assumed" in its name and says in its source what it rests on.
"""

from dataclasses import dataclass

from evaluation.fleet.inputs import PassTime


@dataclass(frozen=True, slots=True)
class Gpu:
    """`bandwidth` in bytes per second for weights and caches, `operations` per second."""

    name: str
    bandwidth: float
    operations: float
    efficiency: float  # the share of both that is reached; an assumption

    def target(self, num_parameters: float, cache_bytes: float, source: str) -> PassTime:
        """Return the pass times of a model in bfloat16; `cache_bytes` is the key-value cache of a session."""
        return PassTime(
            fixed=2 * num_parameters / self.bandwidth / self.efficiency,
            per_session=cache_bytes / self.bandwidth / self.efficiency,
            per_token=2 * num_parameters / self.operations / self.efficiency,
            source=source,
            leaves_core=True,
        )


H100 = Gpu("NVIDIA H100 SXM", 3.35e12, 989e12, 0.5)
