"""Key rotation: the data keys of credentials are wrapped again under the active ring key, page by page."""

from libs.errors import ValidationFailed
from libs.ids import is_id
from libs.pg import Pool
from libs.ring import wrapped_again
from libs.rpc import RewrapCredentials, Rewrapped
from libs.seal import KeyRing
from services.application import queries_keys

MAX_PAGE = 10_000
_FIRST = "00000000-0000-0000-0000-000000000000/"


class Rewrapper:
    def __init__(self, pool: Pool, ring: KeyRing) -> None:
        self._pool = pool
        self._ring = ring

    async def rewrap(self, request: RewrapCredentials) -> Rewrapped:
        """Raises `ValidationFailed`."""
        application_id, _, provider = (request.after or _FIRST).partition("/")
        if not 1 <= request.limit <= MAX_PAGE or not is_id(application_id):
            raise ValidationFailed(fields={"limit": f"1 to {MAX_PAGE}", "after": "an id and a provider"})
        async with self._pool.connection() as c:
            rows = await queries_keys.page(c, (application_id, provider), request.limit)
            total = await queries_keys.estimate(c)
        page = wrapped_again(self._ring, [(row.key_id, row.wrapped) for row in rows], request.change)
        rewrapped = 0
        if page.changes:
            async with self._pool.connection() as c:
                changes = [(*rows[each.place][:2], each.old, each.new) for each in page.changes]
                rewrapped = await queries_keys.rewrap(c, changes)
        more = "/".join(rows[-1][:2]) if len(rows) == request.limit else None
        return Rewrapped(page.wraps, rewrapped, page.unreadable, total, more)
