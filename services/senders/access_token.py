"""Google's OAuth access tokens for a service account, by google-auth; fetched off the loop, one fetch at a time."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from firebase_admin import credentials  # type: ignore[import-untyped]  # ships no types
from google.auth.exceptions import GoogleAuthError

from libs.clock import Clock
from services.senders.contract import RetryClass
from services.senders.transport import NotSent, Response, Transport, UnknownOutcome

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"

REFRESH_EARLY = 300.0
"""Seconds before its end in which a token is still used while the next one is being fetched."""
UNKNOWN_LIFETIME = 600.0
"""Seconds a token is used for whose answer names no `expires_in`; Google's are good for an hour."""
PAUSE_AFTER_FAILURE = 10.0
"""Seconds between attempts to replace a token that still works."""


class TokenRefused(Exception):
    """No access token. `credentials`: the account's fault; the other classes: Google's, or the way's to it."""

    def __init__(self, reason: str, retry_class: RetryClass, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_class = retry_class
        self.retry_after = retry_after


class AccessToken:
    """The cached access token of one service account."""

    def __init__(self, service_account: dict[str, Any], trusted_host: str, transport: Transport, clock: Clock) -> None:
        self._service_account = service_account
        self._trusted_host = trusted_host
        self._transport = transport
        self._clock = clock
        self._google: Any = None
        self._authorization = ""
        self._expires_at = float("-inf")
        self._refresh_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    def fresh(self) -> str | None:
        """The value of the `authorization` header while nothing has to be done for it."""
        return self._authorization if self._clock.monotonic() < self._refresh_at else None

    async def authorization(self) -> str:
        """The same, fetched if need be. Raises `TokenRefused`."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._fetched)
        if self._clock.monotonic() >= self._expires_at:
            await asyncio.shield(self._fetching)
        return self._authorization

    def discard(self, refused: str) -> None:
        """Google refused this one: the next call fetches another."""
        if refused == self._authorization:
            self._expires_at = self._refresh_at = float("-inf")

    def _fetched(self, task: asyncio.Task[None]) -> None:
        self._fetching = None
        if not task.cancelled() and task.exception() is not None:
            self._refresh_at = min(self._clock.monotonic() + PAUSE_AFTER_FAILURE, self._expires_at)

    async def _fetch(self) -> None:
        loop = asyncio.get_running_loop()
        token, lifetime = await asyncio.to_thread(self._refresh, loop)
        now = self._clock.monotonic()
        self._authorization = f"Bearer {token}"
        self._expires_at = now + lifetime
        self._refresh_at = now + lifetime - min(REFRESH_EARLY, lifetime / 2)

    def _refresh(self, loop: asyncio.AbstractEventLoop) -> tuple[str, float]:
        """In a thread: google-auth signs the assertion and asks for the token through our transport."""
        if self._google is None:
            self._google = _load(self._service_account, self._trusted_host)
        try:
            self._google.refresh(_Exchange(self._transport, loop, self._clock))
        except (GoogleAuthError, ValueError, TypeError) as error:
            raise TokenRefused("oauth_refused", "credentials") from error
        token = self._google.token
        if not (isinstance(token, str) and token.isascii() and token.isprintable()):
            raise TokenRefused("oauth_refused", "credentials")
        if self._google.expiry is None:
            return token, UNKNOWN_LIFETIME
        lifetime = self._google.expiry.replace(tzinfo=UTC) - datetime.now(UTC)
        return token, lifetime.total_seconds()

    async def close(self) -> None:
        if self._fetching is not None:
            await asyncio.wait([self._fetching])


def _load(service_account: dict[str, Any], trusted_host: str) -> Any:
    """google-auth's credentials. Raises `TokenRefused`, also for a token endpoint that is not Google's own.

    The tenant names that endpoint: it must not make us call any other host. `trusted_host` serves FCM itself.
    """
    try:
        google = credentials.Certificate(service_account).get_credential().with_scopes([SCOPE])
        endpoint = urlsplit(service_account["token_uri"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise TokenRefused("malformed_credential", "credentials") from error
    host = endpoint.hostname or ""
    if endpoint.scheme != "https" or not (host == trusted_host or host.endswith(".googleapis.com")):
        raise TokenRefused("untrusted_token_uri", "credentials")
    return google


class _Exchange:
    """google-auth's `transport.Request` on our transport.

    What is Google's fault, or the way's to it, is raised past google-auth, which would sleep and try again.
    """

    def __init__(self, transport: Transport, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._transport = transport
        self._loop = loop
        self._clock = clock

    def __call__(
        self,
        url: str,
        method: str = "POST",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: object,
    ) -> "_Reply":
        asked = asyncio.run_coroutine_threadsafe(self._transport.post(url, headers or {}, body), self._loop)
        try:
            response = asked.result()
        except (NotSent, UnknownOutcome) as error:
            raise TokenRefused(f"oauth_{error.reason}", "network") from None
        if response.status == 429:
            raise TokenRefused("oauth_throttled", "throttled", response.retry_after(self._clock.time()))
        if response.status == 408 or response.status >= 500:
            raise TokenRefused("oauth_unavailable", "outage", response.retry_after(self._clock.time()))
        return _Reply(response)


class _Reply:
    """google-auth's `transport.Response`."""

    def __init__(self, response: Response) -> None:
        self.status = response.status
        self.data = response.body
        self.headers: dict[str, str] = {}
