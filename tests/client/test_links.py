"""Where the next page is, as registries write it; and what is no way to write it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from homeport.client import links


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], None),
        ([""], None),
        (['</v2/a/tags/list?n=2&last=b>; rel="next"'], "/v2/a/tags/list?n=2&last=b"),
        (["</v2/a/tags/list?last=b>;rel=next"], "/v2/a/tags/list?last=b"),
        (["<?last=b> ; REL = NEXT"], "?last=b"),
        (['< ?a >; title="x, <y>; rel=next"; rel="last next"'], "?a"),
        (['</first>; rel="first", </next>; rel="next", </other>; rel="next"'], "/next"),
        (['</first>; rel="first"', '</next>; rel="next"'], "/next"),
        (['</first,and;odd>; rel="prev", , </next>;flag;rel="next",'], "/next"),
        (["</never>; rel=prev; rel=next"], None),
        (["</nothing-said>"], None),
    ],
)
def test_links(headers: list[str], expected: str | None) -> None:
    assert links.next_page(headers) == expected


@pytest.mark.parametrize(
    "header",
    [
        "next",
        '/v2/a; rel="next"',
        '</v2/a; rel="next"',
        '</v2/a>; rel="next',
        '</v2/a>; rel="next" x',
        '</v2/a> rel="next"',
        '</v2/a>; rel="prev" </v2/b>; rel="next"',
        "</v2/a>; rel=prev; =",
    ],
)
def test_what_is_no_link_is_not_the_last_page(header: str) -> None:
    with pytest.raises(ValueError, match="not a link"):
        links.next_page([header])


@settings(deadline=None)
@given(st.lists(st.text('<>;,="ab \\\t'), max_size=3))
def test_reading_ends_whatever_is_there(headers: list[str]) -> None:
    try:
        links.next_page(headers)
    except ValueError as error:
        assert str(error) == "not a link"  # noqa: PT017


@pytest.mark.parametrize(
    ("asked", "following", "expected"),
    [
        (
            "/v2/virtual/app/tags/list?n=9",
            "/v2/app/tags/list?n=9&last=a%2Fb",
            "/v2/virtual/app/tags/list?n=9&last=a%2Fb",
        ),
        ("/v2/a/b/c/tags/list", "/v2/c/tags/list?last=x", "/v2/a/b/c/tags/list?last=x"),
        ("/v2/app/tags/list?n=9", "/v2/app/tags/list?last=x", "/v2/app/tags/list?last=x"),
        ("/v2/myapp/tags/list", "/v2/app/tags/list?last=x", "/v2/app/tags/list?last=x"),
        ("/v2/app/tags/list", "/v2/virtual/app/tags/list?last=x", "/v2/virtual/app/tags/list?last=x"),
        ("/v2/app/tags/list", "/elsewhere?page=2", "/elsewhere?page=2"),
        ("/v2/app/tags/list", "/v2?page=2", "/v2?page=2"),
        ("/v2/_catalog?n=9", "/v2/_catalog?last=x", "/v2/_catalog?last=x"),
    ],
)
def test_a_list_goes_on_as_the_list_that_it_is(asked: str, following: str, expected: str) -> None:
    base = "https://artifactory.example"
    found = links.same_list(URL(base + asked, encoded=True), URL(base + following, encoded=True))
    assert str(found) == base + expected
