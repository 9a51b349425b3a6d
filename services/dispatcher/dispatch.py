"""One envelope from acceptance to its senders: resolve, decide, open, route, count, publish (DISPATCH -> SEND)."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from libs import telemetry
from libs.bus import Bus
from libs.clock import ReferenceClock
from libs.consume import Abandoned, Consumer, Held
from libs.envelope import (
    Accepted,
    Content,
    Delivery,
    DispatchEnvelope,
    Lane,
    Outcome,
    OutcomeEnvelope,
    SendEnvelope,
    pack,
)
from libs.policies import PolicyBoard
from libs.policy import Policy
from libs.rpc import Recipient, ReserveSends, Resolve, Resolved, SendsReserved
from libs.seal import KeyRing, SealError, associated, key_id_of
from libs.stops import StopBoard
from libs.subjects import dispatch, outcome, send, stream_of

from .ads import as_law_asks
from .caps import to_count, too_many
from .decide import CHANNELS, Refusal, decide, refused, stopped
from .quiet import closing, not_now
from .regions import Regions

DURABLE = "dispatcher"
_Route = tuple[str, str]
"""Channel and region."""
_decode_content = msgspec.msgpack.Decoder(Content).decode
_log = telemetry.logger("dispatch")


class Dispatch:
    def __init__(
        self,
        bus: Bus,
        ring: KeyRing,
        clock: ReferenceClock,
        stops: StopBoard,
        policies: PolicyBoard,
        lane: Lane,
        regions: Regions,
        slots: int,
    ) -> None:
        self._bus = bus
        self._stops = stops
        self._policies = policies
        self._ring = ring
        self._clock = clock
        self._regions = regions
        self.consumer: Consumer[DispatchEnvelope] = Consumer(
            bus,
            DispatchEnvelope,
            stream=stream_of("DISPATCH", lane),
            durable=DURABLE,
            subject=dispatch(lane),
            slots=slots,
            handle=self.handle,
            bury=self.bury,
        )

    async def handle(self, envelope: DispatchEnvelope, held: Held) -> None:
        found = await self._resolve(envelope)
        await self._stops.refresh()
        policy = await self._policies.of(envelope.application_id)
        routed, kept = self._route(envelope, found, policy)
        if policy.frequency_caps:
            kept += await self._take_capped(envelope, found, policy, routed)
        if not held.is_mine():
            raise Abandoned  # by now another may have decided, and otherwise
        await self._publish_outcomes(envelope, kept)
        for route, deliveries in routed.items():
            await self._publish_deliveries(envelope, route, deliveries, marked=envelope.marked or held.suspect)

    async def bury(self, envelope: DispatchEnvelope, held: Held) -> None:
        (item,) = envelope.items
        data = {"stream": held.stream, "deliveries": held.deliveries}
        dead = refused(item, Refusal("failed", "dead_letter", data), self._clock.now_ms())
        await self._publish_outcomes(envelope, [dead])

    async def _resolve(self, envelope: DispatchEnvelope) -> Resolved:
        request = Resolve(
            envelope.application_id,
            list({item.subscription_id for item in envelope.items}),
            list({key_id_of(item.sealed) for item in envelope.items}),
        )
        return await self._bus.call("subscription", "resolve", request, Resolved)

    def _route(
        self, envelope: DispatchEnvelope, found: Resolved, policy: Policy
    ) -> tuple[dict[_Route, list[Delivery]], list[Outcome]]:
        recipients = {recipient.subscription_id: recipient for recipient in found.recipients}
        routed: dict[_Route, list[Delivery]] = defaultdict(list)
        kept: list[Outcome] = []
        now_ms, judging_ms = self._clock.now_ms(), self._clock.judging_ms()
        for item in envelope.items:
            recipient = recipients.get(item.subscription_id)
            refusal = decide(item, recipient, judging_ms, erased=key_id_of(item.sealed) not in found.keys)
            if refusal is None and recipient is not None:
                refusal = self._not_now(envelope, item, recipient, policy, judging_ms)
                if refusal is None:
                    try:
                        delivery = self._deliver_to(envelope, item, recipient, found.keys, policy, judging_ms)
                    except SealError:
                        refusal = Refusal("failed", "content_erased", {"subscription_id": item.subscription_id})
                    else:
                        routed[CHANNELS[recipient.type], self._regions.of(recipient.country)].append(delivery)
            if refusal is not None:
                kept.append(refused(item, refusal, now_ms))
        return routed, kept

    def _not_now(
        self, envelope: DispatchEnvelope, item: Accepted, recipient: Recipient, policy: Policy, now_ms: int
    ) -> Refusal | None:
        channel = CHANNELS[recipient.type]
        stop = self._stops.of(envelope.application_id, channel)
        if stop is not None:
            return stopped(stop, channel)
        return not_now(item, recipient, channel, policy, envelope.lane, now_ms)

    async def _take_capped(
        self, envelope: DispatchEnvelope, found: Resolved, policy: Policy, routed: dict[_Route, list[Delivery]]
    ) -> list[Outcome]:
        """Removes from `routed` whoever got enough already. Only what would go out now is counted, once however often
        its envelope comes. Raises `ServiceUnavailable`."""
        going = {delivery.message_id for deliveries in routed.values() for delivery in deliveries}
        recipients = {recipient.subscription_id: recipient for recipient in found.recipients}
        items = [item for item in envelope.items if item.message_id in going]
        sends = to_count(items, recipients, policy.frequency_caps, envelope.lane)
        if not sends:
            return []
        request = ReserveSends(envelope.application_id, list(policy.frequency_caps), sends)
        reserved = await self._bus.call("lifecycle", "reserve_sends", request, SendsReserved)
        refusals = {capped.message_id: too_many(capped) for capped in reserved.capped}
        for deliveries in routed.values():
            deliveries[:] = [delivery for delivery in deliveries if delivery.message_id not in refusals]
        now_ms = self._clock.now_ms()
        return [refused(item, refusals[item.message_id], now_ms) for item in items if item.message_id in refusals]

    def _deliver_to(
        self,
        envelope: DispatchEnvelope,
        item: Accepted,
        recipient: Recipient,
        keys: dict[bytes, bytes],
        policy: Policy,
        now_ms: int,
    ) -> Delivery:
        channel = CHANNELS[recipient.type]
        bound_to = associated(envelope.application_id, "message_events.sealed", item.message_id)
        content = _decode_content(self._open(keys, item.sealed, bound_to))
        if item.category == "ad":
            content = as_law_asks(content, channel, recipient, policy.timezone)
        bound_to = associated(envelope.application_id, "subscriptions.sealed_token", recipient.subscription_id)
        token = self._open(keys, recipient.sealed_token, bound_to)
        return Delivery(
            message_id=item.message_id,
            subscription_id=item.subscription_id,
            attempt=item.attempt,
            token=token.decode(),
            token_version=recipient.token_version,
            registered_at_ms=recipient.registered_at_ms,
            test=recipient.test,
            deadline_ms=item.deadline_ms,
            content=content,
            token_kind=recipient.token_kind,
            closing=closing(item, recipient, channel, policy, envelope.lane, now_ms),
        )

    def _open(self, keys: dict[bytes, bytes], sealed: bytes, bound_to: bytes) -> bytes:
        key_id = key_id_of(sealed)
        if key_id not in keys:
            raise SealError("the data key was destroyed")
        return self._ring.unwrap(key_id, keys[key_id]).open(sealed, bound_to)

    async def _publish_deliveries(
        self, envelope: DispatchEnvelope, route: _Route, deliveries: list[Delivery], marked: bool
    ) -> None:
        channel, region = route
        subject = send(envelope.lane, channel, region)

        def wrap(items: list[Delivery]) -> SendEnvelope:
            return SendEnvelope(
                envelope.handoff_id, envelope.application_id, envelope.lane, channel, region, items, marked
            )

        for part, payload in pack(deliveries, wrap):
            await self._bus.publish(subject, payload, msg_id=_part_id(envelope.handoff_id, part))

    async def _publish_outcomes(self, envelope: DispatchEnvelope, outcomes: list[Outcome]) -> None:
        if not outcomes:
            return
        subject = outcome(envelope.lane, "dispatch", self._regions.default)

        def wrap(items: list[Outcome]) -> OutcomeEnvelope:
            return OutcomeEnvelope(envelope.application_id, envelope.lane, items)

        for part, payload in pack(outcomes, wrap):
            await self._bus.publish(subject, payload, msg_id=_part_id(envelope.handoff_id, part))


def _part_id(handoff_id: str, members: Sequence[Delivery | Outcome]) -> str:
    """The same members of the same hand-off, dispatched again, are dropped by the stream; any other part is not.

    The region is no part of it: a recipient who moved meanwhile is not sent to from both.
    """
    ids = "".join(member.message_id for member in members)
    return f"{handoff_id}:{hashlib.blake2b(ids.encode(), digest_size=12).hexdigest()}"
