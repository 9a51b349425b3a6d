"""Changes to one subscription: what its app or its owner tells of it, switching it on and off, archiving it."""

from libs import rpc
from libs.errors import DuplicateSubscription, ResourceNotFound, ValidationFailed
from libs.ids import is_id
from libs.seal import KeyRing
from services.subscription.changes import Change, Changer
from services.subscription.edit import Edit, Token, Who, check_quiet_hours, has_nul, token_of
from services.subscription.rows import Book, Draft, Row, view_of


class Updates:
    def __init__(self, changer: Changer, ring: KeyRing) -> None:
        self._changer = changer
        self._ring = ring

    async def update(self, request: rpc.UpdateSubscription) -> rpc.SubscriptionView:
        if request.device_info is not None and has_nul(request.device_info):
            raise ValidationFailed(fields={"device_info": "must not contain U+0000"})
        check_quiet_hours(request.quiet_hours)
        return await self._one(request.application_id, _Update(request, self._ring))

    async def set_status(self, request: rpc.SetStatus) -> rpc.SubscriptionView:
        return await self._one(request.application_id, _StatusChange(request, self._ring))

    async def archive(self, request: rpc.ArchiveSubscription) -> rpc.Archived:
        _check(request.application_id, request.subscription_id)
        row = await self._changer.one(_Archiving(request, self._ring))
        return rpc.Archived(row.archived_at_ms or row.read_at_ms)

    async def _one(self, application_id: str, change: Change) -> rpc.SubscriptionView:
        _check(application_id, *change.subscription_ids)
        return view_of(await self._changer.one(change))


class _Update(Change):
    def __init__(self, request: rpc.UpdateSubscription, ring: KeyRing) -> None:
        self.application_id = request.application_id.lower()
        self.subscription_ids = [request.subscription_id.lower()]
        self._request = request
        self._ring = ring
        self._token: Token | None = None

    def claim(self, row: Row) -> Token | None:
        request = self._request
        if request.token is None:
            return None
        kind = request.token_kind or row.token_kind
        self._token = token_of(self._ring, row.application_id, row.type, request.token, kind)
        return self._token

    def apply(self, row: Row, book: Book) -> Draft:
        request = self._request
        edit = Edit(row, Who(request.actor, request.act), book.now_ms, self._ring)
        token = self._token or self.claim(row)
        if token is not None:
            owner = book.owner_of(row.application_id, token.hash)
            if owner not in (None, row.id):
                raise DuplicateSubscription(subscription_id=owner)
            edit.token(token)
        edit.device(request.device_info)
        edit.consent(ad=request.ad_consent, night=request.night_consent)
        edit.quiet_hours(request.quiet_hours)
        if request.subscription_status is not None:
            edit.status("report", code=request.subscription_status)
        edit.active()
        return edit.draft()


class _StatusChange(Change):
    def __init__(self, request: rpc.SetStatus, ring: KeyRing) -> None:
        self.application_id = request.application_id.lower()
        self.subscription_ids = [request.subscription_id.lower()]
        self._request = request
        self._ring = ring

    def apply(self, row: Row, book: Book) -> Draft:
        request = self._request
        edit = Edit(row, Who(request.actor, request.act), book.now_ms, self._ring)
        edit.status(request.event, reason=request.reason)
        return edit.draft()


class _Archiving(Change):
    def __init__(self, request: rpc.ArchiveSubscription, ring: KeyRing) -> None:
        self.application_id = request.application_id.lower()
        self.subscription_ids = [request.subscription_id.lower()]
        self._actor = request.actor
        self._ring = ring

    def apply(self, row: Row, book: Book) -> Draft:
        edit = Edit(row, Who(self._actor, "api"), book.now_ms, self._ring)
        edit.archive()
        return edit.draft()


def _check(application_id: str, *subscription_ids: str) -> None:
    """Raises `ResourceNotFound`: nothing has such an id."""
    for each in subscription_ids:
        if not (is_id(application_id) and is_id(each)):
            raise ResourceNotFound(id=each[:64])
