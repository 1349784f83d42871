"""The pictures of a fleet: latency and throughput under a growing load, and the pools for each fleet size."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from evaluation.fleet.world.simulation import Outcome


def curves(points: Sequence[Outcome], target: float, max_batch: int) -> Figure:
    """Draw latency (with the target), tokens/s and load against devices, for one pool."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    latency, rate, load = figure.subplots(1, 3)
    devices = [each.num_devices for each in points]
    for name in ("p50", "p99"):
        found = [getattr(each, name) for each in points]
        latency.plot(devices, [1000 * (each or float("nan")) for each in found], marker="o", label=name)
    latency.axhline(1000 * target, color="grey", linestyle="--", label="target")
    latency.set(yscale="log", ylabel="correction latency, ms")
    rate.plot(devices, [each.tokens_per_second for each in points], marker="o", label="tokens/s")
    rate.set(ylabel="tokens/s of all devices")
    load.plot(devices, [each.worker_load for each in points], marker="o", label="workers busy")
    load.plot(
        devices, [each.batch / max_batch for each in points], marker="s", label=f"batch, of {max_batch}"
    )
    load.plot(devices, [each.busy_share for each in points], marker="^", label="turned away")
    load.set(ylabel="share")
    for axes in (latency, rate, load):
        axes.set(xlabel="devices")
        axes.grid(alpha=0.3)
    latency.legend()
    load.legend()
    return figure


def sizes(points: Sequence[tuple[int, int, int]]) -> Figure:
    """Draw workers and brokers against devices; `points` are (devices, workers, brokers)."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    devices = [each[0] for each in points]
    axes.plot(devices, [each[1] for each in points], marker="o", label="workers")
    axes.plot(devices, [each[2] for each in points], marker="s", label="brokers")
    axes.set(xscale="log", yscale="log", xlabel="devices", ylabel="processes")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
