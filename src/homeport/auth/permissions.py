"""What an actor may do on a repository: pure decisions over one policy.

Holds: rules add up, in any order. Who is logged in may do what anybody may. A rule with `visibility: private` takes
away the blanket rights (`anonymous`, `signed_in`) on what it matches, never what a rule gives. A token can only narrow
the rights of its user; the one thing it never takes away is the pulling that needs no login. A bearer token's scope
narrows everything. Rights are worked out from the policy of now, whenever a token was made.

Names below an upstream's folder (`docker.io/...`) are that upstream's: nobody pushes there, administrators neither, but
where a rule that begins with the folder says so. What upstream does not show to everybody is not had as anybody, but
where a rule that names it says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple, TypeAlias

from homeport.auth.actors import EVERY_RIGHT, NO_RIGHT, Actor, Limit, Right
from homeport.auth.errors import PolicyInvalid
from homeport.auth.networks import Networks
from homeport.oci import patterns

__all__ = ["Held", "Policy", "Right", "Rule", "Visibility", "held", "may", "may_administer", "may_list", "rights"]

Visibility: TypeAlias = Literal["public", "private"]

#: The names in `Rule.allow` that are nobody's: everybody who is logged in, and everybody.
SIGNED_IN: Final = "*"
ANYBODY: Final = "anonymous"
#: The pattern of every repository.
EVERYTHING: Final = "**"

#: How many answers a policy remembers. When they are that many it forgets all and begins anew.
ANSWERS_MAX = 8192

#: A rule names a repository if so many parts of its pattern have no wildcard: `ghcr.io/ours/**`, not `ghcr.io/**`.
NAMED_PARTS = 2

_PULL: Final = frozenset({Right.PULL})
_PUSH: Final = frozenset({Right.PUSH})


@dataclass(frozen=True, slots=True)
class Rule:
    """Rights on the repositories of some patterns.

    The names in `allow` are those of users and groups, "*" (everybody who is logged in) and "anonymous" (everybody).
    A plain name is the group of that name where there is one, else the user; "user:ada" and "group:ops" say which.
    """

    patterns: tuple[str, ...]
    allow: Mapping[str, frozenset[Right]] = field(default_factory=dict)
    visibility: Visibility | None = None


class Held(NamedTuple):
    """What an actor may do on a repository."""

    rights: frozenset[Right]
    #: Whether it may pull only because anybody may: then not what upstream does not show to everybody.
    pulls_as_anybody: bool


class _Compiled(NamedTuple):
    match: re.Pattern[str]
    #: The first part that all its patterns begin with; None where they differ, or begin with a wildcard.
    first: str | None
    #: Whether its patterns say which repositories are meant, and not just of which kind.
    names: bool
    private: bool
    anybody: frozenset[Right]
    signed_in: frozenset[Right]
    users: Mapping[str, frozenset[Right]]
    groups: Mapping[str, frozenset[Right]]


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may do what. Raises `PolicyInvalid` for a pattern or a name that cannot be meant."""

    #: Rights without login, on every repository that no rule makes private.
    anonymous: frozenset[Right] = NO_RIGHT
    #: Rights of every user who is logged in, likewise.
    signed_in: frozenset[Right] = frozenset({Right.PULL, Right.PUSH})
    rules: tuple[Rule, ...] = ()
    #: The names of the users in each group.
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)
    #: The first parts of names that are upstreams', and those of them that nodes may pull below.
    upstreams: frozenset[str] = frozenset()
    cached: frozenset[str] = frozenset()
    #: Whoever asks from there without a login is a node.
    networks: Networks = ()
    _rules: tuple[_Compiled, ...] = field(init=False, repr=False, compare=False)
    _answers: dict[tuple[Actor, str], Held] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rules", tuple(_compile(rule, self.groups) for rule in self.rules))
        object.__setattr__(self, "_answers", {})

    def groups_of(self, user: str) -> frozenset[str]:
        """The groups that the user is in."""
        return frozenset(group for group, members in self.groups.items() if user in members)


def rights(policy: Policy, actor: Actor, repository: str) -> frozenset[Right]:
    """Everything that `actor` may do on `repository`."""
    return held(policy, actor, repository).rights


def held(policy: Policy, actor: Actor, repository: str) -> Held:
    """The same, and whether its pulling is what anybody may."""
    answers = policy._answers  # noqa: SLF001 (the policy's memory is this module's)
    found = answers.get((actor, repository))
    if found is None:
        if len(answers) >= ANSWERS_MAX:
            answers.clear()
        found = answers[actor, repository] = _work_out(policy, actor, repository)
    return found


def may(policy: Policy, actor: Actor, right: Right, repository: str) -> bool:
    """Whether `actor` has `right` on `repository`."""
    return right in rights(policy, actor, repository)


def may_list(actor: Actor) -> bool:
    """Whether `actor` may ask which repositories there are; it is told of those that it may pull from.

    Everybody may, but with a bearer token only if that was asked for `registry:catalog:*`.
    """
    return actor.scope is None or actor.scope.catalog


def unscoped(actor: Actor) -> Actor:
    """The same, whatever its bearer token was asked for."""
    return actor if actor.scope is None else replace(actor, scope=None)


def is_upstreams(policy: Policy, repository: str) -> bool:
    """Whether the name is an upstream's."""
    return _folder(repository) in policy.upstreams


