"""Reading `WWW-Authenticate`, as registries write it, as the grammar allows it, and as nobody should."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.client.challenges import CHALLENGES_MAX, Challenge, parse

HUB = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull,push"'
HUB_PARAMETERS = {
    "realm": "https://auth.docker.io/token",
    "service": "registry.docker.io",
    "scope": "repository:library/x:pull,push",
}

CASES = [
    ([HUB], [Challenge("bearer", HUB_PARAMETERS)]),
    (['Basic realm="x"', HUB], [Challenge("basic", {"realm": "x"}), Challenge("bearer", HUB_PARAMETERS)]),
    # Forgejo: both in one header, and the same comma between everything.
    (
        ['Bearer realm="https://c.example/v2/token",service="container_registry",scope="*",Basic realm="Forgejo"'],
        [
            Challenge("bearer", {"realm": "https://c.example/v2/token", "service": "container_registry", "scope": "*"}),
            Challenge("basic", {"realm": "Forgejo"}),
        ],
    ),
    (['Basic realm="say \\"hi\\", Bearer realm=x"'], [Challenge("basic", {"realm": 'say "hi", Bearer realm=x'})]),
    (["Negotiate, Basic realm=simple"], [Challenge("negotiate", {}), Challenge("basic", {"realm": "simple"})]),
    (["Negotiate YWJj==, NTLM"], [Challenge("negotiate", {}), Challenge("ntlm", {})]),
    (["bearer REALM = https://h/t?a , service=s"], [Challenge("bearer", {"realm": "https://h/t?a", "service": "s"})]),
    ([', ,Basic  realm="a" , ,charset=UTF-8,'], [Challenge("basic", {"realm": "a", "charset": "UTF-8"})]),
    (['Basic realm="first", realm="second"'], [Challenge("basic", {"realm": "first"})]),
    (['Basic realm="never closed'], [Challenge("basic", {})]),
    (['realm="nobody\'s", Basic realm="x"'], []),
    (['Basic realm="ok"  \x00 Bearer realm="hidden"'], [Challenge("basic", {"realm": "ok"})]),
    ([""], []),
    ([], []),
]


@pytest.mark.parametrize(("headers", "expected"), CASES)
def test_known_headers(headers: list[str], expected: list[Challenge]) -> None:
    assert parse(headers) == expected


TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCZ0189-_.~!", min_size=1, max_size=12).filter(lambda s: s.strip("=") == s)
VALUE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
PARAMETERS = st.dictionaries(TOKEN.map(str.lower), VALUE, min_size=1, max_size=5)
CHALLENGE = st.builds(Challenge, TOKEN.map(str.lower), PARAMETERS)


def write(challenge: Challenge) -> str:
    quoted = ((name, value.replace("\\", "\\\\").replace('"', '\\"')) for name, value in challenge.parameters.items())
    return f"{challenge.scheme} " + ", ".join(f'{name}="{value}"' for name, value in quoted)


@settings(deadline=None)
@given(st.lists(st.lists(CHALLENGE, min_size=1, max_size=3), max_size=4), st.sampled_from([",", ", ", " ,, "]))
def test_what_is_written_by_the_grammar_is_read_back(headers: list[list[Challenge]], comma: str) -> None:
    written = [comma.join(write(challenge) for challenge in header) for header in headers]
    assert parse(written) == [challenge for header in headers for challenge in header][:CHALLENGES_MAX]


@settings(deadline=None)
@given(st.lists(st.text(max_size=200), max_size=5))
def test_never_raises(headers: list[str]) -> None:
    assert len(parse(headers)) <= CHALLENGES_MAX


@settings(deadline=None)
@given(st.text('Bearer Basic realm="=,\\ \t', max_size=60))
def test_never_raises_on_nearly_right_headers(header: str) -> None:
    for challenge in parse([header]):
        assert challenge.scheme


@pytest.mark.parametrize("header", ['Basic a="' + "\\" * 8_000, "a," * 4_000, "Basic " + 'a="' * 2_700, "=" * 8_000])
def test_a_header_of_the_largest_size_takes_no_time(header: str) -> None:
    assert len(parse([header])) <= CHALLENGES_MAX
