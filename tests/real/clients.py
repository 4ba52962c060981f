"""Real clients, all driven the same way: push our image to a repository, pull one, say what digest it has.

Each keeps what it knows in a folder of its own, and gets its login as its users give it: through its own login
command, or on the command line where it has none.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import Protocol

from tests.real.engines import Containerd, DockerEngine
from tests.real.layouts import Layout
from tests.real.registries import Registry
from tests.support.components import need

COMMAND_SECONDS_MAX = 120
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ClientFailedError(Exception):
    """A client's command failed; the text is the command and all that it printed."""


class Client(Protocol):
    """A program that pushes and pulls images. Digests are those that it prints, not those of the registry."""

    def push(self, registry: Registry, repository: str) -> str:
        """Push our image as REPOSITORY:1 and return its digest."""

    def pull(self, registry: Registry, repository: str) -> set[str]:
        """Pull REPOSITORY:1, nothing of which is here, and return the digests that it is now known by."""


class Sandbox:
    """A folder that stands in for the user's home and for all system-wide settings of containers' tools."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ".config/containers").mkdir(parents=True)
        (folder / ".config/containers/policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        (folder / "registries.conf").write_text("unqualified-search-registries = []\n")
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/storage"\nrunroot = "{folder}/run"\n'
        )
        (folder / "containers.conf").write_text(
            f'[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\ntmp_dir = "{folder}/libpod"\n'
            f'static_dir = "{folder}/static"\n[network]\nnetwork_config_dir = "{folder}/networks"\n'
        )
        (folder / "auth.json").write_text("{}")
        self.environment = {
            **os.environ,
            "HOME": str(folder),
            "DOCKER_BUILDKIT": "0",  # the old client's builder, which needs no plugin
            "DOCKER_CONFIG": f"{folder}/docker",
            "XDG_RUNTIME_DIR": f"{folder}/runtime",
            "CONTAINERS_CONF": f"{folder}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{folder}/storage.conf",
            "CONTAINERS_REGISTRIES_CONF": f"{folder}/registries.conf",
            "REGISTRY_AUTH_FILE": f"{folder}/auth.json",
        }

    def run(self, *command: str | Path, stdin: str = "") -> str:
        """What the command printed; ClientFailedError if it did not exit 0."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        if done.returncode != 0:
            raise ClientFailedError(f"{' '.join(map(str, command))}\n{done.stdout}")
        return done.stdout


class Docker:
    """The docker command with one engine. The engine trusts any certificate of this machine's own addresses."""

    def __init__(self, program: str, engine: DockerEngine, sandbox: Sandbox, context: Path) -> None:
        self._command = (need(program), "--host", f"unix://{engine.socket}")
        self._sandbox = sandbox
        self._context = context

    def run(self, *arguments: str | Path, stdin: str = "") -> str:
        return self._sandbox.run(*self._command, *arguments, stdin=stdin)

    def login(self, registry: Registry) -> None:
        if registry.user:
            self.run("login", registry.host, "--username", registry.user, "--password-stdin", stdin=registry.password)

    def build(self, reference: str) -> None:
        self.run("build", "--tag", reference, self._context)

    def push(self, registry: Registry, repository: str) -> str:
        reference = registry.reference(repository)
        self.login(registry)
        self.build(reference)
        return digest_in(self.run("push", reference))

    def pull(self, registry: Registry, repository: str) -> set[str]:
        reference = registry.reference(repository)
        self.login(registry)
        self.forget(reference)
        return {digest_in(self.run("pull", reference))}

    def forget(self, reference: str) -> None:
        """Remove the image under all its names, so that a pull has all of it to fetch."""
        found = self.run("image", "ls", "--quiet", "--no-trunc", reference).split()
        if found:
            self.run("image", "rm", "--force", *found)
        self.run("image", "prune", "--force")


