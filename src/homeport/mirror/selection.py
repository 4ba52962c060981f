"""Which tags of an upstream repository are meant: pure decisions over what the operator wrote. No SQL, no clock.

Holds:
- The tags of `list` are meant always, whether upstream has them or not, and are not counted among the newest. Of the
  others those are meant that fit every condition; where there is a list and no condition, none.
- Conditions look at the name first, then count: `minors` and `patches` over the versions that are left, `newest` over
  what they leave. So `minors: 2, patches: 3` is the newest three patch releases of the newest two minor versions.
- What counts versions counts each series for itself (`3.20` does not compete with `3.20.1` or `3.20-alpine`, nor a date
  with `3`) and leaves out what is no version. A pre-release is left out too unless it is asked for, and never takes a
  release's place: the newest releases are counted beside the newest versions, as cleanup does.
- `by: created` counts all tags together, by when their images were made, whatever they are called.
- Signatures and attestations that have a tag go with their subject: no condition means them.
- The order in which names are handed in makes no difference, and each tag that is not selected has a reason.

The expressions are the operator's: nobody else can write one that takes long. All else is linear in the names.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from heapq import nlargest, nsmallest
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from homeport.oci import companions, globs, version_ranges, versions
from homeport.oci.version_ranges import Range
from homeport.oci.versions import Version

_NOTHING: Mapping[str, float] = MappingProxyType({})
_TIME_UNKNOWN = "when it was made is not known"

#: Tags that nothing has ruled out yet, each with its version where these are read.
_Candidates: TypeAlias = dict[str, Version | None]


@dataclass(frozen=True, slots=True)
class Selector:
    """Which tags are meant, as `tags:` of a mirrored image says it."""

    list: tuple[str, ...] = ()
    glob: tuple[str, ...] = ()
    #: Regular expressions, any of which is found somewhere in the tag.
    match: tuple[str, ...] = ()
    not_match: tuple[str, ...] = ()
    #: A range, as `oci.version_ranges` reads it.
    semver: str | None = None
    #: Whether `semver` and what counts versions mean pre-releases, too.
    prereleases: bool = False
    newest: int | None = None
    by: Literal["semver", "created"] = "semver"
    minors: int | None = None
    patches: int | None = None

    @property
    def is_only_a_list(self) -> bool:
        """Whether it can be told without upstream's list of tags."""
        conditions = (self.glob, self.match, self.not_match, self.newest, self.minors, self.patches)
        return bool(self.list) and self.semver is None and not any(conditions)

    @property
    def reads_versions(self) -> bool:
        """Whether it leaves out what is no version."""
        return bool(self.semver is not None or self.minors or self.patches or (self.newest and self.by == "semver"))


@dataclass(frozen=True, slots=True)
class Selected:
    """What is meant of a repository's tags."""

    #: By name.
    tags: tuple[str, ...]
    #: Of each other tag, why it is not meant, for people.
    why_not: Mapping[str, str] = field(default_factory=dict)
    #: Tags of which has to be known when their images were made, before any tag that is not in the list is meant.
    needs_created: tuple[str, ...] = ()
    #: Tags of the list that are not among the names.
    absent: tuple[str, ...] = ()


def select(selector: Selector, names: Iterable[str], created: Mapping[str, float] = _NOTHING) -> Selected:
    """Which of the tags are meant. Takes all names that upstream has, since the newest are counted.

    `created` is when the images of tags were made: of those that a first answer needs, 0 where an image does not say.
    """
    here, listed = set(names), set(selector.list)
    why_not = _unfit_names(selector, here - listed)
    left: _Candidates = {
        name: versions.parse(name) if selector.reads_versions else None for name in here - listed - why_not.keys()
    }
    for step in (_unfit_versions, _of_older_minors, _of_older_patches, _of_older_versions):
        gone = step(selector, left)
        why_not |= gone
        left = {name: version for name, version in left.items() if name not in gone}
    needs_created: tuple[str, ...] = ()
    if selector.newest is not None and selector.by == "created" and len(left) > selector.newest:
        needs_created = tuple(sorted(left.keys() - created.keys()))
        gone = dict.fromkeys(left, _TIME_UNKNOWN) if needs_created else _made_earlier(selector.newest, left, created)
        why_not |= gone
        left = {name: version for name, version in left.items() if name not in gone}
    return Selected(
        tags=tuple(sorted({*listed, *left})),
        why_not=dict(sorted(why_not.items())),
        needs_created=needs_created,
        absent=tuple(sorted(listed - here)),
    )


