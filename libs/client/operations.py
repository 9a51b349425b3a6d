"""Every operation of the REST API, by resource. Written by `make generate` from the routes: change those."""

from collections.abc import Awaitable
from typing import Protocol, TypeVar

from libs.api.application import ApnsCredential, Application, ApplicationUpdate, AuditQuery, AuditRecords, CredentialDeleted, EmergencyStop, EmergencyStopBody, EmergencyStopReleased, EmergencyStops, FcmCredential, ProviderCredential, ProviderCredentials
from libs.api.breakers import Breakers
from libs.api.fields import CursorPaging, Paging
from libs.api.imports import Import, RefusedLines, RefusedLinesQuery
from libs.api.message_control import MessageCancelled, MessageRescheduled, MessageResent, MessagesResent, RescheduleBody, ResendManyBody
from libs.api.messages import BatchBody, BatchSent, ConversionReported, ConvertBody, Message, MessageBody, MessageList, MessageSent, MessagesQuery, StatusBody, StatusReported, TemplateMessageBody, Timeline
from libs.api.rates import SendingRates
from libs.api.subscriptions import DisableBody, Disabled, EnableBody, Enabled, ManyTagKeysBody, ManyTagged, ManyTagsBody, Subscription, SubscriptionArchived, SubscriptionBody, SubscriptionCreated, SubscriptionHistory, SubscriptionQuery, SubscriptionUpdate, Subscriptions, TagKeysBody, Tagged, TagsBody, TokenBody, TokenUpdated
from libs.api.templates import RenderTestBody, RenderTested, Template, TemplateBody, TemplateChange, TemplateCreated, TemplateQuery, TemplateSwitched, TemplateUpdated, TemplateVersions, Templates, TemplatesQuery
from libs.api.users import Deletion, IdentifyBody, LoggedOut, LogoutBody, User, UserData, UserDeleted, UserSubscriptions
from libs.client.wire import Request, request

T = TypeVar("T")


class Send(Protocol):
    def __call__(self, request: Request, kind: type[T]) -> T: ...


class AsyncSend(Protocol):
    def __call__(self, request: Request, kind: type[T]) -> Awaitable[T]: ...


class ApplicationApi:
    def __init__(self, send: Send) -> None:
        self._send = send

    def get(self) -> Application:
        """The application of the key: its name, tier and settings."""
        return self._send(request("GET", "/application"), Application)

    def update(self, body: ApplicationUpdate) -> Application:
        """Rename the application, change its settings: what is not named stays, null takes a setting away."""
        return self._send(request("PATCH", "/application", body=body), Application)


class AuditLogApi:
    def __init__(self, send: Send) -> None:
        self._send = send

    def list(self, query: AuditQuery | None = None) -> AuditRecords:
        """List who changed what, newest first."""
        return self._send(request("GET", "/audit-log", query=query), AuditRecords)


class BreakersApi:
    def __init__(self, send: Send) -> None:
        self._send = send

    def list(self) -> Breakers:
        """List the providers that messages wait for: after refused credentials, or while they are out."""
        return self._send(request("GET", "/application/breakers"), Breakers)


class CredentialsApi:
    def __init__(self, send: Send) -> None:
        self._send = send

    def set_apns(self, body: ApnsCredential) -> ProviderCredential:
        """Set the key that messages are sent to APNs with; senders use it within half a minute."""
        return self._send(request("PUT", "/credentials/apns", body=body), ProviderCredential)

    def set_fcm(self, body: FcmCredential) -> ProviderCredential:
        """Set the service account that messages are sent to FCM with; senders use it within half a minute."""
        return self._send(request("PUT", "/credentials/fcm", body=body), ProviderCredential)

    def list(self) -> ProviderCredentials:
        """List which provider credentials are set."""
        return self._send(request("GET", "/credentials"), ProviderCredentials)

    def delete_apns(self) -> CredentialDeleted:
        """Delete the APNs key: messages to APNs wait until another one is set."""
        return self._send(request("DELETE", "/credentials/apns"), CredentialDeleted)

    def delete_fcm(self) -> CredentialDeleted:
        """Delete the FCM service account: messages to FCM wait until another one is set."""
        return self._send(request("DELETE", "/credentials/fcm"), CredentialDeleted)


