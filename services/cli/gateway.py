"""The REST API as the CLI uses it."""

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from services.cli.datadir import DataDir
from services.cli.failure import Failure

_TIMEOUT = aiohttp.ClientTimeout(total=30)


class Refused(Failure):
    """The API answered with an error."""

    def __init__(self, status: int, code: str, message: str, details: dict[str, Any]) -> None:
        super().__init__(f"{code} ({status}): {message}", detail=str(details) if details else "")
        self.code = code
        self.details = details


class Gateway:
    """One session with one API key. Every method raises `Refused`, or `Failure` when nobody answers."""

    def __init__(self, api_url: str, api_key: str) -> None:
        self._base = api_url.rstrip("/") + "/api/v1"
        self._key = api_key

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(headers={"X-API-Key": self._key}, timeout=_TIMEOUT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, path: str) -> Any:
        """The `data` of the answer."""
        return await self._ask("GET", path, None)

    async def post(self, path: str, body: object) -> Any:
        """The `data` of the answer."""
        return await self._ask("POST", path, body)

    async def register(self, kind: str, token: str) -> str:
        """The id of the subscription with this token, which may exist already."""
        try:
            made = await self.post("/subscriptions", {"type": kind, "token": token})
            return str(made["subscription_id"])
        except Refused as refused:
            if refused.code == "duplicate_subscription" and "subscription_id" in refused.details:
                return str(refused.details["subscription_id"])
            raise

    async def _ask(self, method: str, path: str, body: object) -> Any:
        try:
            async with self._session.request(method, self._base + path, json=body) as response:
                answer = await response.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Failure(
                f"the API at {self._base} gives no usable answer ({type(error).__name__})",
                "is it running? `automata status` shows its processes",
            ) from None
        if answer.get("status") == "success":
            return answer["data"]
        told = answer.get("error", {})
        raise Refused(response.status, told.get("code", "?"), told.get("message", ""), told.get("details") or {})


def gateway(data_dir: Path) -> Gateway:
    """To the API named by AUTOMATA_API_URL and AUTOMATA_API_KEY, else to what runs in the data directory."""
    url, key = os.environ.get("AUTOMATA_API_URL"), os.environ.get("AUTOMATA_API_KEY")
    if url and key:
        return Gateway(url, key)
    runtime = DataDir(data_dir).runtime()
    return Gateway(url or runtime.api_url, key or runtime.api_key)
