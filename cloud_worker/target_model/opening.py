"""Opens the target model that a worker's config names, in this process or in several."""

from collections.abc import Generator
from contextlib import contextmanager

from cloud_worker.config import WorkerConfig
from cloud_worker.engines.local import LocalEngine
from cloud_worker.target_model.loading import choose_device
from cloud_worker.target_model.model import TargetModel
from cloud_worker.target_model.tensor_parallel import ParallelTargetModel, Plan


@contextmanager
def open_target_model(config: WorkerConfig) -> Generator[TargetModel]:
    """The model that `config` names, until the block ends; TargetModelError if it cannot be used."""
    if config.tensor_parallel == 1:
        yield TargetModel.load(
            config.model,
            device=config.device,
            dtype=config.dtype,
            device_map=config.device_map,
            num_threads=config.num_threads,
            cache_bytes=config.cache_mb << 20,
            chunk_tokens=config.chunk_tokens,
        )
        return
    plan = Plan(
        name=config.model,
        device=choose_device(config.device),
        dtype=config.dtype,
        num_processes=config.tensor_parallel,
        num_threads=config.num_threads,
        cache_bytes=config.cache_mb << 20,
        chunk_tokens=config.chunk_tokens,
    )
    with ParallelTargetModel.open(plan) as model:
        yield model


@contextmanager
def open_engine(config: WorkerConfig) -> Generator[LocalEngine]:
    """The engine of the model that `config` names, until the block ends; TargetModelError as above."""
    with open_target_model(config) as model:
        yield LocalEngine(model, config.chunk_tokens, model.verify, model.tokenizer)
