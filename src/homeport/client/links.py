"""Reading `Link`: where the next page of a list is.

Pure. Holds: a header that cannot be read is an error and never taken for the last page, since a list that ends early
looks like one from which things are gone.
Source: RFC 8288 section 3; distribution-spec, "Listing Tags".
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from yarl import URL

_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(rf'[ \t]*;[ \t]*({_NAME})(?:[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,;"]*)))?')
_TARGET = re.compile(r"<([^<>]*)>")
_SEPARATOR = re.compile(r"[ \t,]*")


def next_page(headers: Iterable[str]) -> str | None:
    """What the first link called "next" leads to, as it is written; None without one. `ValueError` for what is none."""
    found: str | None = None
    for header in headers:
        position = _end(_SEPARATOR, header, 0)
        while position < len(header):
            target = _TARGET.match(header, position)
            if target is None:
                raise ValueError("not a link")
            position, relations = target.end(), ""
            while parameter := _PARAMETER.match(header, position):
                name, quoted, bare = parameter.groups()
                if name.lower() == "rel" and not relations:  # of several, the first counts
                    relations = quoted or bare or ""
                position = parameter.end()
            if found is None and "next" in relations.lower().split():
                found = target[1].strip()
            end = _end(_SEPARATOR, header, position)
            if end < len(header) and "," not in header[position:end]:
                raise ValueError("not a link")
            position = end
    return found


def same_list(asked: URL, following: URL) -> URL:
    """`following` as the next page of the list at `asked`.

    Artifactory leaves the repository through which it was asked out of the path: `/v2/virtual/app/tags/list` goes on at
    `/v2/app/tags/list`, which is nothing or another list. What was asked for is the list at `asked`, so that goes on.
    """
    end = following.raw_path.removeprefix("/v2")
    if following.raw_path.startswith("/v2/") and asked.raw_path.endswith(end) and asked.raw_path != following.raw_path:
        return URL(f"{asked.with_query(None)}?{following.raw_query_string}", encoded=True)
    return following


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position
