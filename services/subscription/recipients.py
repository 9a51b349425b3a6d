"""Who a batch of messages goes to: asked twice for every message, so one query and little else."""

from libs.errors import ValidationFailed
from libs.ids import is_id
from libs.pg import Pool
from libs.rpc import Recipient, Resolve, Resolved
from libs.seal import KEY_ID_BYTES
from services.subscription import queries

MAX_IDS = 5_000
"""Subscriptions, and keys, in one question."""

_FIELDS = 11
"""Leading columns of RESOLVE that are the fields of `Recipient`."""


class Recipients:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def resolve(self, request: Resolve) -> Resolved:
        """Raises `ValidationFailed` for a question that is too large."""
        if len(request.subscription_ids) > MAX_IDS or len(request.key_ids) > MAX_IDS:
            raise ValidationFailed(fields={"subscription_ids": f"at most {MAX_IDS} at a time"})
        if not is_id(request.application_id):
            return Resolved([], {})
        ids = [text for text in request.subscription_ids if is_id(text)]
        keys: dict[bytes, bytes] = {}
        recipients = []
        async with self._pool.connection() as c:
            for row in await queries.resolve(c, request.application_id, ids):
                recipient = Recipient(*row[:_FIELDS])
                recipients.append(recipient)
                if row[11] is not None:
                    keys[recipient.key_id] = row[11]
                if row[13] is not None:
                    keys[row[12]] = row[13]
            others = {key for key in request.key_ids if key not in keys and len(key) == KEY_ID_BYTES}
            if others:
                keys.update(await queries.find_keys(c, request.application_id, list(others)))
        return Resolved(recipients, keys)
