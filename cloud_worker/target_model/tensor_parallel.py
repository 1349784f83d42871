"""One model over several GPUs by transformers' tensor parallel plan: one process per GPU, this one included.

    the worker's process (rank 0)   calls -> pipe -> processes of rank 1, 2 ...: the same calls, in order

Law: all processes make the same calls, so their page pools stay equal without further messages. When one of
them fails, no later result can be trusted: the worker exits, and its sessions continue elsewhere (law 4).
"""

import multiprocessing
import os
import signal
import socket
from collections.abc import Generator, Hashable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Protocol

import torch
from torch import distributed

from cloud_worker.passes.forward_pass import Pass
from cloud_worker.target_model.errors import TargetModelError
from cloud_worker.target_model.loading import Loaded, check_split, load
from cloud_worker.target_model.model import TargetModel

PATIENCE = timedelta(minutes=5)  # for the slowest process to load its weights


@dataclass(frozen=True, slots=True)
class Plan:
    """What every process loads; `num_threads` is per process, 0 for torch's default."""

    name: str
    device: str  # cpu or cuda
    dtype: str
    num_processes: int
    num_threads: int = 0
    cache_bytes: int = 1 << 30
    chunk_tokens: int = 256

    def join(self, rank: int, port: int) -> Loaded:
        """Join the process group on local `port` and load this rank's share of the weights."""
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": self.num_processes, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in place.items()}, MASTER_ADDR="127.0.0.1")
        if self.num_threads > 0:
            torch.set_num_threads(self.num_threads)
        if self.device == "cuda":
            torch.cuda.set_device(rank)
        distributed.init_process_group("nccl" if self.device == "cuda" else "gloo", timeout=PATIENCE)
        return load(self.name, device=self.device, dtype=self.dtype, tensor_parallel=self.num_processes)


class _Pipe(Protocol):
    """The sending end of a pipe."""

    def send(self, obj: object) -> None: ...

    def close(self) -> None: ...


class Followers:
    """The processes of rank 1 and up, and the calls that they repeat."""

    def __init__(self, plan: Plan, port: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[_Pipe] = []
        self._processes: list[SpawnProcess] = []
        for rank in range(1, plan.num_processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=_follow, args=(plan, rank, port, theirs), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def repeat(self, call: str, argument: object) -> None:
        """Make every process repeat this call on its own TargetModel."""
        for pipe in self._pipes:
            pipe.send((call, argument))

    def stop(self) -> None:
        """Stop all processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(timeout=2)
            process.kill()


class ParallelTargetModel(TargetModel):
    """A `TargetModel` over several processes; the results are those of rank 0, where all shares meet."""

    def __init__(self, plan: Plan, loaded: Loaded, followers: Followers) -> None:
        super().__init__(loaded, cache_bytes=plan.cache_bytes, chunk_tokens=plan.chunk_tokens)
        self._followers = followers

    @classmethod
    @contextmanager
    def open(cls, plan: Plan) -> Generator["ParallelTargetModel"]:
        """The model over `plan.num_processes` GPUs (or CPU processes), until the block ends."""
        num_gpus = torch.cuda.device_count()
        if plan.device == "cuda" and num_gpus < plan.num_processes:
            raise TargetModelError(
                f"tensor_parallel {plan.num_processes} needs that many GPUs, but torch sees {num_gpus}"
            )
        check_split(plan.name, plan.num_processes)
        port = _free_port()
        followers = Followers(plan, port)
        try:
            yield cls(plan, plan.join(0, port), followers)
        finally:
            followers.stop()
            if distributed.is_initialized():
                distributed.destroy_process_group()

    def rows(self, passes: Sequence[Pass]) -> list[torch.Tensor]:
        """As `TargetModel.rows`; TargetModelError when a process has failed: make no call after that."""
        self.check(passes)
        try:
            self._followers.repeat("rows", list(passes))
            return super().rows(passes)
        except (RuntimeError, OSError, MemoryError) as error:
            raise TargetModelError(f"a process of the tensor parallel group failed: {error}") from error

    def forget(self, session: Hashable) -> None:
        """As `TargetModel.forget`."""
        with suppress(OSError):  # the next pass reports that a process is gone
            self._followers.repeat("forget", session)
        super().forget(session)


def _follow(plan: Plan, rank: int, port: int, calls: Connection) -> None:
    """The main function of rank 1 and up: repeat calls until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; rank 0 decides
    try:
        loaded = plan.join(rank, port)
        model = TargetModel(loaded, cache_bytes=plan.cache_bytes, chunk_tokens=plan.chunk_tokens)
        while True:
            call, argument = calls.recv()
            getattr(model, call)(argument)
    except EOFError:
        return
    except (TargetModelError, RuntimeError):
        return  # rank 0 fails in the same way, or notices that this process is gone, and reports it


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
