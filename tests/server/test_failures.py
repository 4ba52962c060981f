"""What clients are told of what went wrong, and what they are not told."""

import json
import sqlite3

import pytest

from homeport.db.database import ConstraintViolated, DatabaseError, DatabaseFull
from homeport.oci.errors import BlobUnknown, RegistryError, TooManyRequests
from homeport.server import failures
from homeport.storage.blobstore import BlobMissing, StorageError, StoreFull


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BlobUnknown("x"), 404, "BLOB_UNKNOWN"),
        (StoreFull("no"), 507, "UNAVAILABLE"),
        (DatabaseFull("no"), 507, "UNAVAILABLE"),
        (StorageError("no"), 503, "UNAVAILABLE"),
        (BlobMissing("no"), 503, "UNAVAILABLE"),
        (DatabaseError("no"), 503, "UNAVAILABLE"),
        (ConstraintViolated("no"), 503, "UNAVAILABLE"),
        (sqlite3.OperationalError("no"), 500, "UNKNOWN"),
        (ValueError("the password is hunter2"), 500, "UNKNOWN"),
    ],
)
def test_every_error_becomes_the_spec_s_json(error: Exception, status: int, code: str) -> None:
    answer = failures.response(failures.as_registry_error(error))
    assert isinstance(answer.body, bytes)
    (told,) = json.loads(answer.body)["errors"]
    assert (answer.status, told["code"]) == (status, code)
    assert told["message"].endswith(".")
    assert told.get("detail") == ("x" if isinstance(error, RegistryError) else None)
    assert b"hunter2" not in answer.body


def test_when_to_try_again() -> None:
    answer = failures.response(TooManyRequests(retry_after_seconds=7))
    assert (b"retry-after", b"7") in answer.headers
    assert not [name for name, _ in failures.response(TooManyRequests()).headers if name == b"retry-after"]
