"""What is mirrored in real life, small: every kind of artifact that upstreams hold."""

import json
from collections.abc import Mapping, Sequence

from homeport.oci import mediatype
from tests.client.images import Bytes, Factory, Image, descriptor, make

#: BuildKit's: an attestation is a manifest of the index, for no platform, that names its image in annotations.
ATTESTATION = {"os": "unknown", "architecture": "unknown"}
HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
HELM_CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
COSIGN_LAYER = "application/vnd.dev.cosign.simplesigning.v1+json"


class Artifacts(Factory):
    """Makes them, each different from the others."""

    def platforms(
        self, *names: str, docker: bool = False, attested: bool = False, layers: Sequence[Bytes] = ()
    ) -> Image:
        """An index, or a docker list, with an image for each `os/architecture[/variant]`.

        All images begin with the same `layers`. `attested`: with BuildKit's attestation of each.
        """
        children: list[Image] = []
        listed: list[dict[str, object]] = []
        for name in names or ("linux/amd64", "linux/arm64"):
            child = self.docker_image(*layers) if docker else self.of_layers(*layers)
            os, architecture, *variant = name.split("/")
            platform = {"os": os, "architecture": architecture} | ({"variant": variant[0]} if variant else {})
            children.append(child)
            listed.append(descriptor(child.pushed.descriptor) | {"platform": platform})
            if attested:
                attestation = self.artifact("application/vnd.in-toto+json", config_type=mediatype.OCI_CONFIG)
                annotations = {
                    "vnd.docker.reference.digest": child.digest,
                    "vnd.docker.reference.type": "attestation-manifest",
                }
                children.append(attestation)
                entry = descriptor(attestation.pushed.descriptor)
                listed.append(entry | {"platform": ATTESTATION, "annotations": annotations})
        media_type = mediatype.DOCKER_LIST if docker else mediatype.OCI_INDEX
        return Image(make({"mediaType": media_type, "manifests": listed}), (), tuple(children))

    def nested(self) -> Image:
        """An index of indexes."""
        return self.index([self.platforms(), self.index([self.image()])])

    def of_layers(self, *layers: Bytes, algorithm: str = "sha256", created: str | None = None) -> Image:
        """An image with `layers` below one of its own. `created` is what its config says."""
        own = Bytes(self.seeded.randbytes(900), algorithm=algorithm)
        said = {"seed": self.seeded.randbytes(8).hex()} | ({"created": created} if created else {})
        config = Bytes(json.dumps(said).encode(), mediatype.OCI_CONFIG, algorithm)
        return self._image(mediatype.OCI_MANIFEST, config, (*layers, own), algorithm=algorithm)

    def docker_image(self, *layers: Bytes) -> Image:
        """One in docker's schema 2."""
        own = Bytes(self.seeded.randbytes(900), mediatype.DOCKER_LAYER_GZIP)
        config = Bytes(self.seeded.randbytes(16).hex().encode(), mediatype.DOCKER_CONFIG)
        return self._image(mediatype.DOCKER_MANIFEST, config, (*layers, own))

    def sha512(self) -> Image:
        """An image whose digests are all of sha512."""
        return self.of_layers(algorithm="sha512")

    def chart(self) -> Image:
        """A helm chart."""
        config = Bytes(json.dumps({"name": self.seeded.randbytes(4).hex()}).encode(), HELM_CONFIG)
        return self._image(mediatype.OCI_MANIFEST, config, (Bytes(self.seeded.randbytes(700), HELM_CHART),))

    def artifact(
        self, artifact_type: str, subject: Image | None = None, *, config_type: str = mediatype.OCI_EMPTY
    ) -> Image:
        """Anything else; with a `subject` it is a referrer: a signature, an SBOM."""
        config = Bytes(b"{}" if config_type == mediatype.OCI_EMPTY else self.seeded.randbytes(9), config_type)
        more: dict[str, object] = {"artifactType": artifact_type}
        if subject is not None:
            more["subject"] = descriptor(subject.pushed.descriptor)
        return self._image(mediatype.OCI_MANIFEST, config, (Bytes(self.seeded.randbytes(300), artifact_type),), more)

    def cosign(self, signed: Image) -> tuple[str, Image]:
        """A signature in cosign's older way: the tag that it is under, and an image without a subject."""
        config = Bytes(self.seeded.randbytes(8).hex().encode(), mediatype.OCI_CONFIG)
        payload = Bytes(json.dumps({"critical": {"image": signed.digest}}).encode(), COSIGN_LAYER)
        return f"{signed.digest.fallback_tag}.sig", self._image(mediatype.OCI_MANIFEST, config, (payload,))

    def _image(
        self,
        media_type: str,
        config: Bytes,
        layers: Sequence[Bytes],
        more: Mapping[str, object] | None = None,
        algorithm: str = "sha256",
    ) -> Image:
        listed = [descriptor(layer.blob) for layer in layers]
        document = {"mediaType": media_type, "config": descriptor(config.blob), "layers": listed, **(more or {})}
        return Image(make(document, algorithm), (config, *layers))