class DeletionsApi:
    def __init__(self, send: Send) -> None:
        self._send = send

    def get(self, deletion_id: str) -> Deletion:
        """Whether a deletion is completed."""
        return self._send(request("GET", "/deletions/{id}", parameters={"id": deletion_id}), Deletion)


class EmergencyStopsApi:
    def __init__(self, send: Send) -> None:
        self._send = send

    def set_stop(self, body: EmergencyStopBody, *, idempotency_key: str | None = None) -> EmergencyStop:
        """Stop a channel, or all of them: what is not with the provider yet waits."""
        return self._send(request("POST", "/emergency-stops", body=body, idempotency_key=idempotency_key), EmergencyStop)

    def list(self) -> EmergencyStops:
        """List what is stopped now."""
        return self._send(request("GET", "/emergency-stops"), EmergencyStops)

    def release(self, channel: str) -> EmergencyStopReleased:
        """Release a channel, or with `all` the stop of the whole application; what waited is sent."""
        return self._send(request("DELETE", "/emergency-stops/{channel}", parameters={"channel": channel}), EmergencyStopReleased)


class ImportsApi:
    def __init__(self, send: Send) -> None:
        self._send = send

    def get(self, import_id: str) -> Import:
        """How far an import is."""
        return self._send(request("GET", "/subscriptions/imports/{id}", parameters={"id": import_id}), Import)

    def errors(self, import_id: str, query: RefusedLinesQuery | None = None) -> RefusedLines:
        """The lines of an import that were refused."""
        return self._send(request("GET", "/subscriptions/imports/{id}/errors", parameters={"id": import_id}, query=query), RefusedLines)


class MessagesApi:
    def __init__(self, send: Send) -> None:
        self._send = send

    def send(self, body: MessageBody, *, idempotency_key: str | None = None) -> MessageSent:
        """Send a message."""
        return self._send(request("POST", "/messages", body=body, idempotency_key=idempotency_key), MessageSent)

    def send_template(self, body: TemplateMessageBody, *, idempotency_key: str | None = None) -> MessageSent:
        """Send a message made from a template."""
        return self._send(request("POST", "/messages/template", body=body, idempotency_key=idempotency_key), MessageSent)

    def send_batch(self, body: BatchBody, *, idempotency_key: str | None = None) -> BatchSent:
        """Send up to 1,000 messages, each accepted or refused on its own."""
        return self._send(request("POST", "/messages/batch", body=body, idempotency_key=idempotency_key), BatchSent)

    def list(self, query: MessagesQuery | None = None) -> MessageList:
        """List messages, newest first."""
        return self._send(request("GET", "/messages", query=query), MessageList)

    def get(self, message_id: str) -> Message:
        """Look a message up."""
        return self._send(request("GET", "/messages/{id}", parameters={"id": message_id}), Message)

    def events(self, message_id: str) -> Timeline:
        """Why a message went as it did."""
        return self._send(request("GET", "/messages/{id}/events", parameters={"id": message_id}), Timeline)

    def cancel(self, message_id: str, *, idempotency_key: str | None = None) -> MessageCancelled:
        """Cancel a message that waits."""
        return self._send(request("POST", "/messages/{id}/cancel", parameters={"id": message_id}, idempotency_key=idempotency_key), MessageCancelled)

    def reschedule(self, message_id: str, body: RescheduleBody, *, idempotency_key: str | None = None) -> MessageRescheduled:
        """Give a message that waits for its time another time."""
        return self._send(request("POST", "/messages/{id}/reschedule", parameters={"id": message_id}, body=body, idempotency_key=idempotency_key), MessageRescheduled)

    def resend(self, message_id: str, *, idempotency_key: str | None = None) -> MessageResent:
        """Send a message again that failed or was cancelled."""
        return self._send(request("POST", "/messages/{id}/resend", parameters={"id": message_id}, idempotency_key=idempotency_key), MessageResent)

    def resend_many(self, body: ResendManyBody, *, idempotency_key: str | None = None) -> MessagesResent:
        """Send again up to 1,000 messages that failed or were cancelled."""
        return self._send(request("POST", "/messages/resend", body=body, idempotency_key=idempotency_key), MessagesResent)

    def status(self, message_id: str, body: StatusBody, *, idempotency_key: str | None = None) -> StatusReported:
        """Report that a message was received or acted on."""
        return self._send(request("POST", "/messages/{id}/status", parameters={"id": message_id}, body=body, idempotency_key=idempotency_key), StatusReported)

    def convert(self, message_id: str, body: ConvertBody, *, idempotency_key: str | None = None) -> ConversionReported:
        """Report that somebody acted on a message."""
        return self._send(request("POST", "/messages/{id}/convert", parameters={"id": message_id}, body=body, idempotency_key=idempotency_key), ConversionReported)


