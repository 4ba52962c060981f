"""What may be shown."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from homeport.client.redaction import TEXT_CHARACTERS_MAX, plain_text, shown_url


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Basic YWRhOnNlY3JldA== was bad", "Authorization: Basic *** was bad"),
        ("bearer abc.def-ghi_jkl", "bearer ***"),
        ("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln!", "token ***!"),
        ("see https://u:p@h.example/x?X-Amz-Signature=abc#frag now", "see https://h.example/x now"),
        ("red \x1b[31m text\r\nnext \u202eline", "red [31m text next line"),
        ("the password hunter2! is wrong", "the password *** is wrong"),
    ],
)
def test_secrets_and_control_characters_go(text: str, shown: str) -> None:
    assert plain_text(text, ("hunter2!", "x")) == shown


def test_a_url_is_shown_without_what_may_be_secret() -> None:
    assert (
        shown_url(URL("https://u:p@h.example:8443/v2/a%2Fb?sig=1#f", encoded=True)) == "https://h.example:8443/v2/a%2Fb"
    )


@settings(deadline=None)
@given(st.text(max_size=2_000), st.text("abcdefgh0123456789+/=", min_size=8, max_size=30))
def test_no_known_secret_is_ever_shown(text: str, secret: str) -> None:
    shown = plain_text(f"{text}{secret}{text}", (secret,))
    assert secret not in shown or secret in f"{text}***{text}"
    assert len(shown) <= TEXT_CHARACTERS_MAX + 1
    assert shown.isprintable() or not shown
