"""Who may do what."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.auth import permissions
from homeport.auth.actors import ANONYMOUS, EVERY_RIGHT, NO_RIGHT, SYSTEM, Actor, Limit, Right, Scope
from homeport.auth.errors import PolicyInvalid
from homeport.auth.permissions import ANSWERS_MAX, Policy, Rule, may, may_administer, may_list, rights, unscoped

PULL, PUSH, DELETE, ADMIN = Right
ADA = Actor("user", "ada")
EVE = Actor("user", "eve")
OPS = Actor("user", "olaf", groups=frozenset({"ops"}))
ROOT = Actor("user", "root", admin=True)
GROUPS = {"ops": frozenset({"olaf"})}


def some(*wanted: Right) -> frozenset[Right]:
    return frozenset(wanted)


def robot(*limits: Limit, name: str = "ci") -> Actor:
    return Actor("robot", name, limits=limits)


POLICY = Policy(
    signed_in=some(PULL),
    groups=GROUPS,
    rules=(
        Rule(("team/**",), {"ops": some(PULL, PUSH, DELETE), "ada": some(PUSH)}),
        Rule(("open/**",), visibility="public"),
        Rule(("secret/**",), {"ada": some(PULL)}, visibility="private"),
        Rule(("secret/door",), visibility="public"),
        Rule(("drop",), {"anonymous": some(PUSH)}),
        Rule(("lab/*",), {"*": some(PULL, PUSH), "eve": some(ADMIN)}),
    ),
)


@pytest.mark.parametrize(
    ("actor", "repository", "expected"),
    [
        (ANONYMOUS, "app", NO_RIGHT),
        (ADA, "app", some(PULL)),
        (ROOT, "app", EVERY_RIGHT),
        (SYSTEM, "secret/app", EVERY_RIGHT),
        (ADA, "team/app", some(PULL, PUSH)),
        (OPS, "team/app", some(PULL, PUSH, DELETE)),
        (EVE, "team/app", some(PULL)),
        (ANONYMOUS, "team/app", NO_RIGHT),
        (ANONYMOUS, "open/app", some(PULL)),
        (EVE, "open/app", some(PULL)),
        (ADA, "secret/app", some(PULL)),
        (EVE, "secret/app", NO_RIGHT),
        (ROOT, "secret/app", EVERY_RIGHT),
        (ANONYMOUS, "secret/door", some(PULL)),
        (EVE, "secret/door", some(PULL)),
        (ANONYMOUS, "drop", some(PUSH)),
        (EVE, "drop", some(PULL, PUSH)),
        (ADA, "lab/x", some(PULL, PUSH)),
        (EVE, "lab/x", EVERY_RIGHT),
        (ANONYMOUS, "lab/x", NO_RIGHT),
    ],
)
def test_rules(actor: Actor, repository: str, expected: frozenset[Right]) -> None:
    assert rights(POLICY, actor, repository) == expected
    assert all(may(POLICY, actor, right, repository) == (right in expected) for right in Right)


def test_blanket_rights_of_nobody_in_particular() -> None:
    policy = Policy(anonymous=some(PULL), signed_in=some(PUSH), rules=(Rule(("mine",), visibility="private"),))
    assert rights(policy, ANONYMOUS, "app") == some(PULL)
    assert rights(policy, ADA, "app") == some(PULL, PUSH)
    assert rights(policy, ANONYMOUS, "mine") == rights(policy, ADA, "mine") == NO_RIGHT


def test_by_default_users_pull_and_push_and_strangers_do_nothing() -> None:
    assert rights(Policy(), ADA, "app") == some(PULL, PUSH)
    assert rights(Policy(), ANONYMOUS, "app") == NO_RIGHT


def test_group_and_user_of_the_same_name() -> None:
    """Whoever can be made a user called like a group does not get the group's rights (harbor #23675)."""
    called_like_the_group = Actor("user", "ops")
    policy = Policy(
        signed_in=NO_RIGHT,
        groups=GROUPS,
        rules=(
            Rule(("plain",), {"ops": some(PULL)}),
            Rule(("group",), {"group:ops": some(PULL)}),
            Rule(("user",), {"user:ops": some(PULL)}),
        ),
    )
    assert [may(policy, called_like_the_group, PULL, name) for name in ("plain", "group", "user")] == [
        False,
        False,
        True,
    ]
    assert [may(policy, OPS, PULL, name) for name in ("plain", "group", "user")] == [True, True, False]


def test_a_name_that_both_ways_mean_adds_up() -> None:
    policy = Policy(signed_in=NO_RIGHT, rules=(Rule(("app",), {"ada": some(PULL), "user:ada": some(PUSH)}),))
    assert rights(policy, ADA, "app") == some(PULL, PUSH)


@pytest.mark.parametrize(
    "rule",
    [
        Rule(("a**",)),
        Rule(()),
        Rule(("app",), {"group:nobody": some(PULL)}),
        Rule(("app",), {"robot:ci": some(PULL)}),
        Rule(("app",), {"user:": some(PULL)}),
    ],
)
def test_refuses_a_rule_that_cannot_be_meant(rule: Rule) -> None:
    with pytest.raises(PolicyInvalid):
        Policy(rules=(rule,))