class RatesApi:
    def __init__(self, send: Send) -> None:
        self._send = send

    def list(self) -> SendingRates:
        """List messages a second, by provider: as set, as the provider allows now, and as achieved."""
        return self._send(request("GET", "/application/rates"), SendingRates)


class SubscriptionsApi:
    def __init__(self, send: Send) -> None:
        self._send = send

    def create(self, body: SubscriptionBody, *, idempotency_key: str | None = None) -> SubscriptionCreated:
        """Register a device or an address."""
        return self._send(request("POST", "/subscriptions", body=body, idempotency_key=idempotency_key), SubscriptionCreated)

    def upsert(self, body: SubscriptionBody) -> SubscriptionCreated:
        """Register a device or an address, or bring what is there up to date."""
        return self._send(request("PUT", "/subscriptions", body=body), SubscriptionCreated)

    def list(self, query: SubscriptionQuery | None = None) -> Subscriptions:
        """List subscriptions, newest first."""
        return self._send(request("GET", "/subscriptions", query=query), Subscriptions)

    def get(self, subscription_id: str) -> Subscription:
        """Look a subscription up."""
        return self._send(request("GET", "/subscriptions/{id}", parameters={"id": subscription_id}), Subscription)

    def update(self, subscription_id: str, body: SubscriptionUpdate) -> Subscription:
        """Update a subscription: what is not given stays as it is."""
        return self._send(request("PATCH", "/subscriptions/{id}", parameters={"id": subscription_id}, body=body), Subscription)

    def update_put(self, subscription_id: str, body: SubscriptionUpdate) -> Subscription:
        """Update a subscription: what is not given stays as it is."""
        return self._send(request("PUT", "/subscriptions/{id}", parameters={"id": subscription_id}, body=body), Subscription)

    def archive(self, subscription_id: str) -> SubscriptionArchived:
        """Archive a subscription: its token may be registered anew."""
        return self._send(request("DELETE", "/subscriptions/{id}", parameters={"id": subscription_id}), SubscriptionArchived)

    def update_token(self, subscription_id: str, body: TokenBody, *, idempotency_key: str | None = None) -> TokenUpdated:
        """Replace the token."""
        return self._send(request("POST", "/subscriptions/{id}/update-token", parameters={"id": subscription_id}, body=body, idempotency_key=idempotency_key), TokenUpdated)

    def events(self, subscription_id: str, query: CursorPaging | None = None) -> SubscriptionHistory:
        """A subscription's history: who changed what, when and why."""
        return self._send(request("GET", "/subscriptions/{id}/events", parameters={"id": subscription_id}, query=query), SubscriptionHistory)

    def disable(self, subscription_id: str, body: DisableBody | None = None, *, idempotency_key: str | None = None) -> Disabled:
        """Unsubscribe: the person's own choice, or by the application."""
        return self._send(request("POST", "/subscriptions/{id}/disable", parameters={"id": subscription_id}, body=body, idempotency_key=idempotency_key), Disabled)

    def enable(self, subscription_id: str, body: EnableBody | None = None, *, idempotency_key: str | None = None) -> Enabled:
        """Subscribe again: recorded as consent."""
        return self._send(request("POST", "/subscriptions/{id}/enable", parameters={"id": subscription_id}, body=body, idempotency_key=idempotency_key), Enabled)

    def confirm(self, subscription_id: str, body: EnableBody | None = None, *, idempotency_key: str | None = None) -> Enabled:
        """Confirm an address that waits for it (double opt-in)."""
        return self._send(request("POST", "/subscriptions/{id}/confirm", parameters={"id": subscription_id}, body=body, idempotency_key=idempotency_key), Enabled)


