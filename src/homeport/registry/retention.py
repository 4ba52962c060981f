"""Which tags stay and which go, and why: pure decisions over the operator's rules. No SQL, no clock.

Holds:
- One rule decides about a tag: of those that are about its repository and about it, the one whose pattern of
  repositories is the longest, wildcards not counted; of several, the first. A tag that no rule is about stays.
- A tag stays if any condition of its rule keeps it. What is in use, immutable or in a protected repository stays
  whatever the rules say.
- Signatures and attestations are not decided about, nor counted among the newest: they go when their subject does.
- Each tag is decided on its own, also where several point at one manifest, which stays while one of them does. The
  order in which tags are handed in makes no difference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import nlargest, nsmallest

from homeport.oci import globs, patterns, versions
from homeport.oci.digest import Digest
from homeport.oci.versions import Version

#: The tags that a rule is about unless it says so.
ALL = (globs.EVERYTHING,)

_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


@dataclass(frozen=True, slots=True)
class SomeTags:
    """Some tags of some repositories."""

    #: A pattern of repositories.
    repositories: str
    #: The tags that are meant, as globs, and those of them that are not.
    tags: tuple[str, ...] = ALL
    not_tags: tuple[str, ...] = ()

    def means(self, tag: str) -> bool:
        """Whether a tag of this name, in these repositories, is one of them."""
        return globs.matches(self.tags, tag) and not globs.matches(self.not_tags, tag)


@dataclass(frozen=True, slots=True)
class KeepRule(SomeTags):
    """What is kept of the tags that it is about. None, and no glob: it does not say so."""

    #: So many tags, by when they were pushed.
    newest: int | None = None
    #: So many versions of each minor and variant, by their numbers.
    newest_of_minor: int | None = None
    pushed_within: float | None = None
    #: A tag that nobody pulled yet counts from its push.
    pulled_within: float | None = None
    always: tuple[str, ...] = ()
    #: How long an untagged manifest stays.
    untagged_after: float | None = None

    @property
    def decides(self) -> bool:
        """Whether it decides about tags; one that says nothing to keep is about untagged manifests alone."""
        conditions = (self.newest, self.newest_of_minor, self.pushed_within, self.pulled_within)
        return bool(self.always) or any(condition is not None for condition in conditions)


@dataclass(frozen=True, slots=True)
class ImmutableTags(SomeTags):
    """Tags that stay what they are."""


@dataclass(frozen=True, slots=True)
class Retention:
    """What the operator wants kept."""

    keep: tuple[KeepRule, ...] = ()
    immutable: tuple[ImmutableTags, ...] = ()
    #: Patterns of repositories of which nothing goes by itself.
    protected: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tagged:
    """What has to be known of a tag."""

    name: str
    digest: Digest
    pushed_at: float
    pulled_at: float | None = None
    #: Who uses it, in a sentence: "service web_api runs it on node-2".
    in_use: str | None = None
    #: What it is a signature or an attestation of, where that is what it is.
    companion_of: Digest | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a tag stays, and why it does or does not, for people."""

    tag: Tagged
    keeps: bool
    reason: str
    #: The rule that is about it, also where something stronger keeps it.
    rule: KeepRule | None


def decide(retention: Retention, repository: str, tags: Iterable[Tagged], now: float) -> list[Decision]:
    """What becomes of each tag of the repository, by name. Takes all of them, since the newest are counted."""
    rules = _deciding(retention, repository)
    immutable = [each for each in retention.immutable if patterns.matches(each.repositories, repository)]
    protected = why_protected(retention, repository)
    ordered = sorted(tags, key=lambda tag: tag.name)
    governing: dict[str, int] = {}
    governed: dict[int, list[Tagged]] = defaultdict(list)
    for tag in ordered:
        number = next((number for number, rule in enumerate(rules) if rule.means(tag.name)), None)
        if number is not None and tag.companion_of is None:
            governing[tag.name] = number
            governed[number].append(tag)
    kept: dict[str, str] = {}
    for number, of_rule in governed.items():
        kept |= _kept(rules[number], repository, of_rule, now)
    return [
        _decision(
            tag,
            _kept_whatever_the_rules_say(tag, protected, immutable),
            rules[governing[tag.name]] if tag.name in governing else None,
            kept,
        )
        for tag in ordered
    ]


def untagged_seconds(retention: Retention, repository: str, default: float) -> float:
    """How long a manifest of the repository stays after its last tag was lost."""
    rules = _by_length(retention, repository)
    longest = [rule for rule in rules if _length(rule.repositories) == _length(rules[0].repositories)]
    return next((rule.untagged_after for rule in longest if rule.untagged_after is not None), default)


def immutable_by(retention: Retention, repository: str, tag: str) -> str | None:
    """Which rule says that the tag never changes, for people: `v* (team/**)`."""
    return _immutable_by((each for each in retention.immutable if patterns.matches(each.repositories, repository)), tag)


