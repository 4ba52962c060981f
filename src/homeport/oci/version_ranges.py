"""Ranges of versions: `>=3.18 <4`, `^1.2`, `~1.4`, `3.18.x`, `1.2 - 1.4 || 2.x`. They say which tags are meant.

Pure. Source: node-semver's README, "Ranges".
Holds: a range is one or more alternatives between `||`; within one, all conditions between spaces or commas must hold.
- `=` (or nothing), `!=`, `>`, `>=`, `<`, `<=`: numbers that are not written, or are `x` or `*`, stand for any. So
  `3.18` is all of 3.18, `>3.18` begins with 3.19, and `1.2 - 1.4` ends before 1.5.
- `~1.4.2` is what 1.4 has from there on, `^1.4.2` what 1 has: as long as the first number that is not 0 is the same.
- A number that a *tag* lacks is 0: `3.18` is in `>=3.18`, and not in `>=3.18.2`.
- A pre-release is in where it is asked for, or where a condition names one of the same numbers: `>=1.2.3-rc.1`. Where
  it is asked for, those of 4.0.0 are in `>=4` and not in `<4`.
- A range is about tags without a variant, or, where a condition ends in one, about tags of that variant only:
  `>=3.18-alpine <4`. It stands once in an alternative: `>=3.18 || >=3.18-alpine` is both.
- A tag that is one large number is a date or a build (`20240329`): it is in no range that names none as large.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from homeport.oci import versions
from homeport.oci.versions import Version

CHARACTERS_MAX = 255

#: One number alone is no version from here on, but a date or the number of a build.
DATES_FROM = 100_000

_CONDITION = re.compile(r"([<>=!~^]*)\s*([^\s,<>=!~^]+)(?:\s+-\s+([^\s,<>=!~^]+))?[\s,]*")
#: `1.2.x`, `1.x.x`, `*`, and the same with a variant.
_WILDCARD = re.compile(r"[vV]?((?:[0-9]+\.){0,2})[xX*](?:\.[xX*]){0,2}(-.*)?", re.DOTALL)
#: As node-semver or Masterminds' semver write them.
_OPERATORS = {"": "=", "==": "=", "=>": ">=", "=<": "<=", "~>": "~"} | {
    each: each for each in ("=", "!=", ">", ">=", "<", "<=", "~", "^")
}
_EXAMPLES = "write it as '>=3.18 <4', '^1.2', '~1.4', '3.18.x' or '1.2 - 1.4 || 2.x'"

_Numbers: TypeAlias = tuple[int, int, int]
#: A place in the order of versions; `Version.precedence` with all three numbers.
_Place: TypeAlias = tuple[_Numbers, bool, tuple[tuple[int, int, str], ...]]

_FIRST: _Place = ((0, 0, 0), False, ())
_END: _Place = ((10**18, 0, 0), False, ())  # No number is as large: it has at most 18 digits.


@dataclass(frozen=True, slots=True)
class _Span:
    """All versions from `low` on and before `high`."""

    low: _Place
    high: _Place

    def holds(self, place: _Place) -> bool:
        return self.low <= place < self.high


@dataclass(frozen=True, slots=True)
class _Alternative:
    """What stands between two `||`."""

    span: _Span
    but: tuple[_Span, ...]
    #: Numbers of which a condition names a pre-release.
    prereleases_of: frozenset[_Numbers]
    variant: str
    #: The largest number that stands first in a condition.
    largest: int

    def contains(self, version: Version, prereleases: bool) -> bool:
        place = _place(version)
        return (
            version.variant == self.variant
            and self.span.holds(place)
            and not any(span.holds(place) for span in self.but)
            and (version.is_release or prereleases or place[0] in self.prereleases_of)
            and (not is_date(version) or self.largest >= DATES_FROM)
        )


@dataclass(frozen=True, slots=True)
class Range:
    """Some versions, as a person wrote which."""

    text: str
    #: The variants that it is about; "" is none.
    variants: frozenset[str]
    _alternatives: tuple[_Alternative, ...]

    def contains(self, version: Version, prereleases: bool = False) -> bool:
        """Whether the version is one of them; `prereleases`: also where it is a pre-release that nobody named."""
        return any(each.contains(version, prereleases) for each in self._alternatives)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class _Bound:
    """A version as it is written in a range: `1.2`, `1.2.x`, `1.2.3-rc.1`, `1.2-alpine`."""

    #: As many as are written.
    numbers: tuple[int, ...]
    version: Version

    @property
    def is_exact(self) -> bool:
        """Whether it is one version, and not all that begin with the same numbers."""
        return len(self.numbers) == 3 or not self.version.is_release

    @property
    def first(self) -> _Place:
        return _place(self.version) if self.is_exact else (_padded(self.numbers), False, ())

    @property
    def end(self) -> _Place:
        """What comes next behind all that it is."""
        if not self.is_exact:
            return self.after(len(self.numbers))
        if self.version.is_release:
            return self.after(3)
        return _padded(self.numbers), False, (*self.version.prerelease, (-1, 0, ""))

    def after(self, count: int) -> _Place:
        """The first with greater numbers, where only so many of them count."""
        if count == 0:
            return _END
        *before, last = _padded(self.numbers)[:count]
        return _padded((*before, last + 1)), False, ()


@lru_cache(maxsize=1024)
def parse(text: str) -> Range:
    """The range that `text` is, or `ValueError` with what to write. Takes time in proportion to its length."""
    if len(text) > CHARACTERS_MAX:
        raise ValueError(f"a range of versions has at most {CHARACTERS_MAX} characters")
    alternatives = tuple(map(_alternative, text.split("||")))
    return Range(text, frozenset(each.variant for each in alternatives), alternatives)


def is_date(version: Version) -> bool:
    """Whether the tag was one large number: `20240329`, which is no version that competes with `3`."""
    return len(version.numbers) == 1 and version.numbers[0] >= DATES_FROM


def _place(version: Version) -> _Place:
    numbers, is_release, prerelease = version.precedence
    return _padded(numbers), is_release, prerelease


def _padded(numbers: tuple[int, ...]) -> _Numbers:
    first, second, third = (*numbers, 0, 0, 0)[:3]
    return first, second, third


def _alternative(text: str) -> _Alternative:
    spans, but, bounds = [], [], []
    for operator, bound, last in _conditions(text.strip()):
        bounds += [bound, last]
        if operator == "!=":
            but.append(_span("=", bound, last))
        else:
            spans.append(_span(operator, bound, last))
    variants = {bound.version.variant for bound in bounds} - {""}
    if len(variants) > 1:
        raise ValueError(f"'{text.strip()}' names two variants; write '||' between them")
    span = _Span(max((each.low for each in spans), default=_FIRST), min((each.high for each in spans), default=_END))
    if span.low >= span.high or any(each.low <= span.low and span.high <= each.high for each in but):
        raise ValueError(f"no version can be in '{text.strip()}'; write '||' between what is to be in either")
    return _Alternative(
        span,
        tuple(but),
        frozenset(_padded(bound.numbers) for bound in bounds if not bound.version.is_release),
        "".join(variants),
        max(bound.numbers[0] if bound.numbers else 0 for bound in bounds),
    )


def _conditions(text: str) -> Iterator[tuple[str, _Bound, _Bound]]:
    """Each condition: its operator, and from which version to which; these are the same but for `1.2 - 1.4`."""
    at = 0
    while at < len(text) or not text:
        found = _CONDITION.match(text, at)
        operator = _OPERATORS.get(found[1]) if found else None
        if found is None or operator is None or (found[1] and found[3]):
            raise ValueError(f"'{text}' is no range of versions; {_EXAMPLES}")
        first = _bound(found[2])
        yield operator, first, _bound(found[3]) if found[3] else first
        at = found.end()


def _bound(text: str) -> _Bound:
    wildcard = _WILDCARD.fullmatch(text)
    if wildcard is None:
        version = versions.parse(text)
        if version is not None:
            return _Bound(version.numbers, version)
    else:
        numbers = wildcard[1].removesuffix(".")
        version = versions.parse(f"{numbers or 0}{wildcard[2] or ''}")
        if version is not None and version.is_release:
            return _Bound(version.numbers if numbers else (), version)
    raise ValueError(f"'{text}' is no version; {_EXAMPLES}")


def _span(operator: str, bound: _Bound, last: _Bound) -> _Span:
    if operator == "=":
        return _Span(bound.first, last.end)
    if operator == ">":
        return _Span(bound.end, _END)
    if operator == ">=":
        return _Span(bound.first, _END)
    if operator == "<":
        return _Span(_FIRST, bound.first)
    if operator == "<=":
        return _Span(_FIRST, bound.end)
    if operator == "~":
        return _Span(bound.first, bound.after(min(2, len(bound.numbers))))
    return _Span(bound.first, bound.after(_compatible(bound.numbers)))


def _compatible(numbers: tuple[int, ...]) -> int:
    """How many numbers stay the same in what `^` means: up to the first that is not 0."""
    return next((place for place, number in enumerate(numbers, 1) if number), len(numbers))
