"""Who may do what below the names of other registries, and with what they do not show to everybody."""

from ipaddress import ip_network
from typing import Any

import pytest

from homeport.auth.actors import ANONYMOUS, EVERY_RIGHT, NO_RIGHT, NODE, SYSTEM, Actor, Limit, Right, Scope
from homeport.auth.directory import LoginSettings
from homeport.auth.logins import Logins
from homeport.auth.permissions import Held, Policy, Rule, held, is_upstreams, may, rights
from tests.auth.tools import ADDRESS

PULL, PUSH, DELETE, ADMIN = Right
ADA = Actor("user", "ada")
EVE = Actor("user", "eve")
OPS = Actor("user", "olaf", groups=frozenset({"ops"}))
ROOT = Actor("user", "root", admin=True)
ROBOT = Actor("robot", "ci", limits=(Limit(("**",), frozenset({ADMIN})),))
EVERYBODY = (ANONYMOUS, NODE, ADA, EVE, OPS, ROOT, ROBOT)

HUB, OURS = "docker.io/library/alpine", "docker.io/ours/app"


def some(*wanted: Right) -> frozenset[Right]:
    return frozenset(wanted)


def policy(*rules: Rule, **changes: Any) -> Policy:
    folders = frozenset({"docker.io", "registry.lan_5001"})
    return Policy(**{"rules": rules, "upstreams": folders | {"quay.io"}, "cached": folders, **changes})


# --- nobody pushes there ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [HUB, OURS, "registry.lan_5001/x", "quay.io/x/y"])
def test_an_upstreams_name_takes_no_push(name: str) -> None:
    open_to_all = policy(anonymous=some(PULL, PUSH, DELETE), signed_in=some(PULL, PUSH, DELETE))
    for actor in EVERYBODY:
        assert PUSH not in rights(open_to_all, actor, name), actor
        assert {PULL, DELETE} <= rights(open_to_all, actor, name), actor
    assert rights(open_to_all, SYSTEM, name) == EVERY_RIGHT
    assert is_upstreams(open_to_all, name)


@pytest.mark.parametrize("name", ["docker.io", "docker.iox/a", "x/docker.io/a", "library/alpine", "ghcr.io/a/b"])
def test_others_do(name: str) -> None:
    for actor in (ADA, ROOT, ROBOT):
        assert PUSH in rights(policy(), actor, name)


@pytest.mark.parametrize("pattern", ["**", "*/**", "docker.*/**", "*ocker.io/ours/*", "**/app", "*.io/ours/**"])
def test_a_rule_that_could_mean_anything_does_not_open_it(pattern: str) -> None:
    generous = policy(Rule((pattern,), {"ada": some(PUSH, ADMIN), "*": some(PUSH), "anonymous": some(PUSH)}))
    for actor in EVERYBODY:
        assert PUSH not in rights(generous, actor, OURS), actor


def test_a_rule_that_begins_with_the_upstream_opens_it_for_whom_it_names() -> None:
    opened = policy(Rule(("docker.io/ours/**",), {"ada": some(PUSH), "ops": some(ADMIN)}), groups={"ops": {"olaf"}})
    assert [PUSH in rights(opened, actor, OURS) for actor in EVERYBODY] == [
        False, False, True, False, True, True, True
    ]  # fmt: skip
    for actor in EVERYBODY:
        assert PUSH not in rights(opened, actor, HUB), actor
        assert PUSH not in rights(opened, actor, "quay.io/ours/app"), actor


def test_a_rule_that_gives_no_push_opens_nothing() -> None:
    for rule in (
        Rule(("docker.io/**",), {"ada": some(PULL, DELETE)}),
        Rule(("docker.io/**",), visibility="public"),
        Rule(("docker.io/**", "**"), {"ada": some(PUSH)}),
    ):
        for actor in EVERYBODY:
            assert PUSH not in rights(policy(rule), actor, OURS), (rule, actor)


@pytest.mark.parametrize("subject", ["*", "anonymous"])
def test_a_rule_may_mean_everybody(subject: str) -> None:
    opened = policy(Rule(("docker.io/ours/**",), {subject: some(PUSH)}))
    assert PUSH in rights(opened, ADA, OURS)
    assert PUSH in rights(opened, ROOT, OURS)
    assert (PUSH in rights(opened, ANONYMOUS, OURS)) is (subject == "anonymous")
    assert (PUSH in rights(opened, NODE, OURS)) is (subject == "anonymous")


def test_a_token_does_not_open_it_either() -> None:
    limited = Actor("user", "root", admin=True, limits=(Limit(("docker.io/**",), some(PUSH)),))
    robot = Actor("robot", "ci", limits=(Limit(("docker.io/ours/**",), some(PULL, PUSH)),))
    for actor in (limited, robot):
        assert PUSH not in rights(policy(), actor, OURS)
        assert PUSH in rights(policy(Rule(("docker.io/ours/app",), {"ada": some(PUSH)})), actor, OURS)


# --- nodes ------------------------------------------------------------------------------------------------------------


def test_a_node_pulls_what_is_cached_and_what_anybody_may() -> None:
    private = Rule(("docker.io/secret/**",), visibility="private")
    found = policy(private, Rule(("open",), visibility="public"))
    assert rights(found, NODE, HUB) == some(PULL)
    assert rights(found, NODE, "registry.lan_5001/x") == some(PULL)
    assert rights(found, NODE, "open") == some(PULL)
    for name in ("docker.io/secret/x", "quay.io/x/y", "team/x", "docker.io", "docker.iox/a", "x/docker.io/a"):
        assert rights(found, NODE, name) == NO_RIGHT, name
    for name in (HUB, "registry.lan_5001/x", "team/x"):
        assert rights(found, ANONYMOUS, name) == NO_RIGHT
    assert rights(policy(anonymous=some(PULL, PUSH)), NODE, "team/x") == some(PULL, PUSH)


