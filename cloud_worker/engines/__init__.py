"""The seam between a worker and what runs its target model, and the engine of a model in this process."""

from cloud_worker.engines.engine import Engine, EngineError, EngineLostError, Part, Verified

__all__ = ["Engine", "EngineError", "EngineLostError", "Part", "Verified"]