class TagsApi:
    def __init__(self, send: Send) -> None:
        self._send = send

    def add_to_many(self, body: ManyTagsBody, *, idempotency_key: str | None = None) -> ManyTagged:
        """Add or replace tags of many subscriptions."""
        return self._send(request("POST", "/subscriptions/tags", body=body, idempotency_key=idempotency_key), ManyTagged)

    def remove_from_many(self, body: ManyTagKeysBody) -> ManyTagged:
        """Remove tags from many subscriptions."""
        return self._send(request("DELETE", "/subscriptions/tags", body=body), ManyTagged)

    def add(self, subscription_id: str, body: TagsBody, *, idempotency_key: str | None = None) -> Tagged:
        """Add or replace tags."""
        return self._send(request("POST", "/subscriptions/{id}/tags", parameters={"id": subscription_id}, body=body, idempotency_key=idempotency_key), Tagged)

    def remove(self, subscription_id: str, body: TagKeysBody) -> Tagged:
        """Remove tags."""
        return self._send(request("DELETE", "/subscriptions/{id}/tags", parameters={"id": subscription_id}, body=body), Tagged)


class TemplatesApi:
    def __init__(self, send: Send) -> None:
        self._send = send

    def create(self, body: TemplateBody, *, idempotency_key: str | None = None) -> TemplateCreated:
        """Create a template."""
        return self._send(request("POST", "/templates", body=body, idempotency_key=idempotency_key), TemplateCreated)

    def list(self, query: TemplatesQuery | None = None) -> Templates:
        """List templates."""
        return self._send(request("GET", "/templates", query=query), Templates)

    def get(self, template_id: str, query: TemplateQuery | None = None) -> Template:
        """Look a template up by id or name."""
        return self._send(request("GET", "/templates/{id}", parameters={"id": template_id}, query=query), Template)

    def update(self, template_id: str, body: TemplateChange) -> TemplateUpdated:
        """Make a new version: what is not given stays."""
        return self._send(request("PUT", "/templates/{id}", parameters={"id": template_id}, body=body), TemplateUpdated)

    def versions(self, template_id: str, query: Paging | None = None) -> TemplateVersions:
        """List a template's versions."""
        return self._send(request("GET", "/templates/{id}/versions", parameters={"id": template_id}, query=query), TemplateVersions)

    def enable(self, template_id: str, *, idempotency_key: str | None = None) -> TemplateSwitched:
        """Let messages use a template again."""
        return self._send(request("POST", "/templates/{id}/enable", parameters={"id": template_id}, idempotency_key=idempotency_key), TemplateSwitched)

    def disable(self, template_id: str, *, idempotency_key: str | None = None) -> TemplateSwitched:
        """Let no message use a template."""
        return self._send(request("POST", "/templates/{id}/disable", parameters={"id": template_id}, idempotency_key=idempotency_key), TemplateSwitched)

    def render_test(self, template_id: str, body: RenderTestBody, *, idempotency_key: str | None = None) -> RenderTested:
        """Render a template without sending anything."""
        return self._send(request("POST", "/templates/{id}/render-test", parameters={"id": template_id}, body=body, idempotency_key=idempotency_key), RenderTested)


class UsersApi:
    def __init__(self, send: Send) -> None:
        self._send = send

    def identify(self, body: IdentifyBody, *, idempotency_key: str | None = None) -> User:
        """Say whose subscriptions these are."""
        return self._send(request("POST", "/users/identify", body=body, idempotency_key=idempotency_key), User)

    def logout(self, body: LogoutBody, *, idempotency_key: str | None = None) -> LoggedOut:
        """Say that nobody is known at these subscriptions any more."""
        return self._send(request("POST", "/users/logout", body=body, idempotency_key=idempotency_key), LoggedOut)

    def get(self, external_id: str) -> User:
        """Look a user up."""
        return self._send(request("GET", "/users/{external_id}", parameters={"external_id": external_id}), User)

    def subscriptions(self, external_id: str) -> UserSubscriptions:
        """A user's subscriptions."""
        return self._send(request("GET", "/users/{external_id}/subscriptions", parameters={"external_id": external_id}), UserSubscriptions)

    def export(self, external_id: str) -> UserData:
        """Everything held about a user."""
        return self._send(request("GET", "/users/{external_id}/export", parameters={"external_id": external_id}), UserData)

    def delete(self, external_id: str) -> UserDeleted:
        """Forget a user: from now on nothing of the person can be read."""
        return self._send(request("DELETE", "/users/{external_id}", parameters={"external_id": external_id}), UserDeleted)


