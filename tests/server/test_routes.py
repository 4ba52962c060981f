"""Paths: each has one reading, whatever a repository is called and whatever somebody encodes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.oci.digest import Digest
from homeport.oci.errors import NameInvalid, NotFound
from homeport.oci.reference import is_repository
from homeport.server import routes
from homeport.server.routes import HANDLERS, Route

DIGEST = Digest.of(b"")
UPLOAD = "0123456789abcdef0123456789abcdef"

#: Names that look like parts of paths.
NAMES = [
    "a",
    "team/app",
    "manifests",
    "blobs",
    "uploads",
    "tags/list",
    "blobs/uploads",
    "a/manifests/b",
    "v2",
    "referrers",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_shape(name: str) -> None:
    shapes = {
        f"/v2/{name}/manifests/latest": ("manifest", name, "latest"),
        f"/v2/{name}/manifests/{DIGEST}": ("manifest", name, DIGEST),
        f"/v2/{name}/manifests/uploads": ("manifest", name, "uploads"),
        f"/v2/{name}/blobs/{DIGEST}": ("blob", name, DIGEST),
        f"/v2/{name}/blobs/uploads/": ("uploads", name, ""),
        f"/v2/{name}/blobs/uploads": ("uploads", name, ""),
        f"/v2/{name}/blobs/uploads/{UPLOAD}": ("upload", name, UPLOAD),
        f"/v2/{name}/tags/list": ("tags", name, ""),
        f"/v2/{name}/referrers/{DIGEST}": ("referrers", name, DIGEST),
    }
    for path, expected in shapes.items():
        assert routes.read(path.encode()) == expected
        assert expected[0] in HANDLERS


def test_the_catalog_belongs_to_no_repository() -> None:
    assert routes.read(b"/v2/_catalog") == Route("catalog", "", "")


def test_some_clients_encode_the_colon() -> None:
    path = f"/v2/a/blobs/{DIGEST}".replace(":", "%3A").encode()
    assert routes.read(path) == routes.read(path.replace(b"%3A", b"%3a")) == ("blob", "a", DIGEST)


@pytest.mark.parametrize(
    "path",
    [
        b"/v2/a",
        b"/v2/a/b",
        b"/v2//",
        b"/v2/manifests/latest",
        b"/v2/blobs/uploads/",
        b"/v2/a/blobs/latest",
        b"/v2/a/blobs/uploads/x:y",
        b"/v2/a/uploads/x",
        b"/v2/a/tags/",
        b"/v2/a/tags/list/",
        b"/v2/a/tags/lists",
        b"/v2/a/_catalog",
        b"/v2/_catalog/",
        b"/v2/a/Manifests/latest",
        b"/v2/a/manifests/b/c",
        b"/v2/a%2Fmanifests/latest",
        b"/v2/a/manifests%2flatest",
        b"/v2/a/manifests/..%2f..%2fetc",
        b"/v2/a/manifests/..%5c",
        b"/v2/a/manifests/b%00",
        b"/v2/a/manifests/b%0d%0aSet-Cookie:x",
        b"/v2/a/manifests/b%7f",
        b"/v2/a/manifests/b%252fc",
        b"/v2/a/manifests/b%25",
        b"/v2/a/manifests/b%",
        b"/v2/a/manifests/b%2",
        b"/v2/a/manifests/b%zz",
        b"/v2/a/manifests/%c3%a9",
        b"/v2/a/manifests/\xc3\xa9",
        b"/v2/a/manifests/%ff",
    ],
)
def test_nothing_is_there(path: bytes) -> None:
    with pytest.raises(NotFound):
        routes.read(path)


@pytest.mark.parametrize("name", ["", "A", "a/../b", "..", ".", "a//b", "-a", "a/", "a b", "a%20b", "_a", "a" * 300])
def test_only_the_name_is_wrong(name: str) -> None:
    for rest in ("manifests/latest", f"blobs/{DIGEST}", "blobs/uploads/", f"blobs/uploads/{UPLOAD}", "tags/list"):
        with pytest.raises(NameInvalid):
            routes.read(f"/v2/{name}/{rest}".encode())


@given(st.text(alphabet="ab/:%2fF_.-", max_size=40).map(str.encode) | st.binary(max_size=60))
def test_every_path_is_read_or_refused(rest: bytes) -> None:
    try:
        route = routes.read(b"/v2/" + rest)
    except (NotFound, NameInvalid):
        return
    assert route.name in HANDLERS
    assert "/" not in route.reference
    assert route.name == "catalog" or is_repository(route.repository)
    assert route.reference.isascii()
    assert route.reference.isprintable()
