"""Making text from other hosts, and addresses, fit to be shown and logged.

Holds: what leaves these functions has no known secret, no `Authorization` value, no query (signed addresses carry their
secret there), no user information, and no control character (a terminal obeys those); and it is short.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from yarl import URL

TEXT_CHARACTERS_MAX = 600

#: A "secret" shorter than this would blank out half of any text, and by that tell what it is.
SECRET_CHARACTERS_MIN = 4

_AUTHORIZATION = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{6,}")
_JSON_WEB_TOKEN = re.compile(r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?")
_ADDRESS = re.compile(r"(?i)\b(https?://)(?:[^\s/?#\"'@]*@)?([^\s?#\"'<>]*)(?:[?#][^\s\"'<>]*)?")


def shown_url(url: URL) -> str:
    """`url` without user information, query and fragment."""
    return plain_text(f"{url.scheme}://{url.raw_authority.rpartition('@')[2]}{url.raw_path}")


def plain_text(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` on one line, cut, and without secrets: the ones given and whatever looks like one."""
    # The cut comes last: a secret cut in half would not be recognised.
    for secret in sorted((s for s in secrets if len(s) >= SECRET_CHARACTERS_MIN), key=len, reverse=True):
        text = text.replace(secret, "***")
    text = _AUTHORIZATION.sub(r"\1 ***", text)
    text = _JSON_WEB_TOKEN.sub("***", text)
    text = _ADDRESS.sub(r"\1\2", text)
    text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return text if len(text) <= TEXT_CHARACTERS_MAX else text[:TEXT_CHARACTERS_MAX] + "…"
