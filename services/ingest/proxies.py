"""Where a request comes from, behind proxies: `X-Forwarded-For` is believed only as far as trusted proxies wrote it."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from aiohttp import hdrs, web

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


def networks_of(text: str) -> tuple[Network, ...]:
    """Networks such as `10.0.0.0/8`, apart by commas or spaces. Raises `ValueError`."""
    return tuple(ip_network(each) for each in text.replace(",", " ").split())


class Proxies:
    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = trusted

    def address_of(self, request: web.Request) -> str | None:
        """The nearest address that is no trusted proxy's: each one appended the peer that it saw."""
        address = _parsed(request.remote or "")
        if address is None:
            return None
        hops = ",".join(request.headers.getall(hdrs.X_FORWARDED_FOR, ())).split(",")
        while hops and self._is_trusted(address):
            nearer = _parsed(hops.pop().strip())
            if nearer is None:
                break
            address = nearer
        return str(address)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def _parsed(text: str) -> Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