def test_a_nodes_token_narrows_it() -> None:
    node = Actor("node", "", scope=Scope(frozenset({(HUB, PULL), ("team/x", PULL)})))
    assert may(policy(), node, PULL, HUB)
    assert not may(policy(), node, PULL, "docker.io/library/other")
    assert not may(policy(), node, PULL, "team/x")


NETWORKS = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
NODES = ["10.0.0.1", "10.255.255.255", "::ffff:10.1.2.3", "fd00::1"]
OTHERS = ["11.0.0.1", "192.0.2.1", "::ffff:11.0.0.1", "fe80::1", "::1", "10.0.0.1.evil", "10.0.0.1,11.0.0.1", ""]


@pytest.mark.parametrize(("addresses", "expected"), [(NODES, "node"), (OTHERS, "anonymous")])
async def test_nobody_is_a_node_by_its_address(logins: Logins, addresses: list[str], expected: str) -> None:
    logins.reload(LoginSettings(policy(networks=NETWORKS)))
    for address in addresses:
        assert str(await logins.authenticate(None, address)) == str(logins.nobody(address)) == expected


async def test_without_networks_there_are_no_nodes(logins: Logins) -> None:
    for address in NODES:
        assert await logins.authenticate(None, address) == logins.nobody(address) == ANONYMOUS


async def test_a_nodes_bearer_token_is_worth_nothing_elsewhere(logins: Logins) -> None:
    logins.reload(LoginSettings(policy(networks=NETWORKS)))
    here, there = NODES[0], ADDRESS
    issued = await logins.token([f"repository:{HUB}:pull,push"], here)
    assert issued.scope == f"repository:{HUB}:pull"
    node = await logins.authenticate(f"Bearer {issued.token}", here)
    other = await logins.authenticate(f"Bearer {issued.token}", there)
    assert (node.kind, other.kind) == ("node", "anonymous")
    assert may(logins.policy, node, PULL, HUB)
    assert not may(logins.policy, other, PULL, HUB)
    assert (await logins.token([f"repository:{HUB}:pull"], there)).scope == ""


async def test_who_logs_in_is_no_node(logins: Logins, ada: str) -> None:
    logins.reload(LoginSettings(policy(networks=NETWORKS)))
    secret = "Basic YWRhOmNvcnJlY3QgaG9yc2U="
    assert await logins.authenticate(secret, NODES[0]) == Actor("user", "ada")


async def test_docker_asks_for_a_token_by_the_short_name(logins: Logins) -> None:
    logins.reload(LoginSettings(policy(networks=NETWORKS)))
    issued = await logins.token(["repository:docker.io/alpine:pull"], NODES[0])
    assert may(logins.policy, await logins.authenticate(f"Bearer {issued.token}", NODES[0]), PULL, HUB)


# --- what is not for everybody ----------------------------------------------------------------------------------------

OPEN = {"anonymous": some(PULL), "signed_in": some()}


@pytest.mark.parametrize(
    ("actor", "rules", "expected"),
    [
        # Pulling that rests on being anybody, or a node.
        (ANONYMOUS, (), True),
        (NODE, (), True),
        (ADA, (), True),
        (Actor("user", "ada", limits=(Limit(("team/**",), some(PULL)),)), (), True),
        (Actor("robot", "ci", limits=(Limit(("team/**",), some(PULL)),)), (), True),
        (Actor("user", "root", admin=True, limits=(Limit(("team/**",), some(PULL)),)), (), True),
        (Actor("anonymous", "", scope=Scope(frozenset({(OURS, PULL)}))), (), True),
        (ANONYMOUS, (Rule(("**",), visibility="public"),), True),
        (ANONYMOUS, (Rule(("docker.io/**",), visibility="public"),), True),
        (ANONYMOUS, (Rule(("docker.io/*/app",), {"anonymous": some(PULL)}),), True),
        (ANONYMOUS, (Rule(("docker.io/ours/app", "**"), visibility="public"),), True),
        (ADA, (Rule(("**",), visibility="public"),), True),
        # Pulling by a right of one's own, or by a rule that names the repository.
        (ROOT, (), False),
        (ROBOT, (), False),
        (SYSTEM, (), False),
        (ADA, (Rule(("docker.io/**",), {"ada": some(PULL)}),), False),
        (ADA, (Rule(("**",), {"*": some(PULL)}),), False),
        (ANONYMOUS, (Rule(("docker.io/ours/app",), visibility="public"),), False),
        (ANONYMOUS, (Rule(("docker.io/ours/**",), visibility="public"),), False),
        (NODE, (Rule(("docker.io/ours/*",), {"anonymous": some(PULL)}),), False),
        # Who may not pull at all does not pull as anybody.
        (Actor("anonymous", "", scope=Scope(frozenset())), (), False),
    ],
)
def test_who_pulls_as_anybody(actor: Actor, rules: tuple[Rule, ...], expected: bool) -> None:
    assert held(policy(*rules, **OPEN), actor, OURS).pulls_as_anybody is expected


def test_who_is_logged_in_and_may_pull_everything_does_not_pull_as_anybody() -> None:
    assert held(policy(anonymous=some(PULL)), ADA, OURS) == Held(some(PULL), False)
    assert held(policy(), NODE, OURS) == Held(some(PULL), True)
    assert held(policy(), ANONYMOUS, OURS) == Held(NO_RIGHT, False)
