"""One try of a webhook: the request, and what its answer means.

Holds: it ends in time, and of the answer little is read; a signature, a token and the body follow no redirect to
another host. The answer's text is as it came: `sent.shortened` makes it fit to be kept and shown.
"""

from __future__ import annotations

from collections.abc import Mapping

from yarl import URL

from homeport.client.errors import ClientError
from homeport.client.retries import retry_after_seconds
from homeport.client.transport import OpenAnswer, Request, Transport
from homeport.notify.sent import Outcome, Sent, is_final

#: More of an answer is not read.
_ANSWER_BYTES_MAX = 4 * 1024
#: A part of an address that is this long may be what makes it secret.
_SECRET_PART_CHARACTERS_MIN = 8
#: Answers whose Retry-After counts.
_RETRY_AFTER_STATUSES = frozenset({429, 503})


async def send(
    transport: Transport, method: str, url: str, headers: Mapping[str, str], body: bytes, *, seconds: float
) -> Sent:
    """Send it. Never raises for what the receiver or the network does."""
    try:
        # The body tells what happens here, so it is for whom the operator named and nobody else, as the headers are.
        request = Request(method, URL(url), headers=headers, body=body, body_is_secret=True, silence_seconds=seconds)
    except ValueError:
        return Sent(None, "what was found is no address that can be called", "retry")
    answer: OpenAnswer | None = None
    text = bytearray()
    try:
        async with transport.clock.timeout(seconds):
            answer = await transport.open(request)
            while len(text) < _ANSWER_BYTES_MAX and (chunk := await answer.read(_ANSWER_BYTES_MAX - len(text))):
                text += chunk
    except (TimeoutError, ClientError) as error:
        if answer is None:
            late = isinstance(error, TimeoutError)
            return Sent(None, f"no answer within {seconds:g} seconds" if late else str(error), "retry")
        # It broke off in the text, but its status said enough.
    finally:
        if answer is not None:
            answer.close()
    asked = None
    if answer.status in _RETRY_AFTER_STATUSES:
        asked = retry_after_seconds(answer.headers, transport.clock.now())
    return Sent(answer.status, text.decode(errors="replace"), meaning(answer.status), asked)


def meaning(status: int) -> Outcome:
    """What an answer of this status means for the notification."""
    if 200 <= status < 300:
        return "sent"
    return "refused" if is_final(status) else "retry"


def secrets_of(url: str) -> set[str]:
    """What of an address that is a secret must not be shown; its host may be, or no error could be understood."""
    try:
        parsed = URL(url)
    except ValueError:
        return {url}
    parts = {part for part in parsed.raw_path.split("/") if len(part) >= _SECRET_PART_CHARACTERS_MIN}
    login = {parsed.user, parsed.password, parsed.raw_user, parsed.raw_password}
    return {
        url,
        parsed.raw_path,
        parsed.path,
        parsed.raw_path_qs,
        parsed.raw_query_string,
        *parsed.query.values(),
        *parts,
        *(each for each in login if each),
    }
