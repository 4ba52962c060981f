"""What is no image: any artifact with what refers to it (oras), and charts (helm)."""

import json
from pathlib import Path

import pytest

from tests.real.clients import ClientFailedError, Sandbox, digest_in
from tests.real.registries import Registry
from tests.support.components import need

pytestmark = pytest.mark.real


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path / "sandbox")


class Tool:
    """oras or helm, with the words that each takes for our kind of server."""

    def __init__(self, name: str, sandbox: Sandbox, registry: Registry) -> None:
        self._program = need(name)
        self._sandbox = sandbox
        self._transport = ["--ca-file", str(registry.ca)] if registry.ca else ["--plain-http"]

    def run(self, *arguments: str) -> str:
        """A command that talks to the registry."""
        return self._sandbox.run(self._program, *arguments, *self._transport)

    def run_here(self, *arguments: str) -> str:
        """A command that stays on this machine."""
        return self._sandbox.run(self._program, *arguments)

    def login(self, registry: Registry, *words: str) -> None:
        if registry.user:
            self.run(*words, registry.host, "--username", registry.user, "--password", registry.password)


def test_an_artifact_and_what_refers_to_it(registry: Registry, sandbox: Sandbox) -> None:
    oras = Tool("oras", sandbox, registry)
    oras.login(registry, "login")
    (sandbox.folder / "model.bin").write_bytes(b"weights" * 1000)
    (sandbox.folder / "bill.json").write_text("{}")
    reference = registry.reference("artifacts/model")

    oras.run("push", "--artifact-type", "application/vnd.example.model", reference, "model.bin")
    for kind in ("application/vnd.example.bill", "application/vnd.example.signature"):
        oras.run("attach", "--artifact-type", kind, reference, "bill.json:application/json")

    kinds = referrers(oras, reference)
    assert kinds == {"application/vnd.example.bill", "application/vnd.example.signature"}
    assert referrers(oras, reference, "application/vnd.example.bill") == {"application/vnd.example.bill"}

    oras.run("pull", "--output", "pulled", reference)
    assert (sandbox.folder / "pulled/model.bin").read_bytes() == b"weights" * 1000
    assert oras.run("repo", "tags", registry.reference("artifacts/model").rpartition(":")[0]).split() == ["1"]


def test_an_artifact_is_copied_with_what_refers_to_it(registry: Registry, sandbox: Sandbox) -> None:
    oras = Tool("oras", sandbox, registry)
    oras.login(registry, "login")
    (sandbox.folder / "file.txt").write_text("hello")
    source, target = registry.reference("artifacts/from"), registry.reference("artifacts/to")
    oras.run("push", source, "file.txt")
    oras.run("attach", "--artifact-type", "application/vnd.example.note", source, "file.txt")

    trust = [f"--{side}-ca-file={registry.ca}" if registry.ca else f"--{side}-plain-http" for side in ("from", "to")]
    oras.run_here("cp", "--recursive", *trust, source, target)

    assert referrers(oras, target) == {"application/vnd.example.note"}
    assert registry.digest("artifacts/to") == registry.digest("artifacts/from")


def test_a_chart(registry: Registry, sandbox: Sandbox) -> None:
    helm = Tool("helm", sandbox, registry)
    helm.login(registry, "registry", "login")
    helm.run_here("create", "shop")
    helm.run_here("package", "shop", "--version", "1.2.3")

    pushed = digest_in(helm.run("push", "shop-1.2.3.tgz", f"oci://{registry.host}/charts"))
    assert registry.digest("charts/shop", "1.2.3") == pushed

    pulled = helm.run("pull", f"oci://{registry.host}/charts/shop", "--version", "1.2.3", "--destination", "..")
    assert digest_in(pulled) == pushed
    assert "name: shop" in helm.run("show", "chart", f"oci://{registry.host}/charts/shop", "--version", "1.2.3")


def test_helm_is_told_that_a_login_is_wanted(login_registry: Registry, sandbox: Sandbox) -> None:
    helm = Tool("helm", sandbox, login_registry)

    with pytest.raises(ClientFailedError, match=r"401|unauthorized"):
        helm.run("pull", f"oci://{login_registry.host}/charts/shop", "--version", "1.2.3")


def referrers(oras: Tool, reference: str, artifact_type: str = "") -> set[str]:
    """The types of what refers to an artifact; asked of the server for one type, if one is given."""
    wanted = ["--artifact-type", artifact_type] if artifact_type else []
    found = json.loads(oras.run("discover", "--format", "json", *wanted, reference))
    return {referrer["artifactType"] for referrer in found["referrers"]}
