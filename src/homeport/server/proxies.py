"""Seeing through reverse proxies: whose request it is, and under which address the client knows this server.

Holds: `X-Forwarded-*` is believed only from addresses that the operator trusts; from everybody else it is ignored.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from homeport.server.context import Options
from homeport.server.http import Request


def client_address(peer: str, forwarded_for: str | None, trusted: tuple[IPv4Network | IPv6Network, ...]) -> str:
    """The address of the client: the last one that no trusted proxy vouches for."""
    if not trusted or forwarded_for is None or not _is_trusted(peer, trusted):
        return peer
    for hop in reversed(forwarded_for.split(",")):
        address = hop.strip().removeprefix("[").partition("]")[0]
        if not _is_address(address):
            return peer
        if not _is_trusted(address, trusted):
            return address
        peer = address
    return peer


def base_url(request: Request, options: Options) -> str:
    """`scheme://host` under which the client reaches this server."""
    if options.url is not None:
        return options.url.rstrip("/")
    scheme, host = request.scheme, request.header(b"host") or request.header(b":authority") or "localhost"
    if options.trusted_proxies and _is_trusted(request.peer, options.trusted_proxies):
        scheme = _first(request.header(b"x-forwarded-proto")) or scheme
        host = _first(request.header(b"x-forwarded-host")) or host
    # It goes into a quoted header value; whoever sends such a host is not helped by an answer.
    return f"{'https' if scheme == 'https' else 'http'}://{''.join(c for c in host if c.isalnum() or c in '.-:[]_')}"


def _first(header: str | None) -> str | None:
    return header.partition(",")[0].strip() if header else None


@lru_cache(maxsize=1024)
def _is_trusted(address: str, trusted: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    if not _is_address(address):
        return False
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped  # What a socket that listens for both kinds calls an IPv4 peer.
    return any(parsed in network for network in trusted)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
