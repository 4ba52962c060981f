"""The server that real clients talk to: with or without login, over HTTP or TLS."""

import base64
import ssl
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import Homeport

MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


@dataclass(frozen=True)
class Registry:
    """A running server, and who the client is there: nobody, or a user with a password."""

    server: Homeport
    host: str
    user: str | None = None

    @property
    def name(self) -> str:
        return f"{'login' if self.user else 'anonymous'}-{'tls' if self.ca else 'http'}"

    @property
    def ca(self) -> Path | None:
        return self.server.ca

    @property
    def trust_folder(self) -> Path | None:
        """Where docker, podman, buildah and skopeo look for the authority: a folder with nothing but its ca.crt."""
        if self.ca is None:
            return None
        folder = self.server.folder / "trust"
        folder.mkdir(exist_ok=True)
        (folder / "ca.crt").write_bytes(self.ca.read_bytes())
        return folder

    @property
    def password(self) -> str:
        assert self.user is not None
        return self.server.passwords[self.user]

    def reference(self, repository: str, tag: str = "1") -> str:
        return f"{self.host}/{repository}:{tag}"

    def digest(self, repository: str, tag: str = "1") -> str:
        """What the registry itself says that the tag is."""
        answer = self._request("HEAD", f"{repository}/manifests/{tag}")
        return answer["docker-content-digest"]

    def _request(self, method: str, path: str) -> dict[str, str]:
        request = urllib.request.Request(f"{self.server.url}/v2/{path}", method=method)
        request.add_header("Accept", ", ".join(MANIFEST_TYPES))
        if self.user:
            login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            request.add_header("Authorization", f"Basic {login}")
        trust = ssl.create_default_context(cafile=self.ca) if self.ca else None
        with urllib.request.urlopen(request, context=trust, timeout=30) as answer:
            return {name.lower(): value for name, value in answer.headers.items()}
