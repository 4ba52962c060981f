"""What an actor may do on a repository: pure decisions over one policy.

Holds: rules add up, in any order. Who is logged in may do what anybody may. A rule with `visibility: private` takes
away the blanket rights (`anonymous`, `signed_in`) on what it matches, never what a rule gives. A token can only narrow
the rights of its user; the one thing it never takes away is the pulling that needs no login. A bearer token's scope
narrows everything. Rights are worked out from the policy of now, whenever a token was made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

from homeport.auth.actors import EVERY_RIGHT, NO_RIGHT, Actor, Limit, Right
from homeport.auth.errors import PolicyInvalid
from homeport.oci import patterns

__all__ = ["Policy", "Right", "Rule", "Visibility", "may", "may_administer", "may_list", "rights"]

Visibility: TypeAlias = Literal["public", "private"]

#: The names in `Rule.allow` that are nobody's: everybody who is logged in, and everybody.
SIGNED_IN: Final = "*"
ANYBODY: Final = "anonymous"
#: The pattern of every repository.
EVERYTHING: Final = "**"

#: How many answers a policy remembers. When they are that many it forgets all and begins anew.
ANSWERS_MAX = 8192

_PULL: Final = frozenset({Right.PULL})


@dataclass(frozen=True, slots=True)
class Rule:
    """Rights on the repositories of some patterns.

    The names in `allow` are those of users and groups, "*" (everybody who is logged in) and "anonymous" (everybody).
    A plain name is the group of that name where there is one, else the user; "user:ada" and "group:ops" say which.
    """

    patterns: tuple[str, ...]
    allow: Mapping[str, frozenset[Right]] = field(default_factory=dict)
    visibility: Visibility | None = None


class _Compiled(NamedTuple):
    match: re.Pattern[str]
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
    _rules: tuple[_Compiled, ...] = field(init=False, repr=False, compare=False)
    _answers: dict[tuple[Actor, str], frozenset[Right]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rules", tuple(_compile(rule, self.groups) for rule in self.rules))
        object.__setattr__(self, "_answers", {})

    def groups_of(self, user: str) -> frozenset[str]:
        """The groups that the user is in."""
        return frozenset(group for group, members in self.groups.items() if user in members)


def rights(policy: Policy, actor: Actor, repository: str) -> frozenset[Right]:
    """Everything that `actor` may do on `repository`."""
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
    """Whether `actor` may ask which repositories there are; it is told of those in `listable` only.

    Everybody may, but with a bearer token only if that was asked for `registry:catalog:*`.
    """
    return actor.scope is None or actor.scope.catalog


def listable(policy: Policy, actor: Actor, repository: str) -> bool:
    """Whether `actor`, who `may_list`, is told of `repository`: it may pull there, for which it needs another scope."""
    if actor.scope is not None:
        actor = Actor(actor.kind, actor.name, actor.groups, actor.admin, actor.limits)
    return may(policy, actor, Right.PULL, repository)


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


def _work_out(policy: Policy, actor: Actor, repository: str) -> frozenset[Right]:
    matching = [rule for rule in policy._rules if rule.match.fullmatch(repository)]  # noqa: SLF001
    blanket = not any(rule.private for rule in matching)
    anybody = _union(rule.anybody for rule in matching) | (policy.anonymous if blanket else NO_RIGHT)
    held = anybody
    if actor.kind == "system" or actor.admin or actor.kind == "robot":
        held = EVERY_RIGHT  # A robot's are cut to its limits, which it always has.
    elif actor.kind == "user":
        held |= policy.signed_in if blanket else NO_RIGHT
        for rule in matching:
            held |= rule.signed_in | rule.users.get(actor.name, NO_RIGHT)
            held |= _union(rule.groups.get(group, NO_RIGHT) for group in actor.groups)
    if actor.limits is not None:
        held = (held & _limited(actor.limits, repository)) | (anybody & _PULL)
    if actor.scope is not None:
        held = frozenset(right for right in held if (repository, right) in actor.scope.repositories)
    return held


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
    return _Compiled(match, rule.visibility == "private", anybody, signed_in, by_user, by_group)


def _expanded(allowed: frozenset[Right]) -> frozenset[Right]:
    return EVERY_RIGHT if Right.ADMIN in allowed else frozenset(allowed)


def _union(sets: Iterable[frozenset[Right]]) -> frozenset[Right]:
    return NO_RIGHT.union(*sets)
