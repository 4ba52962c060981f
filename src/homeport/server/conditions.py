"""Conditional requests. Source: RFC 9110, sections 13.1.2 and 13.1.5."""

from __future__ import annotations

from homeport.oci.digest import Digest
from homeport.server.http import Request


def is_known(request: Request, digest: Digest) -> bool:
    """Whether the client says that it has these very bytes (`If-None-Match`)."""
    header = request.header(b"if-none-match")
    if header is None:
        return False
    known = (part.strip().removeprefix("W/").strip('"') for part in header.split(","))
    return any(part in (digest, "*") for part in known)


def range_applies(request: Request, digest: Digest) -> bool:
    """Whether a `Range` is meant for the bytes that are here (`If-Range`)."""
    header = request.header(b"if-range")
    return header is None or header.strip() == f'"{digest}"'
