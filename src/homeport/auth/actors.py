"""Who asks: an actor, its rights' names, and what its credentials are limited to.

Holds: an actor is trusted by what it is (its kind and the row or setting it came from), never by how its name looks. A
robot and a user of the same name have nothing in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, TypeAlias

Kind: TypeAlias = Literal["anonymous", "node", "user", "robot", "system"]


class Right(StrEnum):
    """What may be allowed on a repository."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    #: Everything above, and what only an owner should decide about the repository.
    ADMIN = "admin"


EVERY_RIGHT: Final = frozenset(Right)
NO_RIGHT: Final[frozenset[Right]] = frozenset()


@dataclass(frozen=True, slots=True)
class Limit:
    """What a personal or robot token is limited to: these rights, on the repositories of these patterns."""

    patterns: tuple[str, ...]
    rights: frozenset[Right]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a bearer token was given by the token service. It can only take rights away."""

    repositories: frozenset[tuple[str, Right]]
    #: `registry:catalog:*`: whether the bearer may list repositories.
    catalog: bool = False


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody who asks. Two actors that are equal have equal rights under the same policy.

    `limits` is what the personal or robot token allows (None: it was no such token), `scope` what the bearer token
    allows (None: it was no bearer token). Both narrow; only a robot's limits are also its rights.
    """

    kind: Kind
    name: str
    groups: frozenset[str] = frozenset()
    admin: bool = False
    limits: tuple[Limit, ...] | None = None
    scope: Scope | None = None

    def __post_init__(self) -> None:
        if self.kind == "robot" and (self.limits is None or self.admin or self.groups):
            raise ValueError("a robot has the rights of its token and no others")

    @property
    def is_nobody(self) -> bool:
        """Whether it showed no credentials, not even a bearer token: logging in may help it."""
        return self.scope is None and self.kind in {"anonymous", "node"}

    def __str__(self) -> str:
        """As it stands in the audit log: 'user:ada', 'robot:ci', 'anonymous', 'system'."""
        return f"{self.kind}:{self.name}" if self.name else self.kind


ANONYMOUS: Final = Actor("anonymous", "")
#: Nobody in particular as well, who asks from a network whose machines may pull what the cache fetched.
NODE: Final = Actor("node", "")
#: The program itself: mirrors, cleanups, restores.
SYSTEM: Final = Actor("system", "", admin=True)
