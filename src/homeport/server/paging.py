"""Pages of a list: `n`, `last`, and the `Link` to the next page. Source: distribution-spec, "Listing Tags"."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from homeport.oci.errors import PageInvalid
from homeport.server.http import Headers, Request


def limit(request: Request, entries_max: int) -> int:
    """How many entries the page may have: what was asked for, never more than `entries_max` (CVE-2023-2253)."""
    text = request.parameter("n")
    if text is None or text == "":
        return entries_max
    if not text.isascii() or not text.isdigit():
        raise PageInvalid(text[:40])
    return entries_max if len(text) > 9 else min(int(text), entries_max)


def link(path: str, entries: int, last: str, **others: str) -> Headers:
    """The header that leads to the page after `last`."""
    query = urlencode({"n": str(entries), "last": last, **others}, quote_via=quote, safe="")
    return [(b"link", f'<{path}?{query}>; rel="next"'.encode("ascii"))]
