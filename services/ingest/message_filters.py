"""Which messages a list, or a repetition of many, is about: the question to lifecycle, with the names resolved."""

import msgspec

from libs import rpc
from libs.api.message_control import ResendManyBody
from libs.api.messages import MessagesQuery
from libs.errors import ResourceNotFound, TemplateNotFound, ValidationFailed
from libs.ids import is_id
from services.ingest.decode import unix_ms
from services.ingest.errors import Reason
from services.ingest.exchange import Gateway


async def filtered(
    gateway: Gateway, application_id: str, asked: MessagesQuery | ResendManyBody, *, limit: int, offset: int = 0
) -> rpc.ListMessages | None:
    """None: the user or the template that is named does not exist, so nothing fits. Raises `ValidationFailed`,
    `ServiceUnavailable`."""
    question = rpc.ListMessages(
        application_id=application_id,
        limit=limit,
        before=None if asked.cursor is None else _before(asked.cursor),
        offset=offset,
        status=asked.status,
        channel=asked.channel,
        lane=asked.priority,
        category=asked.category,
        subscription_id=asked.subscription_id,
        from_ms=unix_ms("from", asked.from_),
        to_ms=unix_ms("to", asked.to),
    )
    user_id = None if asked.user_id is None else await _user(gateway, application_id, asked.user_id)
    template_id = None if asked.template_id is None else await _template(gateway, application_id, asked.template_id)
    if (asked.user_id is not None and user_id is None) or (asked.template_id is not None and template_id is None):
        return None
    return msgspec.structs.replace(question, user_id=user_id, template_id=template_id)


def _before(cursor: str) -> str:
    """Raises `ValidationFailed`."""
    if not is_id(cursor):
        raise ValidationFailed(fields={"cursor": Reason("cursor")})
    return cursor.lower()


async def _user(gateway: Gateway, application_id: str, name: str) -> str | None:
    """Our id of a user. One that is gone may still be asked for by our id: the messages are there."""
    question = rpc.UserSubscriptions(application_id, name)
    try:
        return (await gateway.bus.call("subscription", "of_user", question, rpc.SubscriptionsOfUser)).user_id
    except ResourceNotFound:
        return name if is_id(name) else None


async def _template(gateway: Gateway, application_id: str, name: str) -> str | None:
    try:
        return (await gateway.bus.call("templating", "get", rpc.GetTemplate(application_id, name), rpc.TemplateView)).id
    except TemplateNotFound:
        return None