def may_share(first: Selector, second: Selector) -> bool:
    """Whether both may mean one tag. Where neither is only a list, that depends on the tags that there are."""
    if first.is_only_a_list:
        return any(_may_mean(second, name) for name in first.list)
    if second.is_only_a_list:
        return any(_may_mean(first, name) for name in second.list)
    return True


def _may_mean(selector: Selector, name: str) -> bool:
    """Whether nothing but newer tags can keep this one from being meant."""
    if name in selector.list:
        return True
    return not (_unfit_name(selector, name) or _unfit_versions(selector, {name: versions.parse(name)}))


def referrer_wanted(artifact_type: str | None, types: tuple[str, ...], not_types: tuple[str, ...]) -> bool:
    """Whether a referrer of this type comes with its subject; both are globs, and no `types` mean any."""
    called = artifact_type or ""
    return (not types or globs.matches(types, called)) and not globs.matches(not_types, called)


def _unfit_names(selector: Selector, names: Iterable[str]) -> dict[str, str]:
    return {name: reason for name in names if (reason := _unfit_name(selector, name))}


def _unfit_name(selector: Selector, name: str) -> str | None:
    if subject := companions.subject(name):
        return f"belongs to {subject} and comes with that"
    if selector.is_only_a_list:
        return "not in the list"
    if selector.glob and not globs.matches(selector.glob, name):
        return "no 'glob' means it"
    if selector.match and _first_found(selector.match, name) is None:
        return "no 'match' is found in it"
    excluded = _first_found(selector.not_match, name)
    return None if excluded is None else f"'{excluded}' is found in it"


def _unfit_versions(selector: Selector, candidates: _Candidates) -> dict[str, str]:
    if not selector.reads_versions:
        return {}
    wanted = version_ranges.parse(selector.semver) if selector.semver is not None else None
    return {
        name: reason
        for name, version in candidates.items()
        if (reason := _unfit_version(version, wanted, selector.prereleases))
    }


def _unfit_version(version: Version | None, wanted: Range | None, prereleases: bool) -> str | None:
    if version is None:
        return "not a version"
    if wanted is None:
        return None if version.is_release or prereleases else "a pre-release"
    if version.variant not in wanted.variants:
        return f"{wanted} names no variant {version.variant}" if version.variant else f"{wanted} names a variant"
    if wanted.contains(version, prereleases):
        return None
    return "a pre-release" if wanted.contains(version, prereleases=True) else f"not in {wanted}"


def _of_older_minors(selector: Selector, candidates: _Candidates) -> dict[str, str]:
    return _behind(selector.minors, candidates, _series, lambda version: version.minor, "minor versions")


def _of_older_patches(selector: Selector, candidates: _Candidates) -> dict[str, str]:
    return _behind(
        selector.patches,
        candidates,
        lambda version: (_series(version), version.minor),
        _precedence,
        "of its minor version",
    )


def _of_older_versions(selector: Selector, candidates: _Candidates) -> dict[str, str]:
    newest = selector.newest if selector.by == "semver" else None
    return _behind(newest, candidates, _series, _precedence, "versions")


def _behind(
    count: int | None,
    candidates: _Candidates,
    group: Callable[[Version], Hashable],
    key: Callable[[Version], Any],
    what: str,
) -> dict[str, str]:
    """Those of each group whose `key` is neither among the newest so many, nor among those of the releases."""
    if count is None:
        return {}
    groups: dict[Hashable, list[tuple[str, Any, bool]]] = defaultdict(list)
    for name, version in candidates.items():
        assert version is not None, "what is no version was left out before versions are counted"
        groups[group(version)].append((name, key(version), version.is_release))
    reason = f"not of the newest {count} {what}"
    found: dict[str, str] = {}
    for members in groups.values():
        newest = {
            *nlargest(count, {each for _, each, _ in members}),
            *nlargest(count, {each for _, each, is_release in members if is_release}),
        }
        found |= {name: reason for name, each, _ in members if each not in newest}
    return found


def _made_earlier(count: int, candidates: _Candidates, created: Mapping[str, float]) -> dict[str, str]:
    newest = nsmallest(count, candidates, key=lambda name: (-created[name], name))
    return dict.fromkeys(candidates.keys() - newest, f"not of the newest {count}")


def _series(version: Version) -> Hashable:
    return version.series, version_ranges.is_date(version)


def _precedence(version: Version) -> Any:
    return version.precedence


def _first_found(expressions: tuple[str, ...], name: str) -> str | None:
    return next((each for each in expressions if re.search(each, name)), None)
