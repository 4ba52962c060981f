"""Seeing through reverse proxies: whose request it is, and under which address the client knows this server.

Holds: `X-Forwarded-*` is believed only from addresses that the operator trusts; from everybody else it is ignored.
"""

from __future__ import annotations

from homeport.auth import networks
from homeport.auth.networks import Networks
from homeport.server.context import Options
from homeport.server.http import Request


def client_address(peer: str, forwarded_for: str | None, trusted: Networks) -> str:
    """The address of the client: the last one that no trusted proxy vouches for."""
    if not trusted or forwarded_for is None or not networks.contain(trusted, peer):
        return peer
    for hop in reversed(forwarded_for.split(",")):
        address = hop.strip().removeprefix("[").partition("]")[0]
        if not networks.is_address(address):
            return peer
        if not networks.contain(trusted, address):
            return address
        peer = address
    return peer


def base_url(request: Request, options: Options) -> str:
    """`scheme://host` under which the client reaches this server."""
    if options.url is not None:
        return options.url.rstrip("/")
    scheme, host = request.scheme, request.header(b"host") or request.header(b":authority") or "localhost"
    if options.trusted_proxies and networks.contain(options.trusted_proxies, request.peer):
        scheme = _first(request.header(b"x-forwarded-proto")) or scheme
        host = _first(request.header(b"x-forwarded-host")) or host
    # It goes into a quoted header value; whoever sends such a host is not helped by an answer.
    return f"{'https' if scheme == 'https' else 'http'}://{''.join(c for c in host if c.isalnum() or c in '.-:[]_')}"


def _first(header: str | None) -> str | None:
    return header.partition(",")[0].strip() if header else None
