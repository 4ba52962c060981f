"""A registry's own words for a refusal.

Pure. Holds: never raises, whatever the body is; the words are the registry's, so who shows them makes them fit to be
shown first (`redaction`).
"""

from __future__ import annotations

import json

#: How much of an error's `detail` is shown.
DETAIL_CHARACTERS_MAX = 200


def parse(body: bytes) -> tuple[str, str]:
    """Code and message of the first error in the distribution-spec's form; otherwise no code, and the text as it is."""
    text = body.decode(errors="replace")
    try:
        error = json.loads(text)["errors"][0]
        code, message, detail = (error.get(key) for key in ("code", "message", "detail"))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return "", "" if text.lstrip().startswith("<") else text  # a proxy's page says nothing in its first lines
    words = str(message or "")
    if detail:
        words += f" ({detail if isinstance(detail, str) else json.dumps(detail)})"[:DETAIL_CHARACTERS_MAX]
    return str(code or ""), words
