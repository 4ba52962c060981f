"""Whose pulls count: those of people and nodes, and not those of scanners and mirrors, which say who they are.

Holds: a pull says how long an image is still wanted, so what looks at every image must not count. Anybody can say to be
somebody else; all that is won by it is that one's own pulls do not keep an image. The answer costs one look into a
table, since a manifest is asked for ten thousand times a second.
"""

from __future__ import annotations

from functools import lru_cache

from homeport.oci import globs
from homeport.server.http import Request

#: More of a User-Agent is not looked at, nor kept in memory.
AGENT_CHARACTERS_MAX = 256


def counts(request: Request, not_pulls: tuple[str, ...]) -> bool:
    """Whether what is sent to this client is a pull. `not_pulls` are globs, in which case makes no difference."""
    agent = request.header(b"user-agent")
    return agent is None or not _is_meant(not_pulls, agent[:AGENT_CHARACTERS_MAX])


@lru_cache(maxsize=1024)
def _is_meant(not_pulls: tuple[str, ...], agent: str) -> bool:
    return globs.matches(tuple(glob.lower() for glob in not_pulls), agent.lower())
