"""A registry in memory that accepts everything and fails where a test says so."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from homeport.oci.digest import Digest

Fault = Callable[["MemoryRegistry", web.Request], Awaitable[web.StreamResponse | None]]


@dataclass
class MemoryRegistry:
    """As much of a registry as a client needs, without any check. A method's `faults` are asked first, each once."""

    faults: dict[str, list[Fault]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    locations: str = "/upload/{number}?state=a%2Fb"
    kept_at_most: int = 2**40

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if faults := self.faults.get(request.method):
            answer = await faults.pop(0)(self, request)
            if answer is not None:
                return answer
        if "/manifests/" in request.path:
            return await self.manifest(request, request.path.rpartition("/")[2])
        if "/blobs/" in request.path and request.method in {"GET", "HEAD"}:
            blob = self.blobs.get(request.path.rpartition("/")[2])
            return web.Response(status=404) if blob is None else web.Response(body=blob)
        if request.method == "POST":
            number = str(len(self.uploads))
            self.uploads[number] = bytearray()
            return web.Response(status=202, headers={"Location": self.locations.format(number=number)})
        return await self.upload(request, request.path.rpartition("/")[2])

    async def manifest(self, request: web.Request, target: str) -> web.Response:
        if request.method == "PUT":
            stored = request.headers["Content-Type"], await request.read()
            self.manifests |= {target: stored, Digest.of(stored[1]): stored}
            return web.Response(status=201, headers={"OCI-Subject": "taken"})
        if target not in self.manifests:
            return web.Response(status=404)
        media_type, data = self.manifests[target]
        return web.Response(body=data, headers={"Content-Type": media_type, "Docker-Content-Digest": Digest.of(data)})

    async def upload(self, request: web.Request, number: str) -> web.Response:
        held = self.uploads.get(number)
        if held is None:
            return web.Response(status=404)
        start = int(request.headers.get("Content-Range", f"{len(held)}-").partition("-")[0])
        if start != len(held):
            return web.Response(status=416)
        async for chunk in request.content.iter_any():
            held += chunk[: max(0, self.kept_at_most - (len(held) - start))]
        if request.method == "PUT":
            assert request.query["state"] == "a/b"
            digest = request.query["digest"]
            if Digest.of(held) != digest:
                return web.json_response({"errors": [{"code": "DIGEST_INVALID", "message": "no"}]}, status=400)
            self.blobs[digest] = bytes(held)
            del self.uploads[number]
            return web.Response(status=201)
        headers = {"Range": f"0-{max(0, len(held) - 1)}", "Location": request.raw_path}
        return web.Response(status=204 if request.method == "GET" else 202, headers=headers)