class Operations:
    """All resources."""

    def __init__(self, send: Send) -> None:
        self.application = ApplicationApi(send)
        self.audit_log = AuditLogApi(send)
        self.breakers = BreakersApi(send)
        self.credentials = CredentialsApi(send)
        self.deletions = DeletionsApi(send)
        self.emergency_stops = EmergencyStopsApi(send)
        self.imports = ImportsApi(send)
        self.messages = MessagesApi(send)
        self.rates = RatesApi(send)
        self.subscriptions = SubscriptionsApi(send)
        self.tags = TagsApi(send)
        self.templates = TemplatesApi(send)
        self.users = UsersApi(send)


class AsyncApplicationApi:
    def __init__(self, send: AsyncSend) -> None:
        self._send = send

    async def get(self) -> Application:
        """The application of the key: its name, tier and settings."""
        return await self._send(request("GET", "/application"), Application)

    async def update(self, body: ApplicationUpdate) -> Application:
        """Rename the application, change its settings: what is not named stays, null takes a setting away."""
        return await self._send(request("PATCH", "/application", body=body), Application)


class AsyncAuditLogApi:
    def __init__(self, send: AsyncSend) -> None:
        self._send = send

    async def list(self, query: AuditQuery | None = None) -> AuditRecords:
        """List who changed what, newest first."""
        return await self._send(request("GET", "/audit-log", query=query), AuditRecords)


class AsyncBreakersApi:
    def __init__(self, send: AsyncSend) -> None:
        self._send = send

    async def list(self) -> Breakers:
        """List the providers that messages wait for: after refused credentials, or while they are out."""
        return await self._send(request("GET", "/application/breakers"), Breakers)


class AsyncCredentialsApi:
    def __init__(self, send: AsyncSend) -> None:
        self._send = send

    async def set_apns(self, body: ApnsCredential) -> ProviderCredential:
        """Set the key that messages are sent to APNs with; senders use it within half a minute."""
        return await self._send(request("PUT", "/credentials/apns", body=body), ProviderCredential)

    async def set_fcm(self, body: FcmCredential) -> ProviderCredential:
        """Set the service account that messages are sent to FCM with; senders use it within half a minute."""
        return await self._send(request("PUT", "/credentials/fcm", body=body), ProviderCredential)

    async def list(self) -> ProviderCredentials:
        """List which provider credentials are set."""
        return await self._send(request("GET", "/credentials"), ProviderCredentials)

    async def delete_apns(self) -> CredentialDeleted:
        """Delete the APNs key: messages to APNs wait until another one is set."""
        return await self._send(request("DELETE", "/credentials/apns"), CredentialDeleted)

    async def delete_fcm(self) -> CredentialDeleted:
        """Delete the FCM service account: messages to FCM wait until another one is set."""
        return await self._send(request("DELETE", "/credentials/fcm"), CredentialDeleted)


class AsyncDeletionsApi:
    def __init__(self, send: AsyncSend) -> None:
        self._send = send

    async def get(self, deletion_id: str) -> Deletion:
        """Whether a deletion is completed."""
        return await self._send(request("GET", "/deletions/{id}", parameters={"id": deletion_id}), Deletion)


class AsyncEmergencyStopsApi:
    def __init__(self, send: AsyncSend) -> None:
        self._send = send

    async def set_stop(self, body: EmergencyStopBody, *, idempotency_key: str | None = None) -> EmergencyStop:
        """Stop a channel, or all of them: what is not with the provider yet waits."""
        return await self._send(request("POST", "/emergency-stops", body=body, idempotency_key=idempotency_key), EmergencyStop)

    async def list(self) -> EmergencyStops:
        """List what is stopped now."""
        return await self._send(request("GET", "/emergency-stops"), EmergencyStops)

    async def release(self, channel: str) -> EmergencyStopReleased:
        """Release a channel, or with `all` the stop of the whole application; what waited is sent."""
        return await self._send(request("DELETE", "/emergency-stops/{channel}", parameters={"channel": channel}), EmergencyStopReleased)