class Skopeo:
    """skopeo, which copies between a layout on disk and the registry."""

    def __init__(self, sandbox: Sandbox, layout: Layout) -> None:
        self._program = need("skopeo")
        self._sandbox = sandbox
        self._layout = layout

    def push(self, registry: Registry, repository: str) -> str:
        to = f"docker://{registry.reference(repository)}"
        return self._copy(f"oci:{self._layout.folder}:1", to, self._access(registry, "dest"))

    def pull(self, registry: Registry, repository: str) -> set[str]:
        to = f"dir:{self._sandbox.folder}/{repository.replace('/', '-')}"
        return {self._copy(f"docker://{registry.reference(repository)}", to, self._access(registry, "src"))}

    def copy_within(self, registry: Registry, source: str, target: str) -> str:
        access = [*self._access(registry, "src"), *self._access(registry, "dest")]
        return self._copy(f"docker://{registry.reference(source)}", f"docker://{registry.reference(target)}", access)

    def _copy(self, source: str, target: str, access: list[str]) -> str:
        digest_file = self._sandbox.folder / "digest"
        self._sandbox.run(self._program, "copy", "--all", "--digestfile", digest_file, *access, source, target)
        return digest_file.read_text().strip()

    @staticmethod
    def _access(registry: Registry, side: str) -> list[str]:
        login = [f"--{side}-creds={registry.user}:{registry.password}"] if registry.user else [f"--{side}-no-creds"]
        trust = f"--{side}-cert-dir={registry.trust_folder}" if registry.ca else f"--{side}-tls-verify=false"
        return [*login, trust]


class Podman:
    """podman, or buildah, which takes the same options: a storage of its own, filled from a layout on disk."""

    def __init__(self, program: str, sandbox: Sandbox, layout: Layout) -> None:
        self._program = need(program)
        self._sandbox = sandbox
        self._layout = layout

    def push(self, registry: Registry, repository: str) -> str:
        self._login(registry)
        self._run("pull", f"oci:{self._layout.folder}:1")
        image = self._run("images", "--quiet", "--no-trunc").split()[0]
        digest_file = self._sandbox.folder / "digest"
        to = f"docker://{registry.reference(repository)}"
        self._run("push", "--digestfile", digest_file, *self._trust(registry), image, to)
        return digest_file.read_text().strip()

    def pull(self, registry: Registry, repository: str) -> set[str]:
        reference = registry.reference(repository)
        self._login(registry)
        self._run("rmi", "--all", "--force")
        self._run("pull", *self._trust(registry), f"docker://{reference}")
        return digests_in(self._run("images", "--digests", "--no-trunc"))

    def _login(self, registry: Registry) -> None:
        if registry.user:
            login = ["login", *self._trust(registry), "--username", registry.user, "--password-stdin", registry.host]
            self._run(*login, stdin=registry.password)

    def _run(self, *arguments: str | Path, stdin: str = "") -> str:
        return self._sandbox.run(self._program, *arguments, stdin=stdin)

    @staticmethod
    def _trust(registry: Registry) -> list[str]:
        return [f"--cert-dir={registry.trust_folder}"] if registry.ca else ["--tls-verify=false"]


class Ctr:
    """containerd's own client."""

    def __init__(self, containerd: Containerd, sandbox: Sandbox, layout: Layout) -> None:
        self._command = (need("ctr"), "--address", str(containerd.socket))
        self._sandbox = sandbox
        self._archive = layout.as_tar()

    def push(self, registry: Registry, repository: str) -> str:
        reference = registry.reference(repository)
        named = f"--base-name={reference.rpartition(':')[0]}"  # the layout has the tag
        self._run("images", "import", "--all-platforms", "--no-unpack", named, self._archive)
        self._run("images", "push", *self._access(registry), reference)
        return self._digest(reference)

    def pull(self, registry: Registry, repository: str) -> set[str]:
        reference = registry.reference(repository)
        names = self._run("images", "ls", "--quiet").split()
        if names:
            self._run("images", "rm", "--sync", *names)
        self._run("images", "pull", *self._access(registry), reference)
        return {self._digest(reference)}

    def _digest(self, reference: str) -> str:
        return digest_in(self._run("images", "ls", f"name=={reference}"))

    def _run(self, *arguments: str | Path) -> str:
        return self._sandbox.run(*self._command, *arguments)

    @staticmethod
    def _access(registry: Registry) -> list[str]:
        login = ["--user", f"{registry.user}:{registry.password}"] if registry.user else []
        return [*login, *(["--local", "--tlscacert", str(registry.ca)] if registry.ca else ["--plain-http"])]


def digests_in(text: str) -> set[str]:
    """The digests that a client's output names."""
    return set(_DIGEST.findall(text))


def digest_in(text: str) -> str:
    """The digest of the image that a client's output speaks of: the last one that it names."""
    found: list[str] = _DIGEST.findall(text)
    return found[-1]
