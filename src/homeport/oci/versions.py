"""Versions that tags name: `1.4.2`, `v1.4.2`, `1.4`, `1.4.2-rc.1`, `1.4.2-alpine`.

Source: semver 2.0, section 11, for what comes before what.

Holds: a tag is a version if it is one to three numbers between dots, with or without a leading `v`. Behind them may be
- a pre-release: a number (`1.4.2-1`), or a word that everybody uses for one (`1.4.2-rc.1`, `-rc1`, `-RC-1`, `1.4rc1`);
- the variant, which is any other text behind a `-`: `-alpine`, `-rc.1-alpine`, `-slim-bookworm`, `-debian-12-r3`;
- behind a `_`, the build, which is `+` in semver and a character that no tag may have. It makes no difference.

Two tags compete only if they are of one series: the same variant and as many numbers. `1.4.2-alpine` is not newer than
`1.4.1`, and `1.4` is not older than `1.4.2`: it is most often another name for it.

Where we leave semver: digits beside letters count as a number (rc9 comes before rc10), upper and lower case are one,
and numbers may begin with 0, as those of dates do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

#: No tag is longer. Nothing longer is looked at.
CHARACTERS_MAX = 128

_WORDS = "alpha|beta|rc|cr|pre|preview|prerelease|dev|snapshot|nightly|canary|next|milestone|ea"
_VERSION = re.compile(
    r"[vV]?(?P<numbers>[0-9]{1,18}(?:\.[0-9]{1,18}){0,2})"
    rf"(?P<prerelease>(?:-?(?:{_WORDS})[0-9]*|-[0-9]+)(?:\.[0-9a-z]+|-[0-9]+)*+(?![^_-]))?"
    r"(?:-(?P<variant>[0-9a-z][0-9a-z.-]*))?"
    r"(?:_.*)?",
    re.IGNORECASE | re.ASCII,
)
_IDENTIFIER = re.compile(r"[0-9]+|[a-z]+")

#: Numbers come before words, as semver has it.
_Identifier: TypeAlias = tuple[int, int, str]


@dataclass(frozen=True, slots=True)
class Version:
    """The version that a tag names."""

    numbers: tuple[int, ...]
    #: Empty for a release.
    prerelease: tuple[_Identifier, ...]
    #: Empty where the tag has none.
    variant: str

    @property
    def is_release(self) -> bool:
        return not self.prerelease

    @property
    def series(self) -> tuple[int, str]:
        """What a version competes within: how many numbers it has, and the variant."""
        return len(self.numbers), self.variant

    @property
    def minor(self) -> tuple[int, ...]:
        """Its first two numbers, or the only one."""
        return self.numbers[:2]

    @property
    def precedence(self) -> tuple[tuple[int, ...], bool, tuple[_Identifier, ...]]:
        """Sorts the versions of a series, the oldest first. Equal for what differs in `v`, build or case only."""
        return self.numbers, self.is_release, self.prerelease


def parse(tag: str) -> Version | None:
    """The version that the tag names, or None. Takes time in proportion to the tag's length."""
    found = _VERSION.fullmatch(tag) if len(tag) <= CHARACTERS_MAX else None
    if found is None:
        return None
    return Version(
        tuple(map(int, found["numbers"].split("."))),
        tuple(map(_identifier, _IDENTIFIER.findall((found["prerelease"] or "").lower()))),
        (found["variant"] or "").lower(),
    )


def _identifier(text: str) -> _Identifier:
    return (0, int(text), "") if text.isdigit() else (1, 0, text)
