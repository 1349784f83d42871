"""The result of a generation, as numbers for programs and as lines for people."""

import resource
from dataclasses import dataclass

from edge_agent.generation.generation import Generation
from edge_agent.session.transcript import Fate


@dataclass(frozen=True, slots=True)
class Report:
    """One generation. Bytes are those of whole MQTT PUBLISH packets, times in seconds, memory in MiB."""

    text: str
    finish_reason: str
    scheme: str
    seed: int
    threshold: float
    byte_price: float | None  # with max_ids 0
    num_prompt_tokens: int
    num_tokens: int
    most_tokens: int
    num_by_fate: dict[str, int]
    num_uplinks: int
    num_resent: int
    uplink_rate: float  # drafts sent per token
    num_tested: int
    num_accepted: int
    acceptance_rate: float | None
    num_skipped: int
    num_measured: int
    num_audits: int
    measured_risk: float | None  # drift per token
    measured_risk_of_agent: float | None  # over all its generations
    num_bytes_up: int
    num_bytes_down: int
    cloud_loss: str | None  # why tokens went unverified
    round_trip: float | None
    seconds: float
    seconds_drafting: float
    seconds_waiting: float
    seconds_to_first_token: float | None
    seconds_cpu: float  # of all cores; beside other generations its own runs, and its part of the rest
    seconds_cpu_per_token: float | None
    peak_memory_mb: float

    @classmethod
    def of(
        cls,
        generation: Generation,
        risk_of_agent: float | None = None,
    ) -> "Report":
        """Report a finished generation, given the agent's measured risk."""
        session, clock, traffic = generation.session, generation.clock, generation.mailbox.traffic
        tally = session.tally
        return cls(
            text=generation.text,
            finish_reason=session.finish_reason or "stop",
            scheme=generation.policy.scheme.name,
            seed=generation.policy.seed,
            threshold=generation.policy.threshold,
            byte_price=None if generation.policy.max_ids else generation.policy.byte_price,
            num_prompt_tokens=len(session.tokens) - tally.num_tokens,
            num_tokens=tally.num_tokens,
            most_tokens=session.most_tokens,
            num_by_fate={str(fate): count for fate, count in tally.num_by_fate.items()},
            num_uplinks=tally.num_uplinks,
            num_resent=tally.num_resent,
            uplink_rate=tally.num_uplinks / max(1, tally.num_tokens),
            num_tested=tally.num_tested,
            num_accepted=tally.num_accepted,
            acceptance_rate=tally.acceptance_rate,
            num_skipped=tally.num_skipped,
            num_measured=tally.num_measured,
            num_audits=tally.num_audits,
            measured_risk=tally.measured_risk,
            measured_risk_of_agent=risk_of_agent,
            num_bytes_up=traffic.num_bytes_up,
            num_bytes_down=traffic.num_bytes_down,
            cloud_loss=session.cloud.reason,
            round_trip=session.round_trip.smoothed,
            seconds=clock.total,
            seconds_drafting=clock.drafting,
            seconds_waiting=clock.waiting,
            seconds_to_first_token=clock.first_token,
            seconds_cpu=clock.cpu,
            seconds_cpu_per_token=clock.cpu / tally.num_tokens if tally.num_tokens else None,
            peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        )

    def lines(self) -> list[str]:
        """The summary to print after a text."""
        fates = ", ".join(f"{self.num_by_fate[fate]} {fate}" for fate in Fate if self.num_by_fate[fate])
        other = max(0.0, self.seconds - self.seconds_drafting - self.seconds_waiting)
        rate = self.num_tokens / max(self.seconds, 1e-9)
        per_token = self.seconds_cpu_per_token
        cpu = "" if per_token is None else f"{1000 * per_token:.1f} ms of CPU per token; "
        lines = [
            f"{self.num_tokens} tokens ({fates or 'none'}) in {self.seconds:.2f} s, {rate:.1f} tokens/s; "
            f"scheme {self.scheme}, seed {self.seed}",
            f"time: {self.seconds_drafting:.2f} s drafting, {self.seconds_waiting:.2f} s waiting for the "
            f"cloud, {other:.2f} s other; {cpu}peak memory {self.peak_memory_mb:.0f} MiB",
        ]
        if self.num_uplinks:
            lines.insert(1, self._uplink_line())
        if self.measured_risk is not None:
            lines.append(self._risk_line(self.measured_risk))
        if self.cloud_loss is not None:
            lines.append(f"the cloud was lost: {self.cloud_loss}")
        return lines

    def _risk_line(self, risk: float) -> str:
        of_agent = self.measured_risk_of_agent
        since = "" if of_agent is None else f"; since the start {of_agent:.4f}"
        measured = f"{self.num_measured} of {self.num_skipped} skipped tokens"
        return (
            f"measured risk: {risk:.4f} per token, from {measured} at threshold {self.threshold:.6g}{since}"
        )

    def _uplink_line(self) -> str:
        resent = f" and {self.num_resent} repeats" if self.num_resent else ""
        accepted = (
            ""
            if self.acceptance_rate is None
            else f"; accepted {self.num_accepted} of {self.num_tested} tested ({self.acceptance_rate:.0%})"
        )
        trip = "" if self.round_trip is None else f"; round trip {1000 * self.round_trip:.0f} ms"
        return (
            f"{self.num_uplinks} uplinks{resent}, {self.num_bytes_up} bytes up, {self.num_bytes_down} down"
            f"{accepted}{trip}"
        )
