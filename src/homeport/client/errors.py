"""What can go wrong between us and another host.

Holds: every error that leaves `client/` is a `ClientError`, and its text is for people: it names the host and what was
asked, and no password, token, signed query or control character is in it (`redaction`).
"""

from __future__ import annotations

from enum import StrEnum


class ClientError(Exception):
    """A call to another host did not do what it was for."""


class Cause(StrEnum):
    """Why a connection failed, for those who tell these apart."""

    NAME_NOT_FOUND = "name-not-found"
    REFUSED = "refused"
    TIMED_OUT = "timed-out"
    OTHER = "unreachable"


class Limit(StrEnum):
    """Which limit of a registry we passed."""

    #: Of what it gives away in hours or days: nothing but time, or a better account, helps.
    PULLS = "pulls"
    #: Of requests in a short time: they have to come slower.
    REQUESTS = "requests"


class ConnectionFailed(ClientError):
    """The host was not reached, or the connection broke or stood still. `temporary`: trying again may help."""

    def __init__(self, text: str, *, temporary: bool, cause: Cause = Cause.OTHER) -> None:
        super().__init__(text)
        self.temporary = temporary
        self.cause = cause


class TlsFailed(ConnectionFailed):
    """The host did not go through with TLS; it may not speak it at all."""


class BadAnswer(ClientError):
    """The answer breaks the protocol or one of our limits; nothing of it was used."""


class ContentMismatch(BadAnswer):
    """The bytes that came are not the bytes that their digest or size names."""


class Untrusted(ClientError):
    """The host asked us to do what would hand a secret to, or open a way into, a place that is none of its business."""


class Refused(ClientError):
    """The host understood and said no: `status` is HTTP's, `code` the registry's own where it gave one."""

    def __init__(
        self,
        text: str,
        *,
        status: int,
        code: str = "",
        retry_after_seconds: float | None = None,
        limit: Limit | None = None,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        #: How long the host asks us to stay away, where it says so.
        self.retry_after_seconds = retry_after_seconds
        #: The limit that we passed, if that is why.
        self.limit = limit


class NotFound(Refused):
    """The host does not have it, or does not show it to us."""


class LoginFailed(Refused):
    """The host wants a login and none is known, or it does not take the one that is."""


class CopyFailed(ClientError):
    """A blob or manifest, which the text names, could not be copied. Its cause is the error of the call that failed."""