class AsyncImportsApi:
    def __init__(self, send: AsyncSend) -> None:
        self._send = send

    async def get(self, import_id: str) -> Import:
        """How far an import is."""
        return await self._send(request("GET", "/subscriptions/imports/{id}", parameters={"id": import_id}), Import)

    async def errors(self, import_id: str, query: RefusedLinesQuery | None = None) -> RefusedLines:
        """The lines of an import that were refused."""
        return await self._send(request("GET", "/subscriptions/imports/{id}/errors", parameters={"id": import_id}, query=query), RefusedLines)


class AsyncMessagesApi:
    def __init__(self, send: AsyncSend) -> None:
        self._send = send

    async def send(self, body: MessageBody, *, idempotency_key: str | None = None) -> MessageSent:
        """Send a message."""
        return await self._send(request("POST", "/messages", body=body, idempotency_key=idempotency_key), MessageSent)

    async def send_template(self, body: TemplateMessageBody, *, idempotency_key: str | None = None) -> MessageSent:
        """Send a message made from a template."""
        return await self._send(request("POST", "/messages/template", body=body, idempotency_key=idempotency_key), MessageSent)

    async def send_batch(self, body: BatchBody, *, idempotency_key: str | None = None) -> BatchSent:
        """Send up to 1,000 messages, each accepted or refused on its own."""
        return await self._send(request("POST", "/messages/batch", body=body, idempotency_key=idempotency_key), BatchSent)

    async def list(self, query: MessagesQuery | None = None) -> MessageList:
        """List messages, newest first."""
        return await self._send(request("GET", "/messages", query=query), MessageList)

    async def get(self, message_id: str) -> Message:
        """Look a message up."""
        return await self._send(request("GET", "/messages/{id}", parameters={"id": message_id}), Message)

    async def events(self, message_id: str) -> Timeline:
        """Why a message went as it did."""
        return await self._send(request("GET", "/messages/{id}/events", parameters={"id": message_id}), Timeline)

    async def cancel(self, message_id: str, *, idempotency_key: str | None = None) -> MessageCancelled:
        """Cancel a message that waits."""
        return await self._send(request("POST", "/messages/{id}/cancel", parameters={"id": message_id}, idempotency_key=idempotency_key), MessageCancelled)

    async def reschedule(self, message_id: str, body: RescheduleBody, *, idempotency_key: str | None = None) -> MessageRescheduled:
        """Give a message that waits for its time another time."""
        return await self._send(request("POST", "/messages/{id}/reschedule", parameters={"id": message_id}, body=body, idempotency_key=idempotency_key), MessageRescheduled)

    async def resend(self, message_id: str, *, idempotency_key: str | None = None) -> MessageResent:
        """Send a message again that failed or was cancelled."""
        return await self._send(request("POST", "/messages/{id}/resend", parameters={"id": message_id}, idempotency_key=idempotency_key), MessageResent)

    async def resend_many(self, body: ResendManyBody, *, idempotency_key: str | None = None) -> MessagesResent:
        """Send again up to 1,000 messages that failed or were cancelled."""
        return await self._send(request("POST", "/messages/resend", body=body, idempotency_key=idempotency_key), MessagesResent)

    async def status(self, message_id: str, body: StatusBody, *, idempotency_key: str | None = None) -> StatusReported:
        """Report that a message was received or acted on."""
        return await self._send(request("POST", "/messages/{id}/status", parameters={"id": message_id}, body=body, idempotency_key=idempotency_key), StatusReported)

    async def convert(self, message_id: str, body: ConvertBody, *, idempotency_key: str | None = None) -> ConversionReported:
        """Report that somebody acted on a message."""
        return await self._send(request("POST", "/messages/{id}/convert", parameters={"id": message_id}, body=body, idempotency_key=idempotency_key), ConversionReported)


class AsyncRatesApi:
    def __init__(self, send: AsyncSend) -> None:
        self._send = send

    async def list(self) -> SendingRates:
        """List messages a second, by provider: as set, as the provider allows now, and as achieved."""
        return await self._send(request("GET", "/application/rates"), SendingRates)


