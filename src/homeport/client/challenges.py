"""Reading `WWW-Authenticate`.

Pure. Holds: never raises; what cannot be read ends the reading of that header, and what was read before it counts.
Source: RFC 9110 section 11.6.1, whose grammar puts challenges, and the parameters of each, into one list with the same
comma between all of them: a name followed by "=" is a parameter, any other begins a challenge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: More challenges than this is not a registry that offers a choice.
CHALLENGES_MAX = 16

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105  (HTTP's word for a name, no secret)
_SEPARATOR = re.compile(r"[ \t,]*")
_SCHEME = re.compile(rf"({_TOKEN})(?=[ \t,]|$)[ \t]*")
_TOKEN_68 = re.compile(r"[A-Za-z0-9\-._~+/]+=*[ \t]*(?=,|$)")
# The spec wants values that are no token quoted; some servers send an address bare, so that is read too.
_PARAMETER = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))(?=[ \t,]|$)')
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to log in that a server offers. Scheme and parameter names are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse(headers: Iterable[str]) -> list[Challenge]:
    """The challenges of all `WWW-Authenticate` lines of an answer, in order. Of a parameter given twice, the first."""
    return [challenge for header in headers for challenge in _parse_one(header)][:CHALLENGES_MAX]


def _parse_one(header: str) -> list[Challenge]:
    challenges: list[Challenge] = []
    parameters: dict[str, str] = {}
    position = _skip(header, 0)
    while position < len(header):
        if found := _PARAMETER.match(header, position):
            if not challenges:
                break
            name, quoted, bare = found.groups()
            parameters.setdefault(name.lower(), bare if quoted is None else _ESCAPED.sub(r"\1", quoted))
        elif found := _SCHEME.match(header, position):
            parameters = {}
            challenges.append(Challenge(found[1].lower(), parameters))
            found = _TOKEN_68.match(header, found.end()) or found
        else:
            break
        position = _skip(header, found.end())
    return challenges


def _skip(header: str, position: int) -> int:
    found = _SEPARATOR.match(header, position)
    return found.end() if found else position