def may_administer(actor: Actor) -> bool:
    """Whether `actor` may see and change what belongs to the whole registry: its runs, its audit log, its secrets.

    Administrators may, and robots; with a token of either that has limits, only if those give `admin` on `**`. A bearer
    token never: it was asked for to reach repositories.
    """
    if actor.scope is not None or not (actor.admin or actor.kind == "robot"):
        return False
    return actor.limits is None or any(
        Right.ADMIN in limit.rights and EVERYTHING in limit.patterns for limit in actor.limits
    )


def _folder(repository: str) -> str:
    """The first part of a name that has more of them."""
    first, slash, _ = repository.partition("/")
    return first if slash else ""


def _work_out(policy: Policy, actor: Actor, repository: str) -> Held:
    matching = [rule for rule in policy._rules if rule.match.fullmatch(repository)]  # noqa: SLF001
    is_blanket = not any(rule.private for rule in matching)
    anybody = _union(rule.anybody for rule in matching) | (policy.anonymous if is_blanket else NO_RIGHT)
    if actor.kind == "node" and is_blanket and _folder(repository) in policy.cached:
        anybody |= _PULL
    own = NO_RIGHT
    if actor.kind == "system" or actor.admin or actor.kind == "robot":
        own = EVERY_RIGHT  # A robot's are cut to its limits, which it always has.
    elif actor.kind == "user":
        own = _given(matching, actor) | (policy.signed_in if is_blanket else NO_RIGHT)
    if actor.kind != "system" and is_upstreams(policy, repository) and not _may_push_below(matching, actor, repository):
        anybody, own = anybody - _PUSH, own - _PUSH
    found = _narrowed(actor, repository, own, anybody)
    named = _union(rule.anybody for rule in matching if rule.names)
    as_anybody = Right.PULL in found and Right.PULL not in _narrowed(actor, repository, own, anybody & named)
    return Held(found, as_anybody)


def _given(rules: Iterable[_Compiled], actor: Actor) -> frozenset[Right]:
    """What the rules give to a user, beside what they give to anybody."""
    given = NO_RIGHT
    for rule in rules:
        given |= rule.signed_in | rule.users.get(actor.name, NO_RIGHT)
        given |= _union(rule.groups.get(group, NO_RIGHT) for group in actor.groups)
    return given


def _may_push_below(matching: Iterable[_Compiled], actor: Actor, repository: str) -> bool:
    """Whether a rule that begins with the upstream's folder lets the actor push; an administrator or robot, anybody."""
    folder = _folder(repository)
    rules = [rule for rule in matching if rule.first == folder]
    given = _union(rule.anybody for rule in rules)
    if actor.kind == "user" and not actor.admin:
        given |= _given(rules, actor)
    elif actor.kind in {"user", "robot"}:
        given |= _union(_union([rule.signed_in, *rule.users.values(), *rule.groups.values()]) for rule in rules)
    return Right.PUSH in given


def _narrowed(actor: Actor, repository: str, own: frozenset[Right], anybody: frozenset[Right]) -> frozenset[Right]:
    """What the actor's token leaves of its own rights and of anybody's."""
    left = own | anybody
    if actor.limits is not None:
        left = (left & _limited(actor.limits, repository)) | (anybody & _PULL)
    if actor.scope is not None:
        left = frozenset(right for right in left if (repository, right) in actor.scope.repositories)
    return left


def _limited(limits: Iterable[Limit], repository: str) -> frozenset[Right]:
    return _union(
        _expanded(limit.rights)
        for limit in limits
        if any(patterns.matches(pattern, repository) for pattern in limit.patterns)
    )


def _compile(rule: Rule, groups: Mapping[str, object]) -> _Compiled:
    try:
        match = re.compile("|".join(patterns.compiled(pattern).pattern for pattern in rule.patterns))
    except ValueError as error:
        raise PolicyInvalid(str(error)) from None
    if not rule.patterns:
        raise PolicyInvalid("a rule without a pattern matches nothing")
    anybody = _PULL if rule.visibility == "public" else NO_RIGHT
    signed_in = NO_RIGHT
    by_user: dict[str, frozenset[Right]] = {}
    by_group: dict[str, frozenset[Right]] = {}
    for subject, allowed in rule.allow.items():
        given = _expanded(allowed)
        kind, colon, name = subject.partition(":")
        if subject == ANYBODY:
            anybody |= given
        elif subject == SIGNED_IN:
            signed_in |= given
        elif not colon:
            named = by_group if subject in groups else by_user
            named[subject] = named.get(subject, NO_RIGHT) | given
        elif kind == "user" and name:
            by_user[name] = by_user.get(name, NO_RIGHT) | given
        elif kind == "group" and name in groups:
            by_group[name] = by_group.get(name, NO_RIGHT) | given
        else:
            raise PolicyInvalid(f"'{subject}': there is no such group" if kind == "group" else f"'{subject}' is nobody")
    firsts = {pattern.partition("/")[0] for pattern in rule.patterns}
    first = firsts.pop() if len(firsts) == 1 else "*"
    return _Compiled(
        match,
        first if "*" not in first else None,
        all("*" not in part for pattern in rule.patterns for part in pattern.split("/")[:NAMED_PARTS]),
        rule.visibility == "private",
        anybody,
        signed_in,
        by_user,
        by_group,
    )


def _expanded(allowed: frozenset[Right]) -> frozenset[Right]:
    return EVERY_RIGHT if Right.ADMIN in allowed else frozenset(allowed)


def _union(sets: Iterable[frozenset[Right]]) -> frozenset[Right]:
    return NO_RIGHT.union(*sets)
