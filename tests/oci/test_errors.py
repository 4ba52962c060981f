"""Errors: each has a code of the specification, a status, and a sentence that helps."""

import re

import pytest

from homeport.oci import errors
from homeport.oci.errors import RegistryError

EVERY = [found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, RegistryError)]

#: The distribution-spec's codes ("Error Codes"), and Docker's where that has none.
SPEC = {
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
}
DOCKER = {"UNKNOWN", "TAG_INVALID", "PAGINATION_NUMBER_INVALID", "RANGE_INVALID", "UNAVAILABLE"}


@pytest.mark.parametrize("error", EVERY, ids=lambda error: error.__name__)
def test_each_says_what_is_wrong(error: type[RegistryError]) -> None:
    assert error.code in SPEC | DOCKER
    assert 400 <= error.status < 600
    message = error().message
    assert re.fullmatch(r"[A-Z].{15,}\.", message)
    assert "\n" not in message
    assert "  " not in message


def test_every_code_of_the_specification_is_used() -> None:
    assert {error.code for error in EVERY} >= SPEC


def test_only_what_passes_by_itself_is_temporary() -> None:
    assert {error.status for error in EVERY if error.temporary} == {429, 502, 503, 507}


def test_the_detail_follows_the_sentence() -> None:
    assert str(errors.BlobUnknown("sha256:…")) == "This repository does not hold that blob. (sha256:…)"
    assert str(errors.BlobUnknown()) == "This repository does not hold that blob."
