"""Who a batch of messages goes to: asked twice for every message, so one query and little else."""

from collections.abc import Sequence
from typing import Any

from libs.errors import ValidationFailed
from libs.ids import is_id
from libs.pg import Pool
from libs.rpc import Recipient, Resolve, Resolved, ResolveUsers, UsersResolved
from libs.seal import KEY_ID_BYTES
from services.subscription import queries_reading

MAX_IDS = 5_000
"""Subscriptions, and keys, in one question."""
MAX_USERS = 1_000

_FIELDS = len(Recipient.__struct_fields__)
"""Leading columns of RECIPIENT that are the fields of `Recipient`."""
_KEY_ID = Recipient.__struct_fields__.index("key_id")


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
        async with self._pool.connection() as c:
            rows = await queries_reading.resolve(c, request.application_id, ids)
            recipients = [_recipient(row, keys) for row in rows]
            others = {key for key in request.key_ids if key not in keys and len(key) == KEY_ID_BYTES}
            if others:
                keys.update(await queries_reading.find_keys(c, request.application_id, list(others)))
        return Resolved(recipients, keys)

    async def resolve_users(self, request: ResolveUsers) -> UsersResolved:
        """Raises `ValidationFailed` for a question that is too large."""
        if len(request.names) > MAX_USERS:
            raise ValidationFailed(fields={"names": f"at most {MAX_USERS} at a time"})
        names = [name for name in dict.fromkeys(request.names) if "\0" not in name]
        if not names or not is_id(request.application_id):
            return UsersResolved({}, {})
        asked = [(name, name if is_id(name) else None) for name in names]
        async with self._pool.connection() as c:
            rows = await queries_reading.resolve_users(c, request.application_id, asked)
        keys: dict[bytes, bytes] = {}
        found: dict[str, list[Recipient]] = {}
        for row in rows:
            theirs = found.setdefault(row[0], [])
            if row[1] is not None:
                theirs.append(_recipient(row[1:], keys))
        return UsersResolved({name: _chosen(of, request.types) for name, of in found.items()}, keys)


def _recipient(row: Sequence[Any], keys: dict[bytes, bytes]) -> Recipient:
    """Notes its keys on the way: the person's for the message, its own for the token."""
    person, own_id, own = row[_FIELDS:]
    if person is not None:
        keys[row[_KEY_ID]] = person
    if own is not None:
        keys[own_id] = own
    return Recipient(*row[:_FIELDS])


def _chosen(of: list[Recipient], types: list[str]) -> list[Recipient]:
    """In the order of `types`, else as they come; the active ones, unless there is none."""
    if types:
        of = sorted((each for each in of if each.type in types), key=lambda each: types.index(each.type))
    return [each for each in of if each.status > 0] or of
