"""Scopes as clients ask the token service for them: `repository:team/app:pull,push`.

Pure. Source: distribution, "Token scope documentation": `type[(class)]:name:action[,action]`, several separated by
spaces; the class is to be ignored, and a name may hold a colon of its own (`host:port/name`).
"""

from __future__ import annotations

from collections.abc import Iterable

from homeport.auth.actors import EVERY_RIGHT, NO_RIGHT, Actor, Right, Scope
from homeport.auth.permissions import Policy, may_list, rights
from homeport.oci.errors import RequestInvalid
from homeport.oci.reference import DOCKER_HUB, hub_name, is_repository

#: A pull with mounts asks for a handful. More would make a token that fits into no header.
REPOSITORIES_MAX = 32
CHARACTERS_MAX = 16 * 1024

_RIGHTS = {right.value: frozenset({right}) for right in Right} | {"*": EVERY_RIGHT}


def parse(texts: Iterable[str]) -> Scope:
    """What is asked for. What nobody can have (unknown types, actions, impossible names) is left out; no error.

    Raises `RequestInvalid` where it is more than anybody needs.
    """
    texts = list(texts)
    if sum(map(len, texts)) > CHARACTERS_MAX:
        raise RequestInvalid("the scopes are too long")
    asked: dict[str, frozenset[Right]] = {}
    catalog = False
    for text in " ".join(texts).split():
        kind, first_colon, rest = text.partition(":")
        name, last_colon, actions = rest.rpartition(":")
        if not (first_colon and last_colon):
            continue
        kind = kind.partition("(")[0]
        if kind == "registry" and name == "catalog":
            catalog = catalog or "*" in actions.split(",")
        elif kind == "repository" and is_repository(name):
            for meant in _meant(name):
                for action in actions.split(","):
                    asked[meant] = asked.get(meant, NO_RIGHT) | _RIGHTS.get(action, NO_RIGHT)
    if len(asked) > REPOSITORIES_MAX:
        raise RequestInvalid(f"a token is good for at most {REPOSITORIES_MAX} repositories")
    return Scope(frozenset((name, right) for name, allowed in asked.items() for right in allowed), catalog)


def _meant(name: str) -> list[str]:
    """The repository of that name, and the one that its requests will be about if it is short for another's."""
    host, slash, rest = name.partition("/")
    whole = f"{host}/{hub_name(rest)}"
    return [name, whole] if slash and host == DOCKER_HUB and is_repository(whole) and whole != name else [name]


def granted(policy: Policy, actor: Actor, asked: Scope) -> Scope:
    """What of `asked` the actor may have. Fewer rights than asked for are no error."""
    repositories = frozenset(pair for pair in asked.repositories if pair[1] in rights(policy, actor, pair[0]))
    return Scope(repositories, asked.catalog and may_list(actor))


def access(scope: Scope) -> list[dict[str, object]]:
    """The scope as the `access` claim of a token has it, in a fixed order."""
    names = sorted({name for name, _ in scope.repositories})
    entries: list[dict[str, object]] = [
        {"type": "repository", "name": name, "actions": [right.value for right in _of(scope, name)]} for name in names
    ]
    return [*entries, {"type": "registry", "name": "catalog", "actions": ["*"]}] if scope.catalog else entries


def from_access(claim: object) -> Scope:
    """The scope that `access` wrote. Raises `ValueError` for anything else."""
    repositories: set[tuple[str, Right]] = set()
    catalog = False
    for entry in claim if isinstance(claim, list) else [None]:
        match entry:
            case {"type": "repository", "name": str(name), "actions": list(actions)}:
                repositories.update((name, Right(action)) for action in actions)
            case {"type": "registry", "name": "catalog", "actions": ["*"]}:
                catalog = True
            case _:
                raise ValueError("not the access claim of our tokens")
    return Scope(frozenset(repositories), catalog)


def text(scope: Scope) -> str:
    """The scope as an OAuth2 answer says it."""
    names = sorted({name for name, _ in scope.repositories})
    words = [f"repository:{name}:{','.join(right.value for right in _of(scope, name))}" for name in names]
    return " ".join([*words, "registry:catalog:*"] if scope.catalog else words)


def _of(scope: Scope, name: str) -> list[Right]:
    return [right for right in Right if (name, right) in scope.repositories]
