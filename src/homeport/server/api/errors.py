"""What the administration API refuses, and the one form in which it says so.

The class docstring is the message where no detail is given; a detail is a sentence of its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from homeport.oci.errors import RegistryError, Unauthorized
from homeport.server.api.answers import encoded
from homeport.server.http import Headers, Response


class ApiError(RegistryError):
    """The API could not do what was asked."""

    def __str__(self) -> str:
        return self.detail or self.message


class Invalid(ApiError):
    """The request is not as this operation takes it."""

    code, status = "INVALID", 400


class NotAdministrator(ApiError):
    """This is for administrators: a user with `admin`, or a token whose limits give `admin` on `**`."""

    code, status = "DENIED", 403


class NotFound(ApiError):
    """There is nothing at this address; /api/v1/openapi.json lists what there is."""

    code, status = "NOT_FOUND", 404


class MethodNotAllowed(ApiError):
    """This address does not take that method."""

    code, status = "METHOD_NOT_ALLOWED", 405

    def __init__(self, allowed: Iterable[str]) -> None:
        self.allowed = ", ".join(sorted(allowed))
        super().__init__(f"this address takes {self.allowed}")


class Stalled(ApiError):
    """The body of the request did not come."""

    code, status = "TIMEOUT", 408


class Conflict(ApiError):
    """That cannot be done in the state that it is in."""

    code, status = "CONFLICT", 409


class TooLarge(ApiError):
    """The body of the request is larger than this operation takes."""

    code, status = "TOO_LARGE", 413


class MediaTypeWrong(ApiError):
    """Send it with `Content-Type: application/json`, also where there is no body."""

    code, status = "UNSUPPORTED_MEDIA_TYPE", 415


def response(error: RegistryError, request_id: str) -> Response:
    """The answer that tells the error: its code, a sentence, and the id under which the request is in the log."""
    document = {"error": {"code": error.code, "message": str(error), "request": request_id}}
    headers: Headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    if isinstance(error, Unauthorized):
        headers.append((b"www-authenticate", b'Basic realm="homeport", charset="UTF-8"'))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.allowed.encode("ascii")))
    if error.retry_after_seconds is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_seconds))
    return Response(error.status, headers, encoded(document))
