"""Patterns of repository names: `team/app`, `team/*`, `team/**`, `**/cache`.

Holds: `*` matches any characters within one part of the name, `**` stands for whole parts. At the end it stands for
one or more of them (`team/**` is all below team, not team itself), elsewhere for none or more. Nothing else is special.
Matching takes time in proportion to the name's length, whatever the pattern: no group that may backtrack holds another.
"""

from __future__ import annotations

import re
from functools import lru_cache

PATTERN_CHARACTERS_MAX = 255

_PART = re.compile(r"(?:[a-z0-9._-]|\*(?!\*))+")


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression that matches all of what `pattern` means. Raises `ValueError` with what to write."""
    if len(pattern) > PATTERN_CHARACTERS_MAX:
        raise ValueError(f"a pattern has at most {PATTERN_CHARACTERS_MAX} characters")
    runs: list[list[str]] = [[]]
    for part in pattern.split("/"):
        if part == "**":
            if runs[-1] or len(runs) == 1:  # `**/**` says no more than `**`
                runs.append([])
        elif _PART.fullmatch(part):
            runs[-1].append(_part(part))
        else:
            raise ValueError(
                f"'{pattern}' is not a pattern of repository names: lower-case parts between slashes, where '*' is "
                "any characters within a part and '**', alone in its place, any parts"
            )
    if len(runs) == 1:
        return re.compile("/".join(runs[0]))
    first, *middle, last = runs
    expression = "".join(f"{part}/" for part in first)
    for run in middle:
        # The first place where the run fits leaves the most to what follows, so no other needs to be tried.
        expression += "(?>(?:[^/]+/)*?" + "".join(f"{part}/" for part in run) + ")"
    expression += "(?:[^/]+/)*" + "/".join(last) if last else ".+"
    return re.compile(expression)


def matches(pattern: str, repository: str) -> bool:
    """Whether the repository's name is one that `pattern` means."""
    return compiled(pattern).fullmatch(repository) is not None


def _part(part: str) -> str:
    if part == "*":
        return "[^/]+"
    first, *others = part.split("*")
    expression = re.escape(first)
    for literal in others[:-1]:
        expression += f"(?>[^/]*?{re.escape(literal)})"
    if others:
        expression += f"[^/]*{re.escape(others[-1])}"
    return expression
