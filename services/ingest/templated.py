"""Content from templates: rendered at acceptance, once for each type of subscription and language that is reached."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from libs.api.messages import MessageItem
from libs.bus import Bus
from libs.coalesce import Coalescer
from libs.envelope import LANES, Lane
from libs.errors import SignalError
from libs.rpc import Recipient, Rendered, RenderedMany, RenderMany, RenderWanted
from services.ingest.recipients import Reachable
from services.ingest.templating import refusal

RENDER_SECONDS = 10.0
Variant = tuple[str, str | None]
"""Type of subscription, and locale."""
Renderings = Mapping[Variant, Rendered | SignalError]


class _Question(NamedTuple):
    application_id: str
    wanted: RenderWanted


def variant_for(item: MessageItem, recipient: Recipient) -> Variant:
    return recipient.type, item.locale or recipient.language


def rendered_for(item: MessageItem, recipient: Recipient, renderings: Renderings) -> Rendered:
    """Raises why it could not be rendered."""
    found = renderings[variant_for(item, recipient)]
    if isinstance(found, SignalError):
        raise found
    return found


class Renderer:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._lanes = {
            lane: Coalescer[_Question, Rendered](self._render, max_items=200, concurrency=4) for lane in LANES
        }

    async def one(
        self, application_id: str, item: MessageItem, reachable: Sequence[Reachable], lane: Lane
    ) -> Renderings | None:
        """For one message and all whom it goes to. Raises why it could not be rendered."""
        if item.template_id is None:
            return None
        wanted = _wanted(item, reachable)
        questions = (_Question(application_id, each) for each in wanted.values())
        found = await asyncio.gather(*(self._lanes[lane].submit(question) for question in questions))
        return dict(zip(wanted, found, strict=True))

    async def many(
        self, application_id: str, items: Sequence[tuple[MessageItem, Sequence[Reachable]]]
    ) -> list[Renderings | None]:
        """For the messages of a batch, in one call; each in its place, rendered or refused on its own."""
        wanted = [{} if item.template_id is None else _wanted(item, reachable) for item, reachable in items]
        asked = [each for of_item in wanted for each in of_item.values()]
        if not asked:
            return [None] * len(items)
        found = iter(await self._ask(application_id, asked))
        return [{variant: next(found) for variant in of_item} if of_item else None for of_item in wanted]

    async def _ask(self, application_id: str, wanted: list[RenderWanted]) -> list[Rendered | SignalError]:
        request = RenderMany(application_id, wanted)
        answer = await self._bus.call("templating", "render", request, RenderedMany, timeout=RENDER_SECONDS)
        return [refusal(each) or each for each in answer.results]

    async def _render(self, questions: list[_Question]) -> list[Rendered | Exception]:
        wanted: dict[str, list[RenderWanted]] = defaultdict(list)
        for question in questions:
            wanted[question.application_id].append(question.wanted)
        answers = await asyncio.gather(*(self._settle(owner, of_owner) for owner, of_owner in wanted.items()))
        by_owner = {owner: iter(found) for owner, found in zip(wanted, answers, strict=True)}
        return [next(by_owner[question.application_id]) for question in questions]

    async def _settle(self, application_id: str, wanted: list[RenderWanted]) -> Sequence[Rendered | SignalError]:
        """An error is an answer too: one application's must not become another's."""
        try:
            return await self._ask(application_id, wanted)
        except SignalError as error:
            return [error] * len(wanted)


def _wanted(item: MessageItem, reachable: Sequence[Reachable]) -> dict[Variant, RenderWanted]:
    variants = dict.fromkeys(variant_for(item, each.recipient) for each in reachable)
    return {
        (kind, locale): RenderWanted(item.template_id or "", item.variables or {}, locale, kind)
        for kind, locale in variants
    }
