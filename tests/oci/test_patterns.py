"""What patterns of repository names mean."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.oci.patterns import PATTERN_CHARACTERS_MAX, compiled, matches

NAMES = st.lists(st.sampled_from(["a", "b", "ab", "ba", "aab", "a-b"]), min_size=1, max_size=5).map("/".join)
PATTERNS = st.lists(
    st.sampled_from(["**", "*", "a", "b", "a*", "*b", "a*b", "*a*", "a*a*b"]), min_size=1, max_size=5
).map("/".join)


def part_means(pattern: str, part: str) -> bool:
    if not pattern:
        return not part
    if pattern[0] == "*":
        return any(part_means(pattern[1:], part[skip:]) for skip in range(len(part) + 1))
    return bool(part) and part[0] == pattern[0] and part_means(pattern[1:], part[1:])


def parts_mean(pattern: list[str], parts: list[str]) -> bool:
    """The meaning as the documentation says it, with no thought for speed."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        if len(pattern) == 1:
            return bool(parts)
        return any(parts_mean(pattern[1:], parts[skip:]) for skip in range(len(parts) + 1))
    return bool(parts) and part_means(pattern[0], parts[0]) and parts_mean(pattern[1:], parts[1:])


@given(PATTERNS, NAMES)
def test_matches_what_is_documented(pattern: str, name: str) -> None:
    assert matches(pattern, name) == parts_mean(pattern.split("/"), name.split("/"))


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("team/app", "team/app", True),
        ("team/app", "team/app2", False),
        ("team/app", "x/team/app", False),
        ("team/*", "team/app", True),
        ("team/*", "team/app/debug", False),
        ("team/*", "team", False),
        ("team/**", "team/app/debug", True),
        ("team/**", "team", False),
        ("team/**", "team2/app", False),
        ("**", "app", True),
        ("**", "team/app", True),
        ("*", "team/app", False),
        ("**/cache", "cache", True),
        ("**/cache", "team/app/cache", True),
        ("team/**/cache", "team/cache", True),
        ("team-*/app", "team-a/app", True),
        ("team-*/app", "team-a/x/app", False),
        ("a.b", "aXb", False),
    ],
)
def test_examples(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "/",
        "team/",
        "/team",
        "team//app",
        "a**",
        "**a",
        "***",
        "Team",
        "a?",
        "[ab]",
        "a b",
        "a\n",
        "../x:y",
        "a" * 256,
    ],
)
def test_refuses_what_could_be_misunderstood(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        compiled(pattern)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_any_text_is_a_pattern_or_refused(text: str) -> None:
    try:
        compiled(text)
    except ValueError:
        return
    assert re.fullmatch(r"[a-z0-9._*/-]+", text)


@pytest.mark.parametrize("pattern", ["**/a/" * 45 + "b", "*a" * 120 + "b", "**/*a*a/" * 25 + "**/b", "a*" * 120 + "b"])
def test_no_pattern_is_slow(pattern: str) -> None:
    """Ends at once, or not in this life: each of these would backtrack exponentially in a naive translation."""
    assert len(pattern) <= PATTERN_CHARACTERS_MAX
    assert not matches(pattern, "a" * 255)
    assert not matches(pattern, "/".join(["aaa"] * 60) + "/c")
