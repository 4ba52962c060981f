"""Errors on their way to a client: the one place where something raised becomes an answer.

Holds: whatever is raised, the client gets the spec's JSON and a sentence; what went wrong inside is for the log.
"""

from __future__ import annotations

from homeport.db.database import DatabaseError, DatabaseFull
from homeport.oci.errors import RegistryError, StorageFull, Unavailable
from homeport.server.http import Headers, Response, json_response
from homeport.storage.blobstore import StorageError, StoreFull


def as_registry_error(error: Exception) -> RegistryError:
    """What a client is told of `error`. Only a fault of ours becomes a plain `RegistryError`."""
    if isinstance(error, RegistryError):
        return error
    if isinstance(error, StoreFull | DatabaseFull):
        return StorageFull()
    if isinstance(error, StorageError | DatabaseError):
        return Unavailable()
    return RegistryError()


def response(error: RegistryError, headers: Headers | None = None) -> Response:
    """The error as the distribution-spec writes it ("Error Codes")."""
    detail = {"detail": error.detail} if error.detail and not error.detail_in_message else {}
    document = {"errors": [{"code": error.code, "message": error.message, **detail}]}
    answer = json_response(error.status, document, headers)
    if error.retry_after_seconds is not None:
        answer.headers.append((b"retry-after", b"%d" % error.retry_after_seconds))
    return answer
