"""Which repository of ours a request means that is about another registry's.

    /v2/docker.io/library/alpine/...       by our name for it: references as people write them, podman, BuildKit
    /v2/library/alpine/...?ns=docker.io    containerd; the header `OCI-Namespace` says the same
    /mirror/v2/...                         the mirror door, in both ways; a name without a host is Docker Hub's, as
                                           dockerd has it, which asks mirrors for nothing else

Holds: on `/v2/` a name that says no upstream is ours, and nobody else ever hears of it. What is asked of a registry
that is not served here is not answered with ours of the same name, and that registry is not asked. A host is meant only
if it is written as in the configuration. Where nothing is cached, a registry goes by the name that its nodes gave it.
Sources: containerd, docs/hosts.md; distribution-spec, "Registry Proxying".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from homeport.oci.errors import NameUnknown, RequestInvalid
from homeport.oci.reference import DOCKER_HUB, check_repository, hub_name
from homeport.server.context import Options
from homeport.server.http import Request
from homeport.server.proxies import base_url

_HEADER = b"oci-namespace"


def meant(request: Request, options: Options, repository: str) -> str:
    """The repository that a request to `/v2/` is about. Raises `NameUnknown`, `RequestInvalid`, `NameInvalid`."""
    namespace = _namespace(request)
    if namespace is not None:
        folder = options.upstreams.get(namespace)
        if folder is not None and repository:
            return _below(folder, repository)
        if options.upstreams and namespace.lower() not in _own_hosts(request, options):
            raise _not_served(namespace)
    if DOCKER_HUB in options.upstreams and repository.startswith(f"{DOCKER_HUB}/"):
        return _below(DOCKER_HUB, repository)
    return repository


def meant_at_door(request: Request, upstreams: Mapping[str, str], repository: str) -> str:
    """The same at the mirror door, where nothing is ours alone."""
    namespace = _namespace(request)
    first, slash, _ = repository.partition("/")
    if namespace is None and slash and first in upstreams.values():
        return _below(first, repository)
    if namespace is None:
        # No name of Docker Hub's begins like a host, so it need not be asked.
        namespace = first if slash and "." in first else DOCKER_HUB
    folder = upstreams.get(namespace)
    if folder is None:
        raise _not_served(namespace)
    return _below(folder, repository)


def _namespace(request: Request) -> str | None:
    """The registry that the client would rather have asked, if it says so; once, or always the same."""
    names = list(request.query.get("ns", ()))
    header = request.joined(_HEADER)
    if header is not None:
        names.append(header)
    if not names:
        return None
    if len(set(names)) > 1:
        raise RequestInvalid("'ns' and OCI-Namespace name different registries")
    return names[0]


def _below(folder: str, repository: str) -> str:
    """Our name for a repository of the upstream's. BuildKit writes the folder and sends `ns`, too."""
    rest = repository.removeprefix(f"{folder}/")
    return check_repository(f"{folder}/{hub_name(rest) if folder == DOCKER_HUB else rest}")


def _own_hosts(request: Request, options: Options) -> Collection[str]:
    """Under which names this server is known to the client, in small letters."""
    host = request.header(b"host") or request.header(b":authority") or ""
    return {urlsplit(base_url(request, options)).netloc.lower(), host.lower()}


def _not_served(namespace: str) -> NameUnknown:
    return NameUnknown(f"'{namespace[:80]}' is not among the registries in cache.upstreams")
