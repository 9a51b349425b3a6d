"""OUTCOME envelopes become facts in the log; an envelope is acknowledged after its facts are committed."""

from libs.bus import Bus
from libs.consume import Consumer, Held
from libs.envelope import Lane, OutcomeEnvelope
from libs.subjects import outcome, stream_of

from .record import Facts, Recorder

DURABLE = "lifecycle"


class Outcomes:
    def __init__(self, bus: Bus, recorder: Recorder, lane: Lane, slots: int) -> None:
        self._recorder = recorder
        self.consumer: Consumer[OutcomeEnvelope] = Consumer(
            bus,
            OutcomeEnvelope,
            stream=stream_of("OUTCOME", lane),
            durable=DURABLE,
            subject=outcome(lane, "*", "*"),
            slots=slots,
            handle=self.handle,
            bury=self.bury,
        )

    async def handle(self, envelope: OutcomeEnvelope, _: Held) -> None:
        await self._recorder.record(envelope.lane, Facts(envelope.application_id, envelope.items))

    async def bury(self, envelope: OutcomeEnvelope, held: Held) -> None:
        """A fact that cannot be recorded: the message is failed, so that its end is known."""
        (item,) = envelope.items
        failed = type(item)(
            item.message_id,
            "failed",
            max(item.attempt, 1),
            "dead_letter",
            0,
            reason="dead_letter",
            data={"stream": held.stream, "deliveries": held.deliveries},
        )
        await self._recorder.record(envelope.lane, Facts(envelope.application_id, [failed]))