def test_a_token_narrows_its_user() -> None:
    limited = Actor("user", "ada", limits=(Limit(("team/*",), some(PULL, DELETE)),))
    assert rights(POLICY, limited, "team/app") == some(PULL)
    assert rights(POLICY, limited, "lab/x") == NO_RIGHT
    admin = Actor("user", "root", admin=True, limits=(Limit(("team/*",), some(PULL)),))
    assert rights(POLICY, admin, "team/app") == some(PULL)
    assert rights(POLICY, admin, "other") == NO_RIGHT


def test_a_token_never_takes_away_pulling_that_needs_no_login() -> None:
    limited = Actor("user", "ada", limits=(Limit(("team/*",), some(PULL)),))
    closed_network = Policy(anonymous=some(PULL, PUSH, DELETE))
    assert rights(closed_network, limited, "elsewhere") == some(PULL)
    assert rights(POLICY, limited, "open/app") == some(PULL)


def test_a_robot_has_what_its_token_says_and_no_more() -> None:
    ci = robot(Limit(("secret/*", "lab/*"), some(PULL, PUSH)), Limit(("drop",), some(ADMIN)))
    assert rights(POLICY, ci, "secret/app") == some(PULL, PUSH)
    assert rights(POLICY, ci, "drop") == EVERY_RIGHT
    assert rights(POLICY, ci, "app") == NO_RIGHT
    assert rights(POLICY, ci, "open/app") == some(PULL)


def test_a_robot_called_like_a_user_is_nobody_else() -> None:
    """CVE-2022-31667, harbor #23675: trust by what somebody is, not by what it is called."""
    for name in ("ada", "root", "ops", "anonymous", "*"):
        assert rights(POLICY, robot(Limit(("x",), some(PULL)), name=name), "team/app") == NO_RIGHT


@pytest.mark.parametrize("wrong", [{}, {"limits": (), "admin": True}, {"limits": (), "groups": frozenset({"ops"})}])
def test_a_robot_cannot_be_made_without_limits(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="robot"):
        Actor("robot", "ci", **wrong)  # type: ignore[arg-type]


def test_a_bearer_token_has_the_rights_of_now_that_it_was_given() -> None:
    """harbor #22900: what a token was given for a repository does not outlive the right to it."""
    scope = Scope(frozenset({("team/app", PULL), ("team/app", PUSH)}))
    bearer = Actor("user", "ada", scope=scope)
    assert rights(POLICY, bearer, "team/app") == some(PULL, PUSH)
    assert rights(POLICY, bearer, "team/other") == NO_RIGHT
    assert rights(Policy(signed_in=some(PULL)), bearer, "team/app") == some(PULL)
    assert rights(Policy(signed_in=NO_RIGHT), bearer, "team/app") == NO_RIGHT
    assert rights(POLICY, Actor("user", "ada", scope=Scope(frozenset())), "open/app") == NO_RIGHT


def test_listing_takes_its_own_scope_and_shows_what_may_be_pulled() -> None:
    catalog = Actor("user", "ada", limits=(Limit(("team/*",), some(PULL)),), scope=Scope(frozenset(), catalog=True))
    assert may_list(ANONYMOUS)
    assert may_list(ADA)
    assert may_list(catalog)
    assert not may_list(Actor("user", "ada", scope=Scope(frozenset({("team/app", PULL)}))))
    assert may(POLICY, unscoped(catalog), PULL, "team/app")
    assert not may(POLICY, unscoped(catalog), PULL, "app")
    assert not may(POLICY, catalog, PULL, "team/app")
    assert not may(POLICY, unscoped(ANONYMOUS), PULL, "app")
    assert may(POLICY, unscoped(ANONYMOUS), PULL, "open/app")


ADMIN_EVERYWHERE = Limit(("**",), some(ADMIN))


@pytest.mark.parametrize(
    ("actor", "expected"),
    [
        (SYSTEM, True),
        (ROOT, True),
        (Actor("user", "root", admin=True, limits=(ADMIN_EVERYWHERE,)), True),
        (robot(ADMIN_EVERYWHERE), True),
        (robot(Limit(("team/**",), some(PULL)), Limit(("x", "**"), some(PUSH, ADMIN))), True),
        (ANONYMOUS, False),
        (ADA, False),
        (OPS, False),
        # Limits narrow: they make no administrator of who is none, and one of them has to say all of it.
        (Actor("user", "ada", limits=(ADMIN_EVERYWHERE,)), False),
        (Actor("user", "root", admin=True, limits=()), False),
        (Actor("user", "root", admin=True, limits=(Limit(("**",), some(PULL, PUSH, DELETE)),)), False),
        (robot(Limit(("team/**",), some(ADMIN))), False),
        (robot(Limit(("*", "*/**"), some(ADMIN))), False),
        (robot(Limit(("**",), some(PULL, PUSH, DELETE))), False),
        (robot(Limit(("team/**",), some(ADMIN)), Limit(("**",), some(PULL))), False),
        # A bearer token is for repositories, whoever asked for it.
        (Actor("user", "root", admin=True, scope=Scope(frozenset({("a", ADMIN)}), catalog=True)), False),
        (Actor("robot", "ci", limits=(ADMIN_EVERYWHERE,), scope=Scope(frozenset())), False),
    ],
)
def test_who_administers(actor: Actor, expected: bool) -> None:
    assert may_administer(actor) is expected


