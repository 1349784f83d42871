"""A simulated operating point in words: the one-line answer to an operator's question.

Law: the resource that is said to be full first uses the largest share of its capacity at the simulated point.
"""

from evaluation.fleet.world.simulation import KEEPALIVE, Load, Outcome, Site

LINK_MBIT = 1000.0  # a broker's network in each direction: an ordinary server's


def shares(outcome: Outcome, site: Site) -> dict[str, float]:
    """Return the used share of each resource; a worker's capacity is one full batch after another."""
    most, one = site.limits.max_batch, outcome.tokens_per_job
    jobs_per_second = outcome.worker_load * outcome.batch / max(1e-9, outcome.pass_seconds)
    full = jobs_per_second * site.worker_time.cycle(most, int(most * one), most) / most
    network = max(outcome.megabits_up, outcome.megabits_down) / LINK_MBIT / site.num_brokers
    return {"the workers": full, "the broker": outcome.broker_load, "the broker's network": network}


def first_to_break(outcome: Outcome, load: Load, site: Site) -> tuple[str, int]:
    """Return what is full first when devices are added to this site, and at how many devices."""
    name, share = max(shares(outcome, site).items(), key=lambda item: item[1])
    return name, int(load.num_devices / max(share, 1e-12))


def answer(outcome: Outcome | None, load: Load, site: Site, target: float, *, is_given: bool) -> str:
    """Return the answer in one line."""
    brokers = _counted(site.num_brokers, "broker")
    if outcome is None:
        return (
            f"{load.num_devices:,} devices cannot have a p99 of {1000 * target:.0f} ms: one pass and the "
            "round trip alone take longer"
        )
    workers = _counted(outcome.num_workers, "worker")
    name, breaks_at = first_to_break(outcome, load, site)
    limit = f"with them {name} would be full first, at about {_rounded(breaks_at):,} devices"
    if is_given:
        verdict = "meet" if outcome.meets(target) else "do not meet"
        return (
            f"{load.num_devices:,} devices on {workers} and {brokers} {verdict} a p99 of {1000 * target:.0f} "
            f"ms; {limit}."
        )
    wish = f"for a p99 of {1000 * target:.0f} ms"
    return f"{load.num_devices:,} devices need {workers} and {brokers} {wish}; {limit}."


def in_words(outcome: Outcome) -> str:
    """Return the figures behind the answer."""
    p50, p99 = (
        f"{1000 * each:.0f} ms" if each is not None else "none" for each in (outcome.p50, outcome.p99)
    )
    return (
        f"correction p50 {p50}, p99 {p99}; {outcome.tokens_per_second:,.0f} tokens/s, "
        f"{outcome.uplinks_per_second:,.0f} uplinks/s, {outcome.megabits_up:,.1f} Mbit/s up; "
        f"workers {outcome.worker_load:.0%} busy with {outcome.batch:.1f} sessions per pass; each broker "
        f"{outcome.broker_load:.0%} busy (idle devices ping every {KEEPALIVE} s); turned away "
        f"{outcome.busy_share:.1%}, asked again {outcome.repeat_share:.1%}, failed {outcome.failed_share:.1%}"
        f"; {outcome.num_simulated} of {outcome.num_workers} workers simulated, "
        f"{outcome.num_answers:,} answers"
    )


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _rounded(number: int) -> int:
    """Round down to two digits."""
    digits = max(0, len(str(number)) - 2)
    return number // 10**digits * 10**digits
