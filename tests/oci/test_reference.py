"""Names: of repositories, of tags, and as people write them.

The table of normalisation is that of Docker's own tests (distribution/reference, `normalize_test.go`).
"""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.oci.errors import DigestInvalid, NameInvalid, TagInvalid
from homeport.oci.reference import Reference, check_repository, check_tag, is_repository, is_tag

HEX = "1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a"
DIGEST = f"sha256:{HEX}"

#: As the distribution-spec prints it.
SPEC = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")


@pytest.mark.parametrize(
    "name",
    ["a", "0", "a/b", "library/alpine", "a.b_c__d-e----f", "manifests", "blobs/uploads", "tags/list", "a" * 255, HEX],
)
def test_is_a_repository(name: str) -> None:
    assert check_repository(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "A",
        "a/B",
        "a b",
        ".a",
        "a.",
        "-a",
        "a-",
        "_a",
        "a_",
        "a..b",
        "a___b",
        "a._b",
        "a.-b",
        "a/../b",
        "a/./b",
        "..",
        "a:b",
        "a@b",
        "ä",
        "a\n",
        "a\0",
        "a\\b",
        "a%2fb",
        "a" * 256,
        "a/" * 200 + "a",
    ],
)
def test_is_no_repository(name: str) -> None:
    assert not is_repository(name)
    with pytest.raises(NameInvalid):
        check_repository(name)


@given(st.text(alphabet="ab0._-/A", max_size=12))
def test_repositories_are_what_the_spec_prints(name: str) -> None:
    assert is_repository(name) == (SPEC.fullmatch(name) is not None)


@pytest.mark.parametrize("tag", ["latest", "1.4", "_", "A", "v1.0.0-rc.1_2", "sha256-" + HEX, "a" * 128, "0."])
def test_is_a_tag(tag: str) -> None:
    assert check_tag(tag) == tag


@pytest.mark.parametrize("tag", ["", ".a", "-a", "a" * 129, "a b", "a/b", "a:b", "a@b", "a+b", "é", "a\n", "..", "a\0"])
def test_is_no_tag(tag: str) -> None:
    assert not is_tag(tag)
    with pytest.raises(TagInvalid):
        check_tag(tag)


@pytest.mark.parametrize(
    ("text", "host", "repository"),
    [
        ("alpine", "docker.io", "library/alpine"),
        ("docker/docker", "docker.io", "docker/docker"),
        ("library/debian", "docker.io", "library/debian"),
        ("docker.io/debian", "docker.io", "library/debian"),
        ("docker.io/docker/docker", "docker.io", "docker/docker"),
        ("index.docker.io/debian", "docker.io", "library/debian"),
        ("index.docker.io/library/debian", "docker.io", "library/debian"),
        ("registry-1.docker.io/library/debian", "docker.io", "library/debian"),
        ("127.0.0.1:5000/docker/docker", "127.0.0.1:5000", "docker/docker"),
        ("127.0.0.1:5000/debian", "127.0.0.1:5000", "debian"),
        ("localhost/debian", "localhost", "debian"),
        ("localhost:5000/debian", "localhost:5000", "debian"),
        ("[::1]/debian", "[::1]", "debian"),
        ("[2001:db8::1]:5000/a/b", "[2001:db8::1]:5000", "a/b"),
        ("xn--n3h.com/a", "xn--n3h.com", "a"),
        ("Foo/bar", "Foo", "bar"),  # an upper-case letter makes it a host
        ("Foo.example/bar", "Foo.example", "bar"),
        ("foo_bar/baz", "docker.io", "foo_bar/baz"),
        ("a/b/c/d", "docker.io", "a/b/c/d"),
        ("test_com/foo", "docker.io", "test_com/foo"),
        ("foo.com/bar", "foo.com", "bar"),
        (f"docker.io/{HEX}", "docker.io", f"library/{HEX}"),
    ],
)
def test_the_host_and_the_repository_that_are_meant(text: str, host: str, repository: str) -> None:
    assert Reference.parse(text) == Reference(host, repository, "latest")
    assert Reference.parse(f"{text}:1.4") == Reference(host, repository, "1.4")
    assert Reference.parse(f"{text}@{DIGEST}") == Reference(
        host, repository, None, Reference.parse(f"a@{DIGEST}").digest
    )
    assert Reference.parse(f"{text}:1.4@{DIGEST}").target == DIGEST
    assert str(Reference.parse(f"{text}:1.4@{DIGEST}")) == f"{host}/{repository}:1.4@{DIGEST}"


@pytest.mark.parametrize(
    ("text", "repository", "tag"),
    [
        ("example.com:8080", "library/example.com", "8080"),  # no slash, so it is a name with a tag
        ("localhost:5000", "library/localhost", "5000"),
        ("foo_bar.com:8080", "library/foo_bar.com", "8080"),
        ("foo/foo_bar.com:8080", "foo/foo_bar.com", "8080"),
    ],
)
def test_what_looks_like_a_port_may_be_a_tag(text: str, repository: str, tag: str) -> None:
    assert Reference.parse(text) == Reference("docker.io", repository, tag)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":tag",
        "/",
        "@",
        f"@{DIGEST}",
        "a:",
        "a@",
        "a@sha256:ffff",
        "a@invalid:ffff",
        "a:1:2",
        "a b",
        "Uppercase:tag",
        "docker/Docker",
        "-docker",
        "-docker/docker",
        "-docker.io/docker/docker",
        "docker///docker",
        "docker.io/docker/Docker",
        "docker.io/docker///docker",
        "https://github.com/docker/docker",
        "aa/asdf$$^/aa",
        "foo_bar.com/image",
        "fe80::1/repo",
        "[fe80::1%eth0]:5000/repo",
        "[2001:db8::1]",
        "host:port/repo",
        "host:/repo",
        "host.example/",
        "a/" * 128 + "a:tag",
        HEX,
        f"{HEX}:tag",
        "a\n",
        "a:tag\n",
        "aa/\0",
    ],
)
def test_what_docker_refuses_is_refused(text: str) -> None:
    with pytest.raises((NameInvalid, TagInvalid, DigestInvalid)):
        Reference.parse(text)


@given(st.text(alphabet="ab0.:/@-_A[]\n ", max_size=30) | st.text(max_size=40))
def test_what_is_read_is_written_so_that_it_is_read_again(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except (NameInvalid, TagInvalid, DigestInvalid):
        return
    assert is_repository(reference.repository)
    assert Reference.parse(str(reference)) == reference
