"""What came of one try, in words."""

import pytest

from homeport.notify.sent import Sent, in_words


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (404, "ok", "404 ok"),
        (404, "", "404"),
        (404, "error=404", "error=404"),
        (None, "no answer within 15 seconds", "no answer within 15 seconds"),
    ],
)
def test_the_status_is_told_once(status: int | None, answer: str, words: str) -> None:
    assert in_words(status, answer) == Sent(status, answer, "refused").words == words
