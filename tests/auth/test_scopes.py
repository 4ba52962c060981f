"""Scopes as clients ask for them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.auth import scopes
from homeport.auth.actors import ANONYMOUS, EVERY_RIGHT, Actor, Right, Scope
from homeport.auth.permissions import Policy, Rule, rights
from homeport.oci.errors import RequestInvalid

PULL, PUSH, DELETE, ADMIN = Right


def of(**repositories: str) -> Scope:
    return Scope(
        frozenset(
            (name.replace("__", "/"), Right(word)) for name, words in repositories.items() for word in words.split()
        )
    )


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], Scope(frozenset())),
        (["repository:team/app:pull"], of(team__app="pull")),
        (["repository:team/app:pull,push"], of(team__app="pull push")),
        (["repository:a:pull repository:b:push"], of(a="pull", b="push")),
        (["repository:a:pull", "repository:b:push"], of(a="pull", b="push")),
        (["repository:a:pull", "repository:a:push"], of(a="pull push")),
        (["repository(plugin):a:pull"], of(a="pull")),
        (["repository:a:*"], of(a="pull push delete admin")),
        (["registry:catalog:*"], Scope(frozenset(), catalog=True)),
        (["registry:catalog:*  repository:a:pull"], Scope(frozenset({("a", PULL)}), catalog=True)),
        (["registry:catalog:pull"], Scope(frozenset())),
        (["registry:other:*"], Scope(frozenset())),
        (["repository:host:5000/a:pull"], Scope(frozenset())),
        (["repository:**:pull", "repository:../x:pull", "repository:A:pull", "repository::pull"], Scope(frozenset())),
        (["repository:a:", "repository:a:fly", "repository:a:PULL"], Scope(frozenset())),
        (["repository", "repository:a", ":", "::", ":::", "plugin:a:pull", "("], Scope(frozenset())),
    ],
)
def test_parse(texts: list[str], expected: Scope) -> None:
    assert scopes.parse(texts) == expected


NAMES = st.sampled_from(["a", "b/c", "team/app", "x-y.z/a__b"])
SCOPES = st.builds(
    Scope, st.frozensets(st.tuples(NAMES, st.sampled_from(Right))), st.booleans()
)  # fmt: skip


@given(SCOPES)
def test_what_is_written_is_read_back(scope: Scope) -> None:
    assert scopes.parse([scopes.text(scope)]) == scope
    assert scopes.from_access(scopes.access(scope)) == scope


@given(st.lists(st.text(max_size=60), max_size=5))
def test_any_text_is_read_or_refused(texts: list[str]) -> None:
    for name, right in scopes.parse(texts).repositories:
        assert f":{name}:" in " ".join(texts)
        assert right in EVERY_RIGHT


def test_more_than_a_token_can_hold_is_refused() -> None:
    asked = [f"repository:app{number}:pull" for number in range(scopes.REPOSITORIES_MAX)]
    scopes.parse(asked)
    with pytest.raises(RequestInvalid):
        scopes.parse([*asked, "repository:one/more:pull"])
    with pytest.raises(RequestInvalid):
        scopes.parse([" " * scopes.CHARACTERS_MAX + "a"])


@given(SCOPES, st.sampled_from([ANONYMOUS, Actor("user", "ada"), Actor("user", "root", admin=True)]))
def test_granted_is_what_was_asked_for_and_may_be_had(asked: Scope, actor: Actor) -> None:
    policy = Policy(rules=(Rule(("a",), {"ada": frozenset({DELETE})}, "public"), Rule(("team/*",), {}, "private")))
    given_ = scopes.granted(policy, actor, asked)
    assert given_.repositories == {pair for pair in asked.repositories if pair[1] in rights(policy, actor, pair[0])}
    assert given_.catalog == asked.catalog


@pytest.mark.parametrize(
    "claim",
    [None, {}, "x", [None], [{}], [{"type": "repository", "name": "a", "actions": ["fly"]}],
     [{"type": "registry", "name": "catalog", "actions": ["pull"]}], [{"type": "other", "name": "a", "actions": []}],
     [{"type": "repository", "name": 1, "actions": ["pull"]}], [{"type": "repository", "name": "a", "actions": "*"}],
     [{"type": "repository", "name": "a", "actions": [[]]}]],
)  # fmt: skip
def test_an_access_claim_that_is_not_ours(claim: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (any will do; the caller makes its own of it)
        scopes.from_access(claim)