def test_actors_in_the_audit_log() -> None:
    shown = [str(actor) for actor in (ANONYMOUS, SYSTEM, ADA, robot(Limit(("x",), some(PULL))))]
    assert shown == ["anonymous", "system", "user:ada", "robot:ci"]


RIGHTS = st.frozensets(st.sampled_from(Right))
REPOSITORIES = st.sampled_from(["app", "team/app", "team/x", "lab/a/b"])
PATTERNS = st.lists(st.sampled_from(["**", "*", "team/*", "team/app", "lab/**"]), min_size=1, max_size=2).map(tuple)
LIMITS = st.lists(st.builds(Limit, PATTERNS, RIGHTS), max_size=2).map(tuple)
SUBJECTS = st.sampled_from(["ada", "eve", "ops", "group:ops", "user:ops", "*", "anonymous"])
RULES = st.builds(
    Rule, PATTERNS, st.dictionaries(SUBJECTS, RIGHTS, max_size=3), st.sampled_from([None, "public", "private"])
)
ACTORS = st.one_of(st.sampled_from([ANONYMOUS, ADA, EVE, OPS, ROOT]), st.builds(lambda limits: robot(*limits), LIMITS))


@given(RIGHTS, RIGHTS, st.lists(RULES, max_size=3), ACTORS, REPOSITORIES)
def test_rules_add_up_in_any_order(
    anonymous: frozenset[Right], signed_in: frozenset[Right], rules: list[Rule], actor: Actor, repository: str
) -> None:
    expected = rights(Policy(anonymous, signed_in, tuple(rules), GROUPS), actor, repository)
    for order in itertools.permutations(rules):
        assert rights(Policy(anonymous, signed_in, order, GROUPS), actor, repository) == expected


@given(RIGHTS, RIGHTS, st.lists(RULES, max_size=3), ACTORS, REPOSITORIES, RULES)
def test_only_a_private_rule_takes_away(
    anonymous: frozenset[Right],
    signed_in: frozenset[Right],
    rules: list[Rule],
    actor: Actor,
    repository: str,
    another: Rule,
) -> None:
    before = rights(Policy(anonymous, signed_in, tuple(rules), GROUPS), actor, repository)
    after = rights(Policy(anonymous, signed_in, (*rules, another), GROUPS), actor, repository)
    assert another.visibility == "private" or before <= after


@given(RIGHTS, RIGHTS, st.lists(RULES, max_size=3), REPOSITORIES, LIMITS, st.sampled_from([ADA, OPS, ROOT]))
def test_a_token_never_gives(
    anonymous: frozenset[Right],
    signed_in: frozenset[Right],
    rules: list[Rule],
    repository: str,
    limits: tuple[Limit, ...],
    user: Actor,
) -> None:
    policy = Policy(anonymous, signed_in, tuple(rules), GROUPS)
    limited = Actor(user.kind, user.name, user.groups, user.admin, limits)
    assert rights(policy, limited, repository) <= rights(policy, user, repository)
    scoped = Actor(user.kind, user.name, user.groups, user.admin, limits, Scope(frozenset({(repository, PULL)})))
    assert rights(policy, scoped, repository) == rights(policy, limited, repository) & some(PULL)
    assert rights(policy, scoped, "another") == NO_RIGHT


@given(RIGHTS, RIGHTS, st.lists(RULES, max_size=3), ACTORS, REPOSITORIES)
def test_logging_in_never_loses_what_anybody_may_pull(
    anonymous: frozenset[Right], signed_in: frozenset[Right], rules: list[Rule], actor: Actor, repository: str
) -> None:
    policy = Policy(anonymous, signed_in, tuple(rules), GROUPS)
    assert not may(policy, ANONYMOUS, PULL, repository) or may(policy, actor, PULL, repository)


def test_what_a_policy_remembers_is_bounded_and_right() -> None:
    for number in range(ANSWERS_MAX + 10):
        assert may(POLICY, ADA, PUSH, f"team/app{number}")
    assert len(POLICY._answers) <= ANSWERS_MAX
    fresh = Policy(POLICY.anonymous, POLICY.signed_in, POLICY.rules, POLICY.groups)
    assert fresh == POLICY
    assert rights(fresh, ADA, "team/app1") == rights(POLICY, ADA, "team/app1")
    assert permissions.rights(POLICY, ADA, "team/app1") is permissions.rights(POLICY, ADA, "team/app1")
