"""Images as OCI layouts on disk, made here: an index of two platforms, whose layers can be unpacked."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

PLATFORMS = ("amd64", "arm64")

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class Layout:
    """An OCI image layout in `folder` that holds one index, named `1`, of an image for each platform."""

    def __init__(self, folder: Path, files: dict[str, bytes]) -> None:
        self.folder = folder
        (folder / "blobs/sha256").mkdir(parents=True)
        (folder / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
        images = [self._image(platform, files) for platform in PLATFORMS]
        index = self._json(OCI_INDEX, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": images})
        self.digest: str = index["digest"]
        named = {**index, "annotations": {"org.opencontainers.image.ref.name": "1"}}
        (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))

    def as_tar(self) -> Path:
        """The layout as one file."""
        file = self.folder.with_suffix(".tar")
        with tarfile.open(file, "w") as archive:
            archive.add(self.folder, arcname="")
        return file

    def _image(self, platform: str, files: dict[str, bytes]) -> dict[str, Any]:
        shared, own = tar_of(files), tar_of({"etc/platform": platform.encode()})
        layers = [self._blob(OCI_LAYER, gzip.compress(layer, mtime=0)) for layer in (shared, own)]
        diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in (shared, own)]
        config = {
            "architecture": platform,
            "os": "linux",
            "config": {"Cmd": ["/bin/busybox"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self._json(OCI_CONFIG, config),
            "layers": layers,
        }
        return {**self._json(OCI_MANIFEST, manifest), "platform": {"architecture": platform, "os": "linux"}}

    def _json(self, media_type: str, document: dict[str, Any]) -> dict[str, Any]:
        return self._blob(media_type, json.dumps(document).encode())

    def _blob(self, media_type: str, data: bytes) -> dict[str, Any]:
        encoded = hashlib.sha256(data).hexdigest()
        (self.folder / "blobs/sha256" / encoded).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{encoded}", "size": len(data)}


def tar_of(files: dict[str, bytes]) -> bytes:
    """A tar archive with these executable files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