class AsyncSubscriptionsApi:
    def __init__(self, send: AsyncSend) -> None:
        self._send = send

    async def create(self, body: SubscriptionBody, *, idempotency_key: str | None = None) -> SubscriptionCreated:
        """Register a device or an address."""
        return await self._send(request("POST", "/subscriptions", body=body, idempotency_key=idempotency_key), SubscriptionCreated)

    async def upsert(self, body: SubscriptionBody) -> SubscriptionCreated:
        """Register a device or an address, or bring what is there up to date."""
        return await self._send(request("PUT", "/subscriptions", body=body), SubscriptionCreated)

    async def list(self, query: SubscriptionQuery | None = None) -> Subscriptions:
        """List subscriptions, newest first."""
        return await self._send(request("GET", "/subscriptions", query=query), Subscriptions)

    async def get(self, subscription_id: str) -> Subscription:
        """Look a subscription up."""
        return await self._send(request("GET", "/subscriptions/{id}", parameters={"id": subscription_id}), Subscription)

    async def update(self, subscription_id: str, body: SubscriptionUpdate) -> Subscription:
        """Update a subscription: what is not given stays as it is."""
        return await self._send(request("PATCH", "/subscriptions/{id}", parameters={"id": subscription_id}, body=body), Subscription)

    async def update_put(self, subscription_id: str, body: SubscriptionUpdate) -> Subscription:
        """Update a subscription: what is not given stays as it is."""
        return await self._send(request("PUT", "/subscriptions/{id}", parameters={"id": subscription_id}, body=body), Subscription)

    async def archive(self, subscription_id: str) -> SubscriptionArchived:
        """Archive a subscription: its token may be registered anew."""
        return await self._send(request("DELETE", "/subscriptions/{id}", parameters={"id": subscription_id}), SubscriptionArchived)

    async def update_token(self, subscription_id: str, body: TokenBody, *, idempotency_key: str | None = None) -> TokenUpdated:
        """Replace the token."""
        return await self._send(request("POST", "/subscriptions/{id}/update-token", parameters={"id": subscription_id}, body=body, idempotency_key=idempotency_key), TokenUpdated)

    async def events(self, subscription_id: str, query: CursorPaging | None = None) -> SubscriptionHistory:
        """A subscription's history: who changed what, when and why."""
        return await self._send(request("GET", "/subscriptions/{id}/events", parameters={"id": subscription_id}, query=query), SubscriptionHistory)

    async def disable(self, subscription_id: str, body: DisableBody | None = None, *, idempotency_key: str | None = None) -> Disabled:
        """Unsubscribe: the person's own choice, or by the application."""
        return await self._send(request("POST", "/subscriptions/{id}/disable", parameters={"id": subscription_id}, body=body, idempotency_key=idempotency_key), Disabled)

    async def enable(self, subscription_id: str, body: EnableBody | None = None, *, idempotency_key: str | None = None) -> Enabled:
        """Subscribe again: recorded as consent."""
        return await self._send(request("POST", "/subscriptions/{id}/enable", parameters={"id": subscription_id}, body=body, idempotency_key=idempotency_key), Enabled)

    async def confirm(self, subscription_id: str, body: EnableBody | None = None, *, idempotency_key: str | None = None) -> Enabled:
        """Confirm an address that waits for it (double opt-in)."""
        return await self._send(request("POST", "/subscriptions/{id}/confirm", parameters={"id": subscription_id}, body=body, idempotency_key=idempotency_key), Enabled)


class AsyncTagsApi:
    def __init__(self, send: AsyncSend) -> None:
        self._send = send

    async def add_to_many(self, body: ManyTagsBody, *, idempotency_key: str | None = None) -> ManyTagged:
        """Add or replace tags of many subscriptions."""
        return await self._send(request("POST", "/subscriptions/tags", body=body, idempotency_key=idempotency_key), ManyTagged)

    async def remove_from_many(self, body: ManyTagKeysBody) -> ManyTagged:
        """Remove tags from many subscriptions."""
        return await self._send(request("DELETE", "/subscriptions/tags", body=body), ManyTagged)

    async def add(self, subscription_id: str, body: TagsBody, *, idempotency_key: str | None = None) -> Tagged:
        """Add or replace tags."""
        return await self._send(request("POST", "/subscriptions/{id}/tags", parameters={"id": subscription_id}, body=body, idempotency_key=idempotency_key), Tagged)

    async def remove(self, subscription_id: str, body: TagKeysBody) -> Tagged:
        """Remove tags."""
        return await self._send(request("DELETE", "/subscriptions/{id}/tags", parameters={"id": subscription_id}, body=body), Tagged)


