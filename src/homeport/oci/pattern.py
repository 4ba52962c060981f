"""Patterns of repository names, the one syntax for all settings: `*` within a part, `**` across parts."""

from __future__ import annotations

import re
from functools import cached_property

_WORD = re.compile(r"\*\*|\*|[^*]+")


class Patterns:
    """Some patterns; a name matches when one of them does. No pattern matches nothing."""

    def __init__(self, *patterns: str) -> None:
        self.patterns = patterns

    @cached_property
    def _matcher(self) -> re.Pattern[str]:
        return re.compile("|".join(f"(?:{_translate(pattern)})" for pattern in self.patterns) or r"(?!)")

    def match(self, name: str) -> bool:
        """Whether one of the patterns matches all of `name`."""
        return self._matcher.fullmatch(name) is not None

    def __repr__(self) -> str:
        return f"Patterns{self.patterns!r}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Patterns) and other.patterns == self.patterns

    def __hash__(self) -> int:
        return hash(self.patterns)


def _translate(pattern: str) -> str:
    """`team/**` matches everything below `team/`, `team/*` what has one part more, `**/api` also `api` itself."""
    anywhere = ""
    if pattern.startswith("**/"):
        anywhere, pattern = "(?:.+/)?", pattern[3:]
    words = {"**": ".*", "*": "[^/]*"}
    return anywhere + "".join(words.get(word) or re.escape(word) for word in _WORD.findall(pattern))
