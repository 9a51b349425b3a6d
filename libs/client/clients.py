"""The two clients: the operations of `operations`, sent by httpx, repeated while that makes sense."""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import msgspec

from libs.client import wire
from libs.client.errors import Unreachable
from libs.client.operations import AsyncOperations, Operations
from libs.client.paging import following, items_of
from libs.client.retry import RETRIED_STATUSES, Retries

T = TypeVar("T")
Q = TypeVar("Q", bound=msgspec.Struct)

DEFAULT = Retries()
TIMEOUT = 30.0
"""Seconds for an answer; longer than the platform takes to give up on a part of its own."""
_USER_AGENT = "automata-signal-python"


def _headers(api_key: str, language: str, subscription_secret: str | None) -> dict[str, str]:
    headers = {"X-API-Key": api_key, "Accept-Language": language, "User-Agent": _USER_AGENT}
    if subscription_secret is not None:
        headers["X-Subscription-Secret"] = subscription_secret
    return headers


class Client(Operations):
    """Synchronous. `url` is the API's, with `/api/v1`. Closes its connections at the end of a `with`."""

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        language: str = "en",
        subscription_secret: str | None = None,
        retries: Retries = DEFAULT,
        timeout: float = TIMEOUT,
        sleep: Callable[[float], None] = time.sleep,
        verify: Any = True,
    ) -> None:
        super().__init__(self._send)
        self._http = httpx.Client(
            base_url=url, headers=_headers(api_key, language, subscription_secret), timeout=timeout, verify=verify
        )
        self._retries = retries
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def pages(self, operation: Callable[[Q], Any], query: Q) -> Iterator[Any]:
        """Every item of a list, page after page."""
        following_query: Q | None = query
        while following_query is not None:
            page = operation(following_query)
            yield from items_of(page)
            following_query = following(page, following_query)

    def upload(self, path: str, pieces: Iterable[bytes], content_type: str, kind: type[T]) -> T:
        """PUT a body of any length, such as an import. Not repeated: send the same file again to go on."""
        try:
            found = self._http.put(path.lstrip("/"), content=pieces, headers={"Content-Type": content_type})
        except httpx.TransportError as error:
            raise Unreachable(type(error).__name__) from error
        return wire.answer(found.status_code, found.headers, found.content, kind)

    def download(self, path: str, query: msgspec.Struct) -> Iterator[bytes]:
        """A body of any length, such as an export, piece by piece."""
        with self._http.stream("GET", path.lstrip("/"), params=wire.query_of(query)) as found:
            if found.status_code != httpx.codes.OK:
                raise wire.failure(found.status_code, found.headers, found.read())
            yield from found.iter_bytes()

    def _send(self, request: wire.Request, kind: type[T]) -> T:
        """Raises `ApiError`, `Unreachable`."""
        attempt = 0
        while True:
            attempt += 1
            found, floor = self._try(request), None
            if isinstance(found, httpx.Response):
                if found.status_code not in RETRIED_STATUSES:
                    return wire.answer(found.status_code, found.headers, found.content, kind)
                floor = wire.retry_after(found.headers)
            pause = self._retries.pause(attempt, floor)
            if pause is None:
                return _give_up(found, kind)
            self._sleep(pause)

    def _try(self, request: wire.Request) -> httpx.Response | httpx.TransportError:
        try:
            return self._http.request(
                request.method,
                request.path.lstrip("/"),
                params=request.query,
                content=request.body,
                headers=request.headers,
            )
        except httpx.TransportError as error:
            return error


class AsyncClient(AsyncOperations):
    """Asynchronous, otherwise as `Client`."""

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        language: str = "en",
        subscription_secret: str | None = None,
        retries: Retries = DEFAULT,
        timeout: float = TIMEOUT,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        verify: Any = True,
    ) -> None:
        super().__init__(self._send)
        self._http = httpx.AsyncClient(
            base_url=url, headers=_headers(api_key, language, subscription_secret), timeout=timeout, verify=verify
        )
        self._retries = retries
        self._sleep = sleep

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def pages(self, operation: Callable[[Q], Awaitable[Any]], query: Q) -> AsyncIterator[Any]:
        """Every item of a list, page after page."""
        following_query: Q | None = query
        while following_query is not None:
            page = await operation(following_query)
            for item in items_of(page):
                yield item
            following_query = following(page, following_query)

    async def upload(self, path: str, pieces: AsyncIterable[bytes], content_type: str, kind: type[T]) -> T:
        """PUT a body of any length, such as an import. Not repeated: send the same file again to go on."""
        try:
            found = await self._http.put(path.lstrip("/"), content=pieces, headers={"Content-Type": content_type})
        except httpx.TransportError as error:
            raise Unreachable(type(error).__name__) from error
        return wire.answer(found.status_code, found.headers, found.content, kind)

    async def download(self, path: str, query: msgspec.Struct) -> AsyncIterator[bytes]:
        """A body of any length, such as an export, piece by piece."""
        async with self._http.stream("GET", path.lstrip("/"), params=wire.query_of(query)) as found:
            if found.status_code != httpx.codes.OK:
                raise wire.failure(found.status_code, found.headers, await found.aread())
            async for piece in found.aiter_bytes():
                yield piece

    async def _send(self, request: wire.Request, kind: type[T]) -> T:
        """Raises `ApiError`, `Unreachable`."""
        attempt = 0
        while True:
            attempt += 1
            found, floor = await self._try(request), None
            if isinstance(found, httpx.Response):
                if found.status_code not in RETRIED_STATUSES:
                    return wire.answer(found.status_code, found.headers, found.content, kind)
                floor = wire.retry_after(found.headers)
            pause = self._retries.pause(attempt, floor)
            if pause is None:
                return _give_up(found, kind)
            await self._sleep(pause)

    async def _try(self, request: wire.Request) -> httpx.Response | httpx.TransportError:
        try:
            return await self._http.request(
                request.method,
                request.path.lstrip("/"),
                params=request.query,
                content=request.body,
                headers=request.headers,
            )
        except httpx.TransportError as error:
            return error


def _give_up(found: httpx.Response | httpx.TransportError, kind: type[T]) -> T:
    if isinstance(found, httpx.Response):
        return wire.answer(found.status_code, found.headers, found.content, kind)
    raise Unreachable(type(found).__name__) from found
