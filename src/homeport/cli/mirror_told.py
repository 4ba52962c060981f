"""What several verbs of `homeport mirror` tell, each alike."""

from __future__ import annotations

from typing import Any

from homeport.cli.output import format_time
from homeport.mirror.plan import Departure
from homeport.mirror.remaining import Copy
from homeport.upstreams.quotas import Standing


def copy_told(copy: Copy) -> dict[str, Any]:
    return {
        "image": copy.image,
        "source": str(copy.source),
        "source_tag": copy.source_tag,
        "repository": copy.repository,
        "tag": copy.tag,
        "digest": copy.digest,
        "why": copy.why,
    }


def departure_told(departure: Departure) -> dict[str, Any]:
    ours = departure.origin
    return {
        "repository": ours.repository,
        "tag": ours.tag,
        "source": str(ours.source),
        "leaving": departure.leaving,
        "since": format_time(departure.since),
        "goes_at": format_time(departure.goes_at),
    }


def quota_told(standing: Standing) -> dict[str, Any]:
    return {
        "host": standing.host,
        "pulls_max": standing.pulls_max,
        "remaining": standing.remaining,
        "window_seconds": standing.window_seconds,
        "counted_for": standing.source,
        "seen": format_time(standing.seen_at),
        "limited_until": format_time(standing.limited_until),
    }


def pulls_left(standing: Standing) -> str:
    """An upstream that refuses a pull need not have said how many it allows."""
    of = "" if standing.pulls_max is None else f" of {standing.pulls_max}"
    return f"{standing.remaining}{of} pulls left"
