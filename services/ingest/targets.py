"""Whom a message goes to: one subscription, or those of a person that the item chooses."""

from collections.abc import Sequence
from typing import NamedTuple

from libs.api.messages import MessageItem
from libs.envelope import Lane
from libs.errors import ResourceNotFound, SignalError, SubscriptionDisabled
from libs.rpc import Recipient
from services.ingest.acceptance import CHANNELS, channel_to
from services.ingest.recipients import Reachable, Recipients


class Found(NamedTuple):
    """All that a batch asked for."""

    subscriptions: dict[str, Reachable]
    persons: dict[str, list[Reachable]]


async def find(recipients: Recipients, application_id: str, items: Sequence[MessageItem | SignalError]) -> Found:
    """One question for the subscriptions of a batch, one for its persons."""
    good = [item for item in items if isinstance(item, MessageItem)]
    ids = [item.subscription_id.lower() for item in good if item.subscription_id is not None]
    names = [item.external_id for item in good if item.external_id is not None]
    return Found(
        await recipients.many(application_id, ids) if ids else {},
        await recipients.of_persons(application_id, names) if names else {},
    )


async def target(recipients: Recipients, application_id: str, item: MessageItem, lane: Lane) -> list[Reachable]:
    """Of one message. Raises what `chosen` raises."""
    if item.external_id is not None:
        return _of_person(item, await recipients.of_person(application_id, item.external_id, lane))
    return _subscription(item, await recipients.one(application_id, (item.subscription_id or "").lower(), lane))


def chosen(item: MessageItem, found: Found) -> list[Reachable]:
    """At least one, in order of preference. Raises the refusal: unknown, disabled or unusable recipient."""
    if item.external_id is not None:
        return _of_person(item, found.persons.get(item.external_id))
    return _subscription(item, found.subscriptions.get((item.subscription_id or "").lower()))


def _subscription(item: MessageItem, found: Reachable | None) -> list[Reachable]:
    if found is None:
        raise ResourceNotFound(id=item.subscription_id)
    if item.template_id is not None:
        channel_to(item, found.recipient)  # before anything is rendered
    return [found]


def _of_person(item: MessageItem, found: list[Reachable] | None) -> list[Reachable]:
    if found is None:
        raise ResourceNotFound(resource="user")
    candidates = found if item.channels is None else _in_order(found, item.channels)
    usable = [each for each in candidates if _reaches(item, each.recipient)]
    if usable:
        return usable if item.strategy == "all" else usable[:1]
    if candidates:
        channel_to(item, candidates[0].recipient)  # says why not
    raise SubscriptionDisabled(reason="no_active_subscription")


def _in_order(found: list[Reachable], types: Sequence[str]) -> list[Reachable]:
    """By type; those of one type stay in order, the most recently active first."""
    rank = {kind: place for place, kind in reversed(list(enumerate(types)))}
    return sorted((each for each in found if each.recipient.type in rank), key=lambda each: rank[each.recipient.type])


def _reaches(item: MessageItem, recipient: Recipient) -> bool:
    return recipient.type in CHANNELS and recipient.status > 0 and (item.category != "ad" or recipient.ad_consent)
