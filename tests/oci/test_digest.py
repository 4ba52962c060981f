"""Digests: what is one, and what it is of."""

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.oci.digest import ENCODED_CHARACTERS, Digest, new_hasher
from homeport.oci.errors import DigestInvalid

SHA256_OF_NOTHING = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(st.binary(max_size=200), st.sampled_from(sorted(ENCODED_CHARACTERS)))
def test_of_bytes_is_what_hashlib_says_and_parses(data: bytes, algorithm: str) -> None:
    digest = Digest.of(data, algorithm)
    assert digest == f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    assert Digest.parse(digest) == digest
    assert (digest.algorithm, len(digest.encoded)) == (algorithm, ENCODED_CHARACTERS[algorithm])


def test_of_nothing() -> None:
    assert Digest.of(b"") == SHA256_OF_NOTHING


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "sha256",
        "sha256:",
        SHA256_OF_NOTHING[:-1],
        SHA256_OF_NOTHING + "0",
        SHA256_OF_NOTHING + "\n",
        "\n" + SHA256_OF_NOTHING,
        " " + SHA256_OF_NOTHING,
        SHA256_OF_NOTHING + "\0",
        SHA256_OF_NOTHING.upper(),
        "sha256:" + SHA256_OF_NOTHING.removeprefix("sha256:").upper(),
        "SHA256:" + "0" * 64,
        "sha256:" + "g" * 64,
        "sha256:" + "\u0660" * 64,  # digits, but not ours
        "sha256:../../../../etc/passwd",
        "sha256:" + "0" * 128,
        "sha512:" + "0" * 64,
        "sha512:" + "0" * 127,
        "sha384:" + "0" * 96,
        "md5:" + "0" * 32,
        "blake3:" + "0" * 64,
        "sha256+b64:" + "0" * 64,
        "sha256:sha256:" + "0" * 64,
        "0" * 64,
        "sha256-" + "0" * 64,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(DigestInvalid) as caught:
        Digest.parse(text)
    assert len(caught.value.detail) <= 160


@given(st.text(max_size=200))
def test_no_text_breaks_it(text: str) -> None:
    with contextlib.suppress(DigestInvalid):
        assert Digest.parse(text) == text


@pytest.mark.parametrize("algorithm", ["", "md5", "sha384", "SHA256", "sha256 ", "shake_128", "../sha256"])
def test_there_is_no_hasher_but_for_the_registered_ones(algorithm: str) -> None:
    with pytest.raises(DigestInvalid):
        new_hasher(algorithm)


def test_the_fallback_tag_is_cut_as_the_spec_says() -> None:
    digest = Digest("sha512:" + "ab" * 64)
    assert digest.fallback_tag == "sha512-" + "ab" * 32
    assert Digest(SHA256_OF_NOTHING).fallback_tag == SHA256_OF_NOTHING.replace(":", "-")
