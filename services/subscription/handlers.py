"""What other services may ask of subscription (`signal.rpc.subscription.*`)."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from libs.rpc import (
    ArchiveSubscription,
    BeginImport,
    ChangeTags,
    CreateSubscription,
    EndImport,
    EraseUser,
    ExportHistory,
    ExportSubscriptions,
    ExportUser,
    GetErasure,
    GetImport,
    GetSubscription,
    GetUser,
    IdentifyUser,
    ImportPart,
    ListImportErrors,
    ListSubscriptionEvents,
    ListSubscriptions,
    LogOut,
    ReapplyErasures,
    Resolve,
    ResolveUsers,
    RewrapDataKeys,
    SetStatus,
    UpdateSubscription,
    UserSubscriptions,
    VerifySecret,
)
from services.subscription.erasure import Erasures
from services.subscription.export import Exports
from services.subscription.imports import Imports
from services.subscription.lists import Lists
from services.subscription.reading import Reader
from services.subscription.recipients import Recipients
from services.subscription.registration import Registrar
from services.subscription.rewrap import Rewrapper
from services.subscription.secret import Secrets
from services.subscription.tags import Tags
from services.subscription.update import Updates
from services.subscription.users import Users


class Handlers:
    def __init__(
        self,
        registrar: Registrar,
        updates: Updates,
        tags: Tags,
        reader: Reader,
        lists: Lists,
        secrets: Secrets,
        recipients: Recipients,
        rewrapper: Rewrapper,
        imports: Imports,
        users: Users,
        erasures: Erasures,
        exports: Exports,
    ) -> None:
        self._registrar = registrar
        self._updates = updates
        self._tags = tags
        self._reader = reader
        self._lists = lists
        self._secrets = secrets
        self._recipients = recipients
        self._rewrapper = rewrapper
        self._imports = imports
        self._users = users
        self._erasures = erasures
        self._exports = exports

    def verbs(self) -> dict[str, tuple[type[msgspec.Struct], Callable[[Any], Awaitable[msgspec.Struct]]]]:
        return {
            "create": (CreateSubscription, self._registrar.create),
            "verify_secret": (VerifySecret, self._secrets.verify),
            "update": (UpdateSubscription, self._updates.update),
            "set_status": (SetStatus, self._updates.set_status),
            "archive": (ArchiveSubscription, self._updates.archive),
            "change_tags": (ChangeTags, self._tags.change),
            "list": (ListSubscriptions, self._lists.list),
            "events": (ListSubscriptionEvents, self._reader.events),
            "get": (GetSubscription, self._reader.get),
            "resolve": (Resolve, self._recipients.resolve),
            "resolve_users": (ResolveUsers, self._recipients.resolve_users),
            "identify": (IdentifyUser, self._users.identify),
            "logout": (LogOut, self._users.logout),
            "get_user": (GetUser, self._users.get),
            "of_user": (UserSubscriptions, self._users.of_user),
            "erase_user": (EraseUser, self._erasures.erase_user),
            "erasure": (GetErasure, self._erasures.erasure),
            "reapply_erasures": (ReapplyErasures, self._erasures.reapply_erasures),
            "export_user": (ExportUser, self._exports.export_user),
            "export_history": (ExportHistory, self._exports.export_history),
            "begin_import": (BeginImport, self._imports.begin),
            "import_part": (ImportPart, self._imports.part),
            "end_import": (EndImport, self._imports.end),
            "get_import": (GetImport, self._imports.get),
            "import_errors": (ListImportErrors, self._imports.errors),
            "export": (ExportSubscriptions, self._imports.export),
            "rewrap": (RewrapDataKeys, self._rewrapper.rewrap),
        }
