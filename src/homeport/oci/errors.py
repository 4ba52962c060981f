"""Everything that can go wrong between a client and the registry, one class an error.

The class docstring is the message that a client reads; `code` is the distribution-spec's (or, where that has none,
Docker's) error code and `status` the HTTP status that goes with it. Raise with a detail: `raise TagInvalid("a b")`.
Source: distribution-spec, "Error Codes"; Docker's registry API for the codes that the spec lacks.
"""

from __future__ import annotations

from typing import ClassVar


class RegistryError(Exception):
    """The registry could not do what was asked."""

    code: ClassVar[str] = "UNKNOWN"
    status: ClassVar[int] = 500
    #: Whether the same request may succeed later without anybody changing anything.
    temporary: ClassVar[bool] = False
    #: Whether people cannot do without the detail. Older versions of Docker show them the message only.
    detail_in_message: ClassVar[bool] = False

    def __init__(
        self, detail: str = "", *, retry_after_seconds: int | None = None, accepted_bytes: int | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds
        #: What an upload session holds, for the answers that must say where to go on.
        self.accepted_bytes = accepted_bytes

    @property
    def message(self) -> str:
        """The sentence for people: the first paragraph of the class docstring, on one line."""
        sentence = " ".join((self.__doc__ or "").split("\n\n")[0].split())
        if self.detail_in_message and self.detail:
            return f"{sentence.removesuffix('.')} ({self.detail})."
        return sentence

    def __str__(self) -> str:
        return self.message if self.detail_in_message or not self.detail else f"{self.message} ({self.detail})"


class BlobUnknown(RegistryError):
    """This repository does not hold that blob."""

    code, status = "BLOB_UNKNOWN", 404


class BlobUploadInvalid(RegistryError):
    """The upload could not go on: the request and the upload session do not fit together."""

    code, status = "BLOB_UPLOAD_INVALID", 400


class BlobUploadUnknown(RegistryError):
    """There is no such upload session here; start a new one."""

    code, status = "BLOB_UPLOAD_UNKNOWN", 404


class UploadOutOfOrder(RegistryError):
    """The chunk does not begin where the upload session ends; ask the session for its range and go on from there."""

    code, status = "BLOB_UPLOAD_INVALID", 416


class UploadTakenOver(RegistryError):
    """A newer request writes to this upload session; this one was ended."""

    code, status = "BLOB_UPLOAD_INVALID", 409


class BodyStalled(RegistryError):
    """No byte of the body arrived for too long; the upload session stays, ask it for its range and go on from there."""

    code, status = "BLOB_UPLOAD_INVALID", 408


class BodyIncomplete(RegistryError):
    """The body ended before the length that was announced."""

    code, status = "SIZE_INVALID", 400


class DigestInvalid(RegistryError):
    """The digest is malformed, of an algorithm other than sha256 and sha512, or not the digest of the bytes."""

    code, status = "DIGEST_INVALID", 400


class ManifestBlobUnknown(RegistryError):
    """The manifest names something that this repository does not hold; push or mount it here first."""

    code, status = "MANIFEST_BLOB_UNKNOWN", 400


class ManifestInvalid(RegistryError):
    """The manifest is not a valid OCI or Docker schema 2 manifest or index."""

    code, status = "MANIFEST_INVALID", 400


class ManifestTooLarge(RegistryError):
    """The manifest is larger than this registry accepts."""

    code, status = "MANIFEST_INVALID", 413


class ManifestUnknown(RegistryError):
    """This repository has no such manifest or tag."""

    code, status = "MANIFEST_UNKNOWN", 404


class NameInvalid(RegistryError):
    """The repository name is wrong: parts of lower-case letters and digits, joined by '.', '_', '__', '-' or '/'."""

    code, status = "NAME_INVALID", 400


class NameUnknown(RegistryError):
    """There is no such repository here."""

    code, status = "NAME_UNKNOWN", 404


class TagInvalid(RegistryError):
    """The tag is not valid: a letter, digit or '_', then at most 127 of letters, digits, '_', '.' and '-'."""

    code, status = "TAG_INVALID", 400


class SizeInvalid(RegistryError):
    """The length that was announced and the bytes that came do not agree."""

    code, status = "SIZE_INVALID", 400


class PageInvalid(RegistryError):
    """The page size `n` must be a whole number that is not negative."""

    code, status = "PAGINATION_NUMBER_INVALID", 400


class RangeInvalid(RegistryError):
    """The range lies outside the blob or cannot be understood."""

    code, status = "RANGE_INVALID", 416


class Unauthorized(RegistryError):
    """Log in: this needs a right that was not proven."""

    code, status = "UNAUTHORIZED", 401


class Denied(RegistryError):
    """You are logged in, and this is not among your rights."""

    code, status = "DENIED", 403


class UpstreamsName(RegistryError):
    """Names that begin so are another registry's, and nobody pushes there; a rule that begins with it may allow it."""

    code, status = "DENIED", 403


class NotANode(RegistryError):
    """At this door nobody logs in: it is for nodes whose addresses are in `cache.networks`, and for what is public."""

    code, status = "DENIED", 403
    detail_in_message = True


class TagImmutable(RegistryError):
    """This tag is immutable: it is neither moved to another image nor deleted."""

    code, status = "DENIED", 403
    detail_in_message = True


class QuotaExceeded(RegistryError):
    """The quota of this repository has no room left for it; delete what is not needed there any more."""

    code, status = "DENIED", 403
    detail_in_message = True


class Unsupported(RegistryError):
    """The registry does not do that."""

    code, status = "UNSUPPORTED", 405


class ReadOnly(RegistryError):
    """The registry is in read-only mode: pulls work, nothing can be changed."""

    code, status = "UNSUPPORTED", 405


class ReferencedByManifest(RegistryError):
    """Another manifest of this repository needs it; delete that manifest first."""

    code, status = "UNSUPPORTED", 405


class NotInTrash(RegistryError):
    """This is not in the trash, so it cannot be brought back."""

    code, status = "MANIFEST_UNKNOWN", 404


class NotFound(RegistryError):
    """There is nothing at this address."""

    code, status = "UNSUPPORTED", 404


class RequestInvalid(RegistryError):
    """The request cannot be understood."""

    code, status = "UNSUPPORTED", 400


class HeadersTooLarge(RegistryError):
    """A header or the address of the request is larger than this registry accepts."""

    code, status = "UNSUPPORTED", 431


class TooManyRequests(RegistryError):
    """Too many requests or failed logins; wait and try again."""

    code, status = "TOOMANYREQUESTS", 429
    temporary = True


class Unavailable(RegistryError):
    """The registry cannot do this at the moment; try again."""

    code, status = "UNAVAILABLE", 503
    temporary = True


class StorageFull(RegistryError):
    """The disk has no room left for uploads; pulls and deletes still work, and the upload session can go on later."""

    code, status = "UNAVAILABLE", 507
    temporary = True


class UpstreamUnavailable(RegistryError):
    """The registry that this comes from cannot be asked at the moment, and it is not here yet; try again later."""

    code, status = "UNAVAILABLE", 503
    temporary = True
    detail_in_message = True


class UpstreamLimited(RegistryError):
    """The registry that this comes from gives no more for now, and it is not here yet; wait and try again."""

    code, status = "TOOMANYREQUESTS", 429
    temporary = True
    detail_in_message = True


class UpstreamBroken(RegistryError):
    """The registry that this comes from does not send what it should, and it is not here yet; nothing was kept."""

    code, status = "UNAVAILABLE", 502
    temporary = True
    detail_in_message = True