def protected_by(retention: Retention, repository: str) -> str | None:
    """The pattern by which nothing of the repository goes by itself."""
    return next((pattern for pattern in retention.protected if patterns.matches(pattern, repository)), None)


def why_protected(retention: Retention, repository: str) -> str | None:
    """Why nothing of the repository goes by itself, for people."""
    by = protected_by(retention, repository)
    return None if by is None else f"protected repository ({by})"


def belongs_to(subject: Digest) -> str:
    """Why a signature or an attestation stays that nothing else keeps."""
    return f"belongs to {subject} and goes when that does"


def span(seconds: float) -> str:
    """How long that is, for people: `30 days`, `90 minutes`."""
    for unit, size in _UNITS:
        if seconds >= size and seconds % size == 0:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{seconds:g} seconds"


def _by_length(retention: Retention, repository: str) -> list[KeepRule]:
    """The rules about the repository, those with the longest pattern first."""
    matching = (rule for rule in retention.keep if patterns.matches(rule.repositories, repository))
    return sorted(matching, key=lambda rule: -_length(rule.repositories))


def _deciding(retention: Retention, repository: str) -> list[KeepRule]:
    return [rule for rule in _by_length(retention, repository) if rule.decides]


def _length(pattern: str) -> int:
    return len(pattern) - pattern.count("*")


def _decision(tag: Tagged, stronger: str | None, rule: KeepRule | None, kept: dict[str, str]) -> Decision:
    if stronger is not None:
        return Decision(tag, True, stronger, rule)
    if rule is None:
        return Decision(tag, True, "no rule is about it", None)
    if tag.name in kept:
        return Decision(tag, True, kept[tag.name], rule)
    return Decision(tag, False, f"no condition of {rule.repositories} keeps it", rule)


def _kept_whatever_the_rules_say(tag: Tagged, protected: str | None, immutable: list[ImmutableTags]) -> str | None:
    if protected is not None:
        return protected
    if by := _immutable_by(immutable, tag.name):
        return f"immutable: {by}"
    if tag.in_use is not None:
        return tag.in_use
    if tag.companion_of is not None:
        return belongs_to(tag.companion_of)
    return None


def _immutable_by(rules: Iterable[ImmutableTags], tag: str) -> str | None:
    for each in rules:
        if each.means(tag):
            return f"{_first_match(each.tags, tag)} ({each.repositories})"
    return None


def _first_match(of: tuple[str, ...], tag: str) -> str:
    return next(glob for glob in of if globs.matches((glob,), tag))


def _kept(rule: KeepRule, repository: str, tags: list[Tagged], now: float) -> dict[str, str]:
    """The tags that the rule keeps, by name, and by which condition; the first in this order, where several do."""
    found: dict[str, str] = {}
    for name, reason in _conditions(rule, repository, tags, now):
        found.setdefault(name, reason)
    return found


def _conditions(rule: KeepRule, repository: str, tags: list[Tagged], now: float) -> Iterator[tuple[str, str]]:
    by = f"({rule.repositories})"
    if rule.always:
        for tag in tags:
            if globs.matches(rule.always, tag.name):
                yield tag.name, f"always kept: {_first_match(rule.always, tag.name)} {by}"
    if rule.newest is not None:
        reason = f"newest {rule.newest} of {repository}"
        for tag in nsmallest(rule.newest, tags, key=lambda tag: (-tag.pushed_at, tag.name)):
            yield tag.name, reason
    if rule.newest_of_minor is not None:
        for name, minor in _newest_of_minor(rule.newest_of_minor, tags):
            yield name, f"newest {rule.newest_of_minor} of {minor} in {repository}"
    if rule.pushed_within is not None:
        since, reason = now - rule.pushed_within, f"pushed within {span(rule.pushed_within)} {by}"
        for tag in tags:
            if tag.pushed_at >= since:
                yield tag.name, reason
    if rule.pulled_within is not None:
        since, within = now - rule.pulled_within, span(rule.pulled_within)
        for tag in tags:
            if tag.pulled_at is not None and tag.pulled_at >= since:
                yield tag.name, f"pulled within {within} {by}"
            elif tag.pulled_at is None and tag.pushed_at >= since:
                yield tag.name, f"pushed within {within} and not pulled yet {by}"


def _newest_of_minor(count: int, tags: list[Tagged]) -> Iterator[tuple[str, str]]:
    """The tags of the newest versions of each minor and variant, with what these are called.

    A pre-release never takes a release's place: besides the newest versions, the newest releases are counted.
    """
    minors: dict[object, list[tuple[str, Version]]] = defaultdict(list)
    for tag in tags:
        if version := versions.parse(tag.name):
            minors[version.series, version.minor].append((tag.name, version))
    for found in minors.values():
        everything = {version.precedence for _, version in found}
        releases = {version.precedence for _, version in found if version.is_release}
        newest = {*nlargest(count, everything), *nlargest(count, releases)}
        first = found[0][1]
        called = ".".join(map(str, first.minor)) + (f"-{first.variant}" if first.variant else "")
        for name, version in found:
            if version.precedence in newest:
                yield name, called
