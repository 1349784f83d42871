"""An operating point in words: what an operator asked, answered in a sentence. Pure.

Law: what is called full first is what uses the largest share of its capacity at the simulated point.
"""

from evaluation.fleet.world.simulation import KEEPALIVE, Load, Outcome, Site

LINK_MBIT = 1000.0  # of a broker's network, each way: an ordinary server's


def shares(outcome: Outcome, site: Site) -> dict[str, float]:
    """How much of its capacity each resource uses; that of a worker is one full batch after the other."""
    most, one = site.limits.max_batch, outcome.tokens_per_job
    jobs_per_second = outcome.worker_load * outcome.batch / max(1e-9, outcome.pass_seconds)
    full = jobs_per_second * site.worker_time.cycle(most, int(most * one), most) / most
    network = max(outcome.megabits_up, outcome.megabits_down) / LINK_MBIT / site.num_brokers
    return {"the workers": full, "the broker": outcome.broker_load, "the broker's network": network}


def first_to_break(outcome: Outcome, load: Load, site: Site) -> tuple[str, int]:
    """What is full first when devices are added to this site, and at how many devices that is."""
    name, share = max(shares(outcome, site).items(), key=lambda item: item[1])
    return name, int(load.num_devices / max(share, 1e-12))


def answer(outcome: Outcome | None, load: Load, site: Site, target: float, *, is_given: bool) -> str:
    """What was asked, in a sentence."""
    brokers = _counted(site.num_brokers, "broker")
    if outcome is None:
        return (
            f"{load.num_devices:,} devices cannot have 99 of 100 corrections within {1000 * target:.0f} ms: "
            "the time of one pass and the round trip alone take longer"
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
    """The figures behind the sentence."""
    p50, p99 = (
        f"{1000 * each:.0f} ms" if each is not None else "none" for each in (outcome.p50, outcome.p99)
    )
    return (
        f"correction p50 {p50}, p99 {p99}; {outcome.tokens_per_second:,.0f} tokens/s, "
        f"{outcome.uplinks_per_second:,.0f} uplinks/s, {outcome.megabits_up:,.1f} Mbit/s up; "
        f"workers busy {outcome.worker_load:.0%} with {outcome.batch:.1f} sessions a pass; each broker "
        f"{outcome.broker_load:.0%} busy (idle devices ping every {KEEPALIVE} s); turned away "
        f"{outcome.busy_share:.1%}, asked again {outcome.repeat_share:.1%}, failed {outcome.failed_share:.1%}"
        f"; {outcome.num_simulated} of {outcome.num_workers} workers simulated, "
        f"{outcome.num_answers:,} answers"
    )


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _rounded(number: int) -> int:
    """To two digits."""
    digits = max(0, len(str(number)) - 2)
    return number // 10**digits * 10**digits
