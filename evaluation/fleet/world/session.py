"""One generation on a device, in virtual time: it drafts along a trace, hands blocks to `Sending`, rewinds.

Law: it does what `edge_agent.session.session` does, and with its own rule for block lengths (`BlockLength`).
Beyond a rejection, before the device knows of it, it drafts in vain: those blocks are cut as the
text that follows would be.
"""

from dataclasses import dataclass

import simpy

from common.protocol.messages import DraftToken
from edge_agent.session.block import Block
from edge_agent.session.block_length import BlockLength
from evaluation.fleet.traces import ASKED, SKIPPED, SchemeTraces, Stretch, Trace
from evaluation.fleet.world.pool import Pool
from evaluation.fleet.world.sending import InFlight, Sending
from evaluation.fleet.world.worker import Process, Uplink

PLACEHOLDER = DraftToken(0)  # blocks are cut by risk; which token it is plays no part


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """Seconds of a draft token on the device, and the block length (None: as the agent chooses it)."""

    draft_seconds: float
    block_length: int | None = None
    window: int | None = None


class Session:
    """`run` is its process."""

    def __init__(self, pool: Pool, scheme: SchemeTraces, trace: Trace, time: DeviceTime) -> None:
        self._pool, self._env = pool, pool.env
        self._scheme, self._trace, self._time = scheme, trace, time
        self._window = time.window or scheme.window
        self._block_length = BlockLength(self._window, time.block_length)
        self._block_length.drafted(time.draft_seconds)
        self._sending = Sending(pool, scheme, self._block_length)
        self._in_flight = self._sending.in_flight
        self._began = pool.env.now

    def run(self) -> Process:
        """From the prompt to the last token."""
        self._pool.num_active += 1
        if self._scheme.drafts:
            yield from self._draft_all()
        else:
            self._launch_stream()
        while self._in_flight and not self._sending.has_failed:
            yield self._sending.changed()
        self._finish()

    # -- drafting -----------------------------------------------------------------------------------

    def _draft_all(self) -> Process:
        position = 0
        while position < len(self._trace.steps) and not self._sending.has_failed:
            if len(self._in_flight) >= self._window:
                yield self._sending.changed()
                continue
            stretch = self._stretch(position)
            yield self._env.timeout((stretch.end - stretch.start) * self._time.draft_seconds)
            position = stretch.end
            if not stretch.num_held or self._sending.has_failed:
                continue
            record = self._launch(stretch, rejects=stretch.rejected_at is not None)
            if stretch.rejected_at is not None:
                position = stretch.rejected_at + 1
                yield from self._draft_in_vain(record, stretch.end)

    def _draft_in_vain(self, record: InFlight, position: int) -> Process:
        """Until the device hears that `record` was rejected."""
        drafted: simpy.Event | None = None
        stretch = self._stretch(position)
        while record in self._in_flight and not self._sending.has_failed:
            if drafted is None and len(self._in_flight) < self._window and stretch.end > stretch.start:
                drafted = self._env.timeout((stretch.end - stretch.start) * self._time.draft_seconds)
            if drafted is None:
                yield self._sending.changed()
                continue
            yield drafted | self._sending.changed()
            if drafted.processed and record in self._in_flight:
                if stretch.num_held:
                    self._launch(stretch, rejects=False)
                stretch, drafted = self._stretch(stretch.end), None
        self._sending.epoch += 1

    def _stretch(self, start: int) -> Stretch:
        """The draft tokens from `start` to the next uplink."""
        steps, held, rejected_at = self._trace.steps, Block(), None
        end = start
        while end < len(steps):
            step = steps[end].lower()
            if step != SKIPPED:
                held.add(PLACEHOLDER, self._trace.uncertainty[end] if self._trace.uncertainty else 0.0)
                if rejected_at is None and self._trace.is_rejected(end):
                    rejected_at = end
            end += 1
            if step == ASKED or self._block_length.is_full(
                held, self._sending.round_trip.smoothed, len(self._in_flight)
            ):
                break
        return Stretch(start, end, len(held), rejected_at)

    def _launch(self, stretch: Stretch, *, rejects: bool) -> InFlight:
        num_tested = num_accepted = stretch.num_held
        if stretch.rejected_at is not None:
            held = self._trace.steps[stretch.start : stretch.rejected_at].lower()
            num_accepted = len(held) - held.count(SKIPPED)
            num_tested = num_accepted + 1
        uplink = Uplink(self._sending.next_n, self._sending.epoch, stretch.end - stretch.start, rejects)
        size = self._scheme.token_bytes * stretch.num_held + self._scheme.context_bytes * stretch.num_skipped
        record = InFlight(uplink, size, self._trace.num_prompt + stretch.start, num_tested, num_accepted)
        self._sending.launch(record)
        return record

    def _launch_stream(self) -> None:
        bonus = len(self._trace.steps)
        uplink = Uplink(0, 0, 0, bonus=bonus)
        self._sending.launch(InFlight(uplink, 0.0, self._trace.num_prompt, 0, 0))

    def _finish(self) -> None:
        gauge, now = self._pool.gauge, self._env.now
        self._pool.num_active -= 1
        if now >= gauge.begins:
            gauge.num_failed += self._sending.has_failed
            if not self._sending.has_failed:
                gauge.num_tokens += len(self._trace.steps)
                gauge.session_seconds.append(now - self._began)
        self._sending.close()
