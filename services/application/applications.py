"""Applications: the tenants."""

from typing import Any

from libs.errors import ResourceNotFound, ValidationFailed
from libs.ids import is_id
from libs.pg import Pool
from libs.policy import Policy
from libs.rpc import (
    ApplicationCreated,
    Applications,
    ApplicationView,
    AuditEntry,
    CreateApplication,
    GetApplication,
    ListApplications,
    UpdateApplication,
)
from services.application import identity_key, policy, queries
from services.application.checks import check_json, check_name, expect_id
from services.application.queries import StoredApplication
from services.application.queries_limits import insert_audit

MAX_SETTINGS = 16 * 1024
"""Bytes of JSON."""
MAX_LISTED = 1000
_NO_ID = "00000000-0000-0000-0000-000000000000"
"""Smaller than any id."""


class Tenants:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(self, request: CreateApplication) -> ApplicationCreated:
        if not is_id(request.application_id):
            raise ValidationFailed(fields={"application_id": "must be a UUID"})
        check_name(request.name)
        application_id = request.application_id.lower()
        identity = _identity_key(None, request.identity_public_key), request.identity_required
        settings = _merged({}, policy.checked(request.settings))
        new = _checked(StoredApplication(application_id, request.name, request.tier, settings, *identity, 0))
        async with self._pool.transaction() as c:
            if await queries.insert_application(c, new):
                await insert_audit(c, [_entry(request, "application.create", {"tier": request.tier})])
        return ApplicationCreated(application_id)

    async def update(self, request: UpdateApplication) -> ApplicationView:
        application_id = expect_id(request.application_id)
        if request.name is not None:
            check_name(request.name)
        async with self._pool.transaction() as c:
            known = await queries.lock_application(c, application_id)
            if known is None:
                raise ResourceNotFound(id=application_id)
            changed = _changed(known, request)
            told = _difference(known, changed)
            if told["fields"]:
                await queries.update_application(c, changed)
                await insert_audit(c, [_entry(request, "application.update", told)])
        return changed.view()

    async def get(self, request: GetApplication) -> ApplicationView:
        application_id = expect_id(request.application_id)
        async with self._pool.connection() as c:
            found = await queries.get_application(c, application_id)
        if found is None:
            raise ResourceNotFound(id=application_id)
        return found.view()

    async def list(self, request: ListApplications) -> Applications:
        after = _NO_ID if request.after is None else expect_id(request.after)
        async with self._pool.connection() as c:
            found = await queries.applications(c, after, max(0, min(request.limit, MAX_LISTED)))
        return Applications([application.view() for application in found])


def _changed(known: StoredApplication, request: UpdateApplication) -> StoredApplication:
    """Only what is given is checked: a setting from before stands in no other change's way. Raises
    `ValidationFailed`."""
    changed = known._replace(
        name=known.name if request.name is None else request.name,
        tier=known.tier if request.tier is None else request.tier,
        settings=_merged(known.settings, policy.checked(request.settings or {})),
        identity_public_key=_identity_key(known.identity_public_key, request.identity_public_key),
        identity_required=known.identity_required if request.identity_required is None else request.identity_required,
    )
    return _checked(changed)


def _checked(application: StoredApplication) -> StoredApplication:
    """Raises `ValidationFailed`."""
    check_json("settings", application.settings, MAX_SETTINGS)
    if application.identity_required and application.identity_public_key is None:
        raise ValidationFailed(fields={"identity_required": "needs an identity_public_key"})
    return application


def _merged(known: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**known, **given}.items() if value is not None}


def _difference(known: StoredApplication, changed: StoredApplication) -> dict[str, Any]:
    """For the audit log: names, no values. Of the settings those that decide about sending."""
    told: dict[str, Any] = {
        "fields": [name for name in known._fields if getattr(known, name) != getattr(changed, name)]
    }
    settings = [name for name in Policy.__struct_fields__ if known.settings.get(name) != changed.settings.get(name)]
    return {**told, "settings": settings} if settings else told


def _identity_key(known: str | None, given: str | None) -> str | None:
    """Raises `ValidationFailed`."""
    if given is None:
        return known
    return identity_key.checked(given) if given else None


def _entry(request: CreateApplication | UpdateApplication, action: str, data: dict[str, Any]) -> AuditEntry:
    application_id = request.application_id.lower()
    return AuditEntry(application_id, request.actor, action, f"application/{application_id}", request.request_id, data)
