"""What handlers return: one JSON document, or lines of JSON that come while they are made."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple, TypeAlias


class Document(NamedTuple):
    """One JSON document."""

    content: Mapping[str, Any]
    #: Where what was made can be asked for.
    location: str | None = None


class Lines(NamedTuple):
    """JSON Lines: a document a line. An empty line says no more than that the server is there."""

    lines: AsyncIterator[bytes]


Answer: TypeAlias = Document | Lines


def encoded(document: Mapping[str, Any]) -> bytes:
    """The document as it is sent. ASCII, so that no text of a stranger can keep it from being written."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii")