class AsyncTemplatesApi:
    def __init__(self, send: AsyncSend) -> None:
        self._send = send

    async def create(self, body: TemplateBody, *, idempotency_key: str | None = None) -> TemplateCreated:
        """Create a template."""
        return await self._send(request("POST", "/templates", body=body, idempotency_key=idempotency_key), TemplateCreated)

    async def list(self, query: TemplatesQuery | None = None) -> Templates:
        """List templates."""
        return await self._send(request("GET", "/templates", query=query), Templates)

    async def get(self, template_id: str, query: TemplateQuery | None = None) -> Template:
        """Look a template up by id or name."""
        return await self._send(request("GET", "/templates/{id}", parameters={"id": template_id}, query=query), Template)

    async def update(self, template_id: str, body: TemplateChange) -> TemplateUpdated:
        """Make a new version: what is not given stays."""
        return await self._send(request("PUT", "/templates/{id}", parameters={"id": template_id}, body=body), TemplateUpdated)

    async def versions(self, template_id: str, query: Paging | None = None) -> TemplateVersions:
        """List a template's versions."""
        return await self._send(request("GET", "/templates/{id}/versions", parameters={"id": template_id}, query=query), TemplateVersions)

    async def enable(self, template_id: str, *, idempotency_key: str | None = None) -> TemplateSwitched:
        """Let messages use a template again."""
        return await self._send(request("POST", "/templates/{id}/enable", parameters={"id": template_id}, idempotency_key=idempotency_key), TemplateSwitched)

    async def disable(self, template_id: str, *, idempotency_key: str | None = None) -> TemplateSwitched:
        """Let no message use a template."""
        return await self._send(request("POST", "/templates/{id}/disable", parameters={"id": template_id}, idempotency_key=idempotency_key), TemplateSwitched)

    async def render_test(self, template_id: str, body: RenderTestBody, *, idempotency_key: str | None = None) -> RenderTested:
        """Render a template without sending anything."""
        return await self._send(request("POST", "/templates/{id}/render-test", parameters={"id": template_id}, body=body, idempotency_key=idempotency_key), RenderTested)


class AsyncUsersApi:
    def __init__(self, send: AsyncSend) -> None:
        self._send = send

    async def identify(self, body: IdentifyBody, *, idempotency_key: str | None = None) -> User:
        """Say whose subscriptions these are."""
        return await self._send(request("POST", "/users/identify", body=body, idempotency_key=idempotency_key), User)

    async def logout(self, body: LogoutBody, *, idempotency_key: str | None = None) -> LoggedOut:
        """Say that nobody is known at these subscriptions any more."""
        return await self._send(request("POST", "/users/logout", body=body, idempotency_key=idempotency_key), LoggedOut)

    async def get(self, external_id: str) -> User:
        """Look a user up."""
        return await self._send(request("GET", "/users/{external_id}", parameters={"external_id": external_id}), User)

    async def subscriptions(self, external_id: str) -> UserSubscriptions:
        """A user's subscriptions."""
        return await self._send(request("GET", "/users/{external_id}/subscriptions", parameters={"external_id": external_id}), UserSubscriptions)

    async def export(self, external_id: str) -> UserData:
        """Everything held about a user."""
        return await self._send(request("GET", "/users/{external_id}/export", parameters={"external_id": external_id}), UserData)

    async def delete(self, external_id: str) -> UserDeleted:
        """Forget a user: from now on nothing of the person can be read."""
        return await self._send(request("DELETE", "/users/{external_id}", parameters={"external_id": external_id}), UserDeleted)


class AsyncOperations:
    """All resources."""

    def __init__(self, send: AsyncSend) -> None:
        self.application = AsyncApplicationApi(send)
        self.audit_log = AsyncAuditLogApi(send)
        self.breakers = AsyncBreakersApi(send)
        self.credentials = AsyncCredentialsApi(send)
        self.deletions = AsyncDeletionsApi(send)
        self.emergency_stops = AsyncEmergencyStopsApi(send)
        self.imports = AsyncImportsApi(send)
        self.messages = AsyncMessagesApi(send)
        self.rates = AsyncRatesApi(send)
        self.subscriptions = AsyncSubscriptionsApi(send)
        self.tags = AsyncTagsApi(send)
        self.templates = AsyncTemplatesApi(send)
        self.users = AsyncUsersApi(send)
