"""Key rotation: data keys are wrapped again under the active ring key, page by page, while everything goes on."""

from libs.errors import ValidationFailed
from libs.ids import is_id
from libs.pg import Pool
from libs.ring import wrapped_again
from libs.rpc import RewrapDataKeys, Rewrapped
from libs.seal import KeyRing
from services.subscription import queries_keys

MAX_PAGE = 10_000
_STRIPES = 8
"""A page is changed in so many transactions, every eighth row in each: neighbours on disk that change one after the
other fit into the room that is left there (HOT), and no index is touched. At once it takes five times as long."""
_FIRST = "00000000-0000-0000-0000-000000000000"


class Rewrapper:
    def __init__(self, pool: Pool, ring: KeyRing) -> None:
        self._pool = pool
        self._ring = ring

    async def rewrap(self, request: RewrapDataKeys) -> Rewrapped:
        """No transaction but the one that changes a page. Raises `ValidationFailed`."""
        if not 1 <= request.limit <= MAX_PAGE or not is_id(request.after or _FIRST):
            raise ValidationFailed(fields={"limit": f"1 to {MAX_PAGE}", "after": "an id"})
        async with self._pool.connection() as c:
            rows = await queries_keys.page(c, request.table, request.after or _FIRST, request.limit)
            total = await queries_keys.estimate(c, request.table)
        page = wrapped_again(self._ring, [(row.key_id, row.wrapped) for row in rows], request.change)
        changes = [(rows[each.place].id, each.old, each.new) for each in page.changes]
        rewrapped = 0
        for stripe in (changes[start::_STRIPES] for start in range(min(_STRIPES, len(changes)))):
            async with self._pool.connection() as c:
                rewrapped += await queries_keys.rewrap(c, request.table, stripe)
        more = rows[-1].id if len(rows) == request.limit else None
        return Rewrapped(page.wraps, rewrapped, page.unreadable, total, more)
