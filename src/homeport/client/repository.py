"""One repository of another registry: its manifests, tags, blobs and referrers.

Holds: a manifest that is returned has the digest under which it is returned, computed from its bytes; names that come
from the registry are well formed before anybody gets them.
Source: OCI distribution-spec.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote

from homeport.client.downloads import BlobDownload
from homeport.client.errors import BadAnswer, ContentMismatch, NotFound, Refused
from homeport.client.redaction import plain_text
from homeport.client.referrers import REFERRERS_MAX, Referrer, make_index, parse_index
from homeport.client.remote import PAGE_ITEMS, Remote, encoding
from homeport.client.transport import Answer
from homeport.client.uploads import BlobUpload, Content, Outcome
from homeport.oci import manifest, mediatype
from homeport.oci.digest import Digest
from homeport.oci.errors import DigestInvalid, ManifestInvalid
from homeport.oci.manifest import Descriptor, Manifest, Role
from homeport.oci.reference import is_tag

MANIFEST_BYTES_MAX = 4 * 1024 * 1024

#: One list: some registries look at the first `Accept` line only.
ACCEPT_MANIFESTS = ", ".join([*sorted(mediatype.INDEXES), *sorted(mediatype.MANIFESTS)])


@dataclass(frozen=True, slots=True)
class FetchedManifest:
    """A manifest as a registry sent it."""

    digest: Digest
    manifest: Manifest

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.manifest.media_type, self.digest, len(self.manifest.data), Role.CHILD)


class RemoteRepository:
    """One repository of `remote`. Its calls may run at the same time."""

    def __init__(self, remote: Remote, name: str) -> None:
        self.remote = remote
        self.name = name
        self._path = f"/v2/{name}"
        self._pull = (f"repository:{name}:pull",)
        self._push = (f"repository:{name}:pull,push",)
        self._delete = (f"repository:{name}:delete",)

    def __str__(self) -> str:
        return f"{self.remote.host}/{self.name}"

    async def tags(self) -> AsyncIterator[str]:
        """All tags, each once, in the registry's order."""
        seen: set[str] = set()
        async for page in self.remote.pages(f"{self._path}/tags/list?n={PAGE_ITEMS}", "tags", self._pull):
            for tag in page:
                if not isinstance(tag, str) or not is_tag(tag):
                    raise BadAnswer(f"{self}: lists a tag that cannot be one: {plain_text(str(tag))}")
                if tag not in seen:  # one that is pushed while pages are read can come twice
                    seen.add(tag)
                    yield tag

    async def head_manifest(self, target: str) -> Descriptor | None:
        """What a tag or digest leads to, or None. Docker Hub does not count this as a pull.

        It is the registry's word: only `get_manifest` has seen the bytes.
        """
        answer = await self.remote.fetch(
            "HEAD", self._manifest_path(target), self._pull, headers={"Accept": ACCEPT_MANIFESTS}
        )
        if answer.status == 404:
            return None
        media_type = mediatype.bare(answer.headers.get("Content-Type", ""))
        size = answer.headers.get("Content-Length", "")
        digest = _digest_header(answer)
        if answer.status == 200 and digest is not None and media_type and size.isascii() and size.isdigit():
            return Descriptor(media_type, digest, int(size), Role.CHILD)
        if answer.status not in (200, 405):
            raise self.remote.refused(answer)
        try:  # an old or simple registry, which says too little
            return (await self.get_manifest(target)).descriptor
        except NotFound:
            return None

    async def get_manifest(self, target: str) -> FetchedManifest:
        """The manifest of a tag or digest; `NotFound` if there is none."""
        answer = await self.remote.fetch(
            "GET",
            self._manifest_path(target),
            self._pull,
            headers={"Accept": ACCEPT_MANIFESTS},
            bytes_max=MANIFEST_BYTES_MAX,
        )
        if answer.status != 200:
            raise self.remote.refused(answer)
        named = Digest.parse(target) if ":" in target else _digest_header(answer)
        digest = Digest.of(answer.body, named.algorithm if named is not None else "sha256")
        if named is not None and digest != named:
            raise ContentMismatch(f"{self}: what it sends as manifest {named} is {digest}{encoding(answer)}")
        try:
            parsed = manifest.parse(answer.body, answer.headers.get("Content-Type", ""))
        except ManifestInvalid as error:
            why = f"{plain_text(error.detail)}{encoding(answer)}"
            raise BadAnswer(f"{self}: {target} is no manifest to work with: {why}") from None
        return FetchedManifest(digest, parsed)

    async def has_blob(self, digest: Digest) -> bool:
        """Whether the repository holds the blob."""
        answer = await self.remote.fetch("HEAD", f"{self._path}/blobs/{digest}", self._pull)
        if answer.status not in (200, 404):
            raise self.remote.refused(answer)
        return answer.status == 200

    async def blob_size(self, digest: Digest) -> int | None:
        """How many bytes the blob has, as the registry says; None if the repository does not hold it."""
        answer = await self.remote.fetch("HEAD", f"{self._path}/blobs/{digest}", self._pull)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise self.remote.refused(answer)
        size = answer.headers.get("Content-Length", "")
        if not (size.isascii() and size.isdigit()):
            raise BadAnswer(f"{self}: does not say how long the blob {digest} is")
        return int(size)

    @asynccontextmanager
    async def open_blob(self, blob: Descriptor, *, verify: bool = True) -> AsyncIterator[BlobDownload]:
        """The bytes of a blob, to be read while the context lasts. `verify=False`: the reader looks at their digest."""
        download = BlobDownload(self.remote, f"{self._path}/blobs/{blob.digest}", self._pull, blob, verify=verify)
        try:
            yield download
        finally:
            download.close()

    async def put_blob(
        self, content: Content, *, mount_from: str | None = None, moved: Callable[[int], None] = lambda _: None
    ) -> Outcome:
        """Makes the repository hold a blob. `mount_from` is a repository of the same registry that has it."""
        upload = BlobUpload(self.remote, self.name, self._push, content, moved)
        if mount_from is None or mount_from == self.name:
            return await upload.push()
        return await upload.push(mount_from, (f"repository:{mount_from}:pull",))

    async def put_manifest(self, pushed: FetchedManifest, tag: str | None = None) -> None:
        """Stores a manifest under its digest, or under `tag`. What it names must be there already.

        Where the registry does not know referrers, the subject's fallback tag is kept by the client (that is us).
        """
        answer = await self.remote.fetch(
            "PUT",
            self._manifest_path(tag or pushed.digest),
            self._push,
            headers={"Content-Type": pushed.manifest.media_type},
            body=pushed.manifest.data,
        )
        if answer.status != 201:
            raise self.remote.refused(answer)
        stored = _digest_header(answer)
        if stored is not None and stored.algorithm == pushed.digest.algorithm and stored != pushed.digest:
            raise ContentMismatch(f"{self}: stored the manifest {pushed.digest} as {stored}")
        subject = pushed.manifest.subject
        if subject is not None and "OCI-Subject" not in answer.headers:
            await self._add_to_fallback_tag(subject, Referrer.of(pushed.manifest, pushed.digest))

    async def referrers(self, subject: Digest, artifact_type: str | None = None) -> list[Referrer]:
        """The manifests that have `subject` as their subject; only those of `artifact_type`, if given."""
        found: dict[Digest, Referrer] = {}
        query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
        try:
            async for page in self.remote.pages(f"{self._path}/referrers/{subject}{query}", "manifests", self._pull):
                items = [Referrer.parse(item, f"{self}@{subject}") for item in page]
                found.update((item.descriptor.digest, item) for item in items)
                if len(found) > REFERRERS_MAX:
                    raise BadAnswer(f"{self}@{subject}: has more than {REFERRERS_MAX} referrers")
        except Refused as error:
            if error.status not in (400, 404, 405):  # how registries say that they do not know this call
                raise
            found = {item.descriptor.digest: item for item in await self._fallback_referrers(subject)}
        # The registry need not have filtered, and the fallback tag cannot.
        return [item for item in found.values() if artifact_type in (None, item.artifact_type)]

    async def delete_manifest(self, target: str) -> bool:
        """Deletes a tag, or a manifest with all its tags; whether it was there."""
        return await self._delete_at(self._manifest_path(target))

    async def delete_blob(self, digest: Digest) -> bool:
        """Deletes a blob from this repository; whether it was there."""
        return await self._delete_at(f"{self._path}/blobs/{digest}")

    async def _delete_at(self, path: str) -> bool:
        answer = await self.remote.fetch("DELETE", path, self._delete)
        if answer.status not in (200, 202, 204, 404):
            raise self.remote.refused(answer)
        return answer.status != 404

    async def _fallback_referrers(self, subject: Digest) -> list[Referrer]:
        try:
            index = await self.get_manifest(subject.fallback_tag)
        except NotFound:
            return []
        return parse_index(index.manifest.data, f"{self}:{subject.fallback_tag}")

    async def _add_to_fallback_tag(self, subject: Digest, referrer: Referrer) -> None:
        # Two clients that do this at once lose one entry: the specification has no remedy but the registry's own API.
        known = await self._fallback_referrers(subject)
        if all(item.descriptor.digest != referrer.descriptor.digest for item in known):
            data = make_index([*known, referrer])
            index = FetchedManifest(Digest.of(data), manifest.parse(data, mediatype.OCI_INDEX))
            await self.put_manifest(index, subject.fallback_tag)

    def _manifest_path(self, target: str) -> str:
        return f"{self._path}/manifests/{target}"


def _digest_header(answer: Answer) -> Digest | None:
    text = answer.headers.get("Docker-Content-Digest")
    if not text:
        return None
    try:
        return Digest.parse(text)
    except DigestInvalid:
        raise BadAnswer(f"{answer.request}: calls it {plain_text(text)}, which is no digest") from None
