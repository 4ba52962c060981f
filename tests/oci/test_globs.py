"""What globs mean, of tags and of User-Agent headers."""

import time
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.oci.globs import CHARACTERS_MAX, EVERYTHING, check_tag_glob, matches

TEXTS = st.text("ab.", max_size=8)
GLOBS = st.text("ab.*?", max_size=8)


@given(st.lists(GLOBS, max_size=3), TEXTS)
def test_matches_what_the_shell_does(globs: list[str], text: str) -> None:
    assert matches(tuple(globs), text) == any(fnmatchcase(text, glob) for glob in globs)


@pytest.mark.parametrize(
    ("glob", "text", "expected"),
    [
        ("v*", "v1.2", True),
        ("v*", "rev1", False),
        ("v?", "v12", False),
        ("1.2", "1x2", False),
        ("*-rc*", "1.2-rc.1", True),
        ("*", "", True),
        ("*trivy*", "a\nb trivy/0.5 c", True),
        ("[ab]", "a", False),
    ],
)
def test_examples(glob: str, text: str, expected: bool) -> None:
    assert matches((glob,), text) is expected


@pytest.mark.parametrize("glob", ["*", "v*", "release-?.*", "*.sig", "*-rc", "??", "x" * 128, "***", "?.-"])
def test_a_glob_that_a_tag_can_be(glob: str) -> None:
    assert check_tag_glob(glob) == glob


@pytest.mark.parametrize(
    "glob", ["", "-x", ".x", "a b", "a/b", "v[12]", "x" * 129, "?" * 129, "*" * (CHARACTERS_MAX + 1), "v1\n", "\u00e4"]
)
def test_a_glob_that_no_tag_can_be(glob: str) -> None:
    with pytest.raises(ValueError, match="can mean no tag"):
        check_tag_glob(glob)


@given(st.text("a.-*?", max_size=6))
def test_what_is_taken_means_a_tag(glob: str) -> None:
    try:
        check_tag_glob(glob)
    except ValueError:
        return
    example = ("_" if glob.startswith("*") else "") + glob.replace("?", "x").replace("*", "")
    assert matches((glob,), example)


def test_no_glob_is_slow() -> None:
    before = time.perf_counter()
    for glob in ("*a" * 120, "*a?" * 80, "*" * 250, "*?" * 120):
        assert not matches((glob + "b",), "a" * 2_000)
    assert time.perf_counter() - before < 0.5


def test_none_means_nothing() -> None:
    assert not matches((), "")
    assert matches((EVERYTHING,), "anything")
