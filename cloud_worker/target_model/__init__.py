"""The target model in torch and transformers; nothing else in the worker imports them."""

from cloud_worker.target_model.errors import TargetModelError
from cloud_worker.target_model.model import TargetModel
from cloud_worker.target_model.opening import open_engine, open_target_model

__all__ = ["TargetModel", "TargetModelError", "open_engine", "open_target_model"]
