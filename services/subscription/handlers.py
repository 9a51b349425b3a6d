"""What other services may ask of subscription (`signal.rpc.subscription.*`)."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from libs.errors import ResourceNotFound
from libs.ids import is_id
from libs.pg import Pool
from libs.rpc import CreateSubscription, GetSubscription, Resolve, SubscriptionView
from services.subscription import queries
from services.subscription.recipients import Recipients
from services.subscription.registration import Registrar


class Handlers:
    def __init__(self, pool: Pool, registrar: Registrar, recipients: Recipients) -> None:
        self._pool = pool
        self._registrar = registrar
        self._recipients = recipients

    def verbs(self) -> dict[str, tuple[type[msgspec.Struct], Callable[[Any], Awaitable[msgspec.Struct]]]]:
        return {
            "create": (CreateSubscription, self._registrar.create),
            "get": (GetSubscription, self.get),
            "resolve": (Resolve, self._recipients.resolve),
        }

    async def get(self, request: GetSubscription) -> SubscriptionView:
        fields = None
        if is_id(request.application_id) and is_id(request.subscription_id):
            async with self._pool.connection() as c:
                fields = await queries.get_subscription(c, request.application_id, request.subscription_id)
        if fields is None:
            raise ResourceNotFound(id=request.subscription_id[:64])
        return msgspec.convert(fields, SubscriptionView)
