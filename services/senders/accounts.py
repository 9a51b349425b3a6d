"""What a sender keeps per tenant credential: tokens and connections. Bounded; the longest unused goes first."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from libs.rpc import Credential

LIMIT = 256
"""Accounts at a time in one process. One that went out is made anew when it is needed."""

Secret = TypeVar("Secret")
Account = TypeVar("Account")


class CredentialFault(Exception):
    """The tenant's credential cannot work, whatever is sent with it. `reason` is a code without secrets."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Accounts(Generic[Secret, Account]):
    """Least recently used cache, one account an application. What leaves it is dropped, not closed: requests in flight
    on it end undisturbed."""

    def __init__(
        self, read: Callable[[Credential], Secret], make: Callable[[Secret, Credential], Account], limit: int = LIMIT
    ) -> None:
        self._read = read
        self._make = make
        self._limit = limit
        self._entries: OrderedDict[str, tuple[Credential, Secret, Account]] = OrderedDict()

    def get(self, application_id: str, credential: Credential) -> Account:
        """The same account for as long as the credential says the same. Whatever `read` and `make` raise passes."""
        entry = self._entries.get(application_id)
        if entry is not None and entry[0] is credential:
            self._entries.move_to_end(application_id)
            return entry[2]
        secret = self._read(credential)
        account = entry[2] if entry is not None and entry[1] == secret else self._make(secret, credential)
        self._entries[application_id] = (credential, secret, account)
        self._entries.move_to_end(application_id)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)
        return account

    def all(self) -> Iterable[Account]:
        return [account for _, _, account in self._entries.values()]
