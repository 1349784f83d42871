"""Measure verifications per second of a target model, and where the time goes.

    python -m benchmarks.batched_verification --shape qwen-1.5b --sessions 1 16 --new 4
    python -m benchmarks.batched_verification --model FOLDER --device cuda --dtype bfloat16 --sessions 1 16 64

Each session has its past in the cache and verifies a block of new tokens with a bonus token, the way a worker
runs it: one forward pass for all sessions, then judging. Beside it, in turns: the same sessions one after the
other (`serial`), and plain decoding by transformers, one token per session and step. With --profile, the time
of a GPU is split into kernels, copies and waiting for launches.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache, PreTrainedModel

from benchmarks.support.shapes import SHAPES, SPREAD, random_model
from benchmarks.support.verifying import KINDS, Verification, batch_of, verifications
from cloud_worker.engines.engine import Verified
from cloud_worker.target_model import TargetModel
from cloud_worker.target_model.loading import DTYPES, Loaded, load
from common.transformers_cache import cache_argument
from evaluation.help_format import command_parser

WARM_UPS = 6  # a size of pass is recorded as a graph once it has recurred


@dataclass(frozen=True, slots=True)
class Timed:
    """Medians of runs, in milliseconds."""

    total: float
    forward: float
    judging: float
    issuing: float  # until the host has issued the forward pass; the rest of it, the host waits or judges


def synchronise(device: str) -> None:
    """Wait until the device has nothing to do."""
    if device == "cuda":
        torch.cuda.synchronize()


def time_passes(
    model: TargetModel, made: Sequence[Verification], kind: str, vocab_size: int, runs: int, device: str
) -> Timed:
    """Return how long one pass with all sessions takes."""
    times: list[tuple[float, float, float, float]] = []
    for run in range(runs + WARM_UPS):
        batch = batch_of([one.task(KINDS[kind], vocab_size) for one in made], model)
        synchronise(device)
        issued: list[float] = []
        began = time.perf_counter()
        verified = verify(model, batch, issued)
        total = time.perf_counter() - began
        judging = sum(part.judging_seconds for part in verified.parts)
        if run >= WARM_UPS:
            times.append((total, verified.forward_seconds, judging, issued[0] - began))
    return Timed(*(1000 * statistics.median(column) for column in zip(*times, strict=True)))


def verify(model: TargetModel, batch: object, issued: list[float]) -> Verified:
    """Run `TargetModel.verify`, noting when its forward pass has been issued."""
    plain_rows = model.rows

    def rows(passes: Sequence[object]) -> list[torch.Tensor]:
        found = plain_rows(passes)  # pyright: ignore[reportArgumentType]
        issued.append(time.perf_counter())
        return found

    model.rows = rows  # pyright: ignore[reportAttributeAccessIssue]
    try:
        return model.verify(batch)  # pyright: ignore[reportArgumentType]
    finally:
        del model.rows


def decode_ms(model: PreTrainedModel, num_sessions: int, past: int, runs: int, device: str) -> float:
    """Return how long transformers takes for one more token of each session."""
    cache, keyword = DynamicCache(config=model.config), cache_argument(model.forward)
    ids = torch.randint(0, 1000, (num_sessions, past), device=device)
    model(input_ids=ids, use_cache=True, logits_to_keep=1, **{keyword: cache})
    times: list[float] = []
    for _ in range(runs + 2):
        synchronise(device)
        began = time.perf_counter()
        logits = model(input_ids=ids[:, :1], use_cache=True, logits_to_keep=1, **{keyword: cache}).logits
        logits[:, -1].argmax(-1).cpu()
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times[2:])


def serial_ms(
    model: TargetModel, made: Sequence[Verification], kind: str, vocab_size: int, runs: int
) -> float:
    """Return how long the sessions take one after the other, in passes of their own."""

    def all_of_them() -> None:
        for one in made:
            model.verify(batch_of([one.task(KINDS[kind], vocab_size)], model))

    for _ in range(WARM_UPS):
        all_of_them()
    return 1000 * statistics.median(_seconds(all_of_them) for _ in range(max(1, runs // 3)))


def _seconds(call: Callable[[], None]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def profile_line(model: TargetModel, made: Sequence[Verification], kind: str, vocab_size: int) -> str:
    """Return the milliseconds of a pass that the GPU spends on kernels and copies, and how many there are."""
    from torch.profiler import ProfilerActivity, profile

    batches = [batch_of([one.task(KINDS[kind], vocab_size) for one in made], model) for _ in range(3)]
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        for batch in batches:
            model.verify(batch)
    events = [(event.key, event.self_device_time_total, event.count) for event in found.key_averages()]
    copies = [(micros, count) for name, micros, count in events if "Memcpy" in name or "Memset" in name]
    copying, num_copies = (sum(column) for column in zip(*copies, strict=True)) if copies else (0, 0)
    kernels = sum(micros for _, micros, _ in events) - copying
    num_kernels = sum(count for *_, count in events) - num_copies
    return (
        f"    GPU: kernels {kernels / 3000:.2f} ms ({num_kernels // 3}), "
        f"copies {copying / 3000:.3f} ms ({num_copies // 3}) per pass"
    )


def main() -> None:
    """Print a line per kind of drafts and number of sessions."""
    parser = command_parser("benchmarks.batched_verification", __doc__)
    parser.add_argument(
        "--shape", choices=SHAPES, default="smollm2-135m", help="random weights in this shape"
    )
    parser.add_argument("--model", help="real weights: a folder or hub name, in place of --shape")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="what runs the model")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="the model's number format")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 4, 16], help="numbers of sessions")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["plain"], help="kinds of drafts")
    parser.add_argument("--past", type=int, default=200, help="tokens before the block")
    parser.add_argument("--new", type=int, default=4, help="tokens in a block")
    parser.add_argument("--runs", type=int, default=9, help="runs of each measurement")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: as torch chooses")
    parser.add_argument("--cache-mb", type=int, default=4096, help="memory for keys and values, in MiB")
    parser.add_argument("--no-peers", action="store_true", help="leave out serial and plain decoding")
    parser.add_argument("--profile", action="store_true", help="split the time of the GPU")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    dtype = DTYPES[options.dtype]
    with torch.inference_mode():
        if options.model:
            loaded = load(options.model, device=options.device, dtype=options.dtype, device_map=None)
        else:
            plain = random_model(options.shape, options.device, dtype, spread=SPREAD)
            loaded = Loaded(plain, {}, frozenset(), plain.config.max_position_embeddings)
        decoding = {
            n: decode_ms(loaded.model, n, options.past, options.runs, options.device)
            for n in ([] if options.no_peers else options.sessions)
        }
    vocab_size = loaded.model.config.get_text_config().vocab_size
    model = TargetModel(loaded, cache_bytes=options.cache_mb << 20, chunk_tokens=2048)
    device = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(
        f"{options.model or options.shape}, {options.dtype}, {device}, torch {torch.__version__}", flush=True
    )
    for kind in options.kinds:
        for num_sessions in options.sessions:
            made = verifications(model, vocab_size, num_sessions, options.past, options.new, kind)
            timed = time_passes(model, made, kind, vocab_size, options.runs, options.device)
            line = (
                f"{kind:10s} {num_sessions:3d} sessions: {timed.total:8.2f} ms (forward {timed.forward:.2f}, "
                f"judging {timed.judging:.2f} = {timed.judging / timed.total:.1%}, issued after "
                f"{timed.issuing:.2f}), {1000 * num_sessions / timed.total:7.1f} verifications/s"
            )
            if not options.no_peers:
                serial = serial_ms(model, made, kind, vocab_size, options.runs)
                decoded = decoding[num_sessions]
                line += (
                    f"; serial {serial:.1f} ms ({serial / timed.total:.2f}x); "
                    f"plain decoding {decoded:.2f} ms a step = {1000 * num_sessions / decoded:.0f} tokens/s"
                )
            print(line, flush=True)
            if options.profile and options.device == "cuda":
                print(profile_line(model, made, kind, vocab_size), flush=True)


if __name__ == "__main__":
    main()
