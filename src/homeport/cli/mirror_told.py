"""What the verbs of `homeport mirror` tell as JSON, each alike."""

from __future__ import annotations

from typing import Any

from homeport.cli.output import format_time
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


def quota_told(standing: Standing) -> dict[str, Any]:
    return {
        "host": standing.host,
        "pulls_max": standing.pulls_max,
        "remaining": standing.remaining,
        "window_seconds": standing.window_seconds,
        "seen": format_time(standing.seen_at),
        "limited_until": format_time(standing.limited_until),
    }
