"""What a registry lets us have: the quota that its answers tell of, and which limit an answer says was passed.

Pure. Holds: never raises; a header that is malformed, or that could mean two things, tells nothing.

Docker Hub counts pulls, over hours: `ratelimit-limit: 100;w=21600`, and once they are used up it says 429 with the
specification's error code and a sentence about pulls. Besides, it and all others limit requests, over seconds; that 429
may be a plain text, but some (GHCR, Amazon's) give it the very same code. So the code alone does not tell them apart.
Sources: docs.docker.com, "Docker Hub usage and limits"; IETF draft-ietf-httpapi-ratelimit-headers-06.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from homeport.client import wording
from homeport.client.errors import Limit
from homeport.client.redaction import plain_text

SOURCE_CHARACTERS_MAX = 100

#: A quota for less than this is a limit of requests: it is full again before anybody would give up.
PULLS_WINDOW_SECONDS_MIN = 15 * 60

#: Docker's and the draft's name is one, for the names of headers have no case.
_PREFIXES = ("RateLimit-", "X-RateLimit-")
_COUNT = re.compile(r"[ \t]*([0-9]{1,12})[ \t]*(?:;[ \t]*w=([0-9]{1,9})[ \t]*)?")

#: What is counted over hours or days: "pull rate limit" (Docker Hub), "Data limit exceeded" (Amazon).
_USED_UP = re.compile(r"(?i)\bpull rate limit\b|\bpull limit\b|\bdata limit\b")


@dataclass(frozen=True, slots=True)
class Quota:
    """How much a registry lets us have within a time, and what is left of it."""

    limit: int
    remaining: int
    #: The time that `limit` is for, where the registry tells.
    window_seconds: int | None = None
    #: For whom it counts, in the registry's words: an address or an account.
    source: str | None = None


def parse(headers: Mapping[str, str]) -> Quota | None:
    """The quota that an answer tells of. Without one, the registry has no limit or keeps it to itself."""
    for prefix in _PREFIXES:
        limit = _COUNT.fullmatch(headers.get(f"{prefix}Limit", ""))
        remaining = _COUNT.fullmatch(headers.get(f"{prefix}Remaining", ""))
        if limit is None or remaining is None:
            continue
        windows = {int(window) for window in (limit[2], remaining[2]) if window is not None}
        if len(windows) < 2:
            source = plain_text(headers.get("Docker-RateLimit-Source", ""))[:SOURCE_CHARACTERS_MAX]
            return Quota(int(limit[1]), int(remaining[1]), next(iter(windows), None), source or None)
    return None


def passed(status: int, headers: Mapping[str, str], body: bytes) -> Limit | None:
    """Which limit an answer says that we passed, if any."""
    if status != 429:
        return None
    code, words = wording.parse(body)
    quota = parse(headers)
    used_up = quota is not None and quota.remaining == 0 and (quota.window_seconds or 0) >= PULLS_WINDOW_SECONDS_MIN
    if code.upper() == "TOOMANYREQUESTS" and (used_up or _USED_UP.search(words)):
        return Limit.PULLS
    return Limit.REQUESTS
