"""Who gets a login and where an answer may lead."""

import pytest
from yarl import URL

from homeport.client import trust
from homeport.client.errors import BadAnswer, Untrusted


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("https://registry-1.docker.io", "https://auth.docker.io/token"),
        ("https://quay.io", "https://quay.io/v2/auth"),
        ("https://QUAY.io", "https://quay.IO/v2/auth"),
        ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth"),
        ("https://registry.digitalocean.com", "https://api.digitalocean.com/v2/registry/auth"),
        ("https://registry.example.co.uk", "https://auth.example.co.uk/token"),
        ("https://example.com", "https://auth.example.com/token"),
        ("http://localhost:5000", "http://localhost:5001/token"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000/token"),
        ("http://registry.lan:5000", "https://registry.lan/token"),
        ("https://[::1]:5000", "https://[::1]:5001/token"),
    ],
)
def test_the_registrys_own_token_service_is_trusted(registry: str, realm: str) -> None:
    assert trust.check_realm(URL(registry), realm, ()) == URL(realm)


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("https://registry-1.docker.io", "https://auth.docker.io.evil.example/token"),
        ("https://registry-1.docker.io", "https://evildocker.io/token"),
        ("https://registry-1.docker.io", "https://evil.io/token"),
        ("https://registry-1.docker.io", "http://auth.docker.io/token"),
        ("https://registry-1.docker.io", "https://user:pass@auth.docker.io/token"),
        ("https://registry.co.uk", "https://evil.co.uk/token"),
        ("https://registry.com", "https://evil.com/token"),
        ("https://registry.com", "https://com/token"),
        ("https://10.0.0.1", "https://10.0.0.2/token"),
        ("https://registry", "https://auth/token"),
        ("https://registry", "https://registry.evil.example/token"),
        ("https://a.lan", "http://a.lan/token"),
    ],
)
def test_a_strangers_token_service_is_not(registry: str, realm: str) -> None:
    with pytest.raises(Untrusted):
        trust.check_realm(URL(registry), realm, ())


def test_the_configuration_can_name_another() -> None:
    realm = "https://api.scaleway.com/tokens"
    assert trust.check_realm(URL("https://rg.fr-par.scw.cloud"), realm, ("api.scaleway.com",)) == URL(realm)
    assert trust.check_realm(URL("https://a.example"), "https://b.example:5001/t", ("b.example:5001",)).port == 5001
    with pytest.raises(Untrusted, match="another party's"):
        trust.check_realm(URL("https://a.example"), "https://b.example:5002/t", ("b.example:5001",))
    with pytest.raises(Untrusted, match="not encrypted"):
        trust.check_realm(URL("https://a.example"), "http://api.scaleway.com/tokens", ("api.scaleway.com",))


@pytest.mark.parametrize(
    "realm",
    [
        "",
        "/token",
        "file:///etc/passwd",
        "https://",
        "https://a b/",
        "https://a:99999/",
        "https://é.fr/",
        "x",
        "https://1.10.0.0.1/token",
    ],
)
def test_a_realm_that_is_no_address_is_refused(realm: str) -> None:
    with pytest.raises(BadAnswer):
        trust.check_realm(URL("https://a.example"), realm, ("a.example", "é.fr"))


@pytest.mark.parametrize(
    ("base", "target", "expected"),
    [
        ("https://h/v2/a/", "/v2/x?n=1&last=b%2Fc", "https://h/v2/x?n=1&last=b%2Fc"),
        ("https://h/v2/a/blobs/uploads/", "?state=1", "https://h/v2/a/blobs/uploads/?state=1"),
        ("https://h/v2/a", "https://cdn.example/x?sig=%2B%3D", "https://cdn.example/x?sig=%2B%3D"),
        ("https://h/v2/a", "//cdn.example/x", "https://cdn.example/x"),
        # Behind a proxy that does not say how it was reached:
        ("https://h/v2/a", "http://h/v2/b?x=%2F", "https://h/v2/b?x=%2F"),
        ("https://h/v2/a", "http://h:80/v2/b", "https://h/v2/b"),
        ("https://h:8443/v2/a", "http://h/v2/b", "https://h:8443/v2/b"),
        ("http://h:5000/v2/a", "http://h:5000/v2/b#fragment", "http://h:5000/v2/b"),
        ("http://h:5000/v2/a", "http://H:5000/v2/B%2Fc?x=%2b", "http://h:5000/v2/B%2Fc?x=%2b"),
    ],
)
def test_where_a_location_leads(base: str, target: str, expected: str) -> None:
    assert str(trust.resolve(URL(base), target)) == expected


@pytest.mark.parametrize(
    "target",
    [
        "ftp://h/x",
        "javascript:alert(1)",
        "http://",
        "/a b",
        "/a\r\nX: y",
        "http://h:70000/",
        # What programs read in different ways:
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://127.0.0.1.1/",
        "http://h.0x7f",
        "http://h\\@127.0.0.1/",
        "http://%31%32%37.0.0.1/",
        "http://127.0.0.1%2e/",
        "http://h%00.example/",
        "http://[::1]x/",
        "http://\uff11\uff12\uff17.0.0.1/",
        "http://\u24dbocalhost/",
        "http://:80/",
        "http://.../",
        "http://a..b/",
        f"http://{'a' * 64}.example/",
    ],
)
def test_a_location_that_leads_nowhere_is_refused(target: str) -> None:
    with pytest.raises(BadAnswer):
        trust.resolve(URL("https://h/v2/"), target)


@pytest.mark.parametrize("target", ["http://user:pass@h/", "//user@h/", "http://quay.io@127.0.0.1/", "http://:p@h/"])
def test_a_location_with_a_login_is_refused(target: str) -> None:
    with pytest.raises(Untrusted, match="a login of its own") as failure:
        trust.resolve(URL("http://h/v2/"), target)
    assert "pass" not in str(failure.value)
    assert trust.resolve(URL("http://own:login@h/v2/"), "/next").user == "own"


@pytest.mark.parametrize("host", ["h", "xn--caf-dma.fr", "a_b.example", "1.1.1.1", "[2606:4700::1111]", "h.example."])
def test_hosts_as_they_are_written(host: str) -> None:
    assert trust.resolve(URL("http://h/v2/"), f"http://{host}/x").path == "/x"


@pytest.mark.parametrize(
    ("address", "internal"),
    [
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("192.168.0.1", True),
        ("169.254.169.254", True),
        ("100.64.0.1", True),
        ("0.0.0.0", True),
        ("224.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", True),
        ("2002:7f00:1::", True),
        ("fe80::1%eth0", True),
        ("fd00::1", True),
        # Metadata of the clouds: most of them; Amazon's over IPv6; Alibaba's; Oracle's; Azure's.
        ("fd00:ec2::254", True),
        ("100.100.100.200", True),
        ("192.0.0.192", True),
        ("168.63.129.16", True),
        ("172.31.255.255", True),
        ("127.255.255.254", True),
        ("0.1.2.3", True),
        ("198.18.0.1", True),
        ("203.0.113.1", True),
        ("255.255.255.255", True),
        ("::", True),
        ("ff02::1", True),
        ("fec0::1", True),
        ("[::1]", True),
        ("127.0.0.1.", True),
        ("::127.0.0.1", True),
        ("::1.1.1.1", True),
        ("::ffff:169.254.169.254", True),
        ("::ffff:0:127.0.0.1", True),
        ("2002:0101:0101::", True),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", True),
        ("64:ff9b::7f00:1", True),
        ("64:ff9b::10.0.0.1", True),
        ("64:ff9b:1::1.1.1.1", True),
        ("2001:db8::1", True),
        ("3fff::1", True),
        ("100::1", True),
        ("5f00::1", True),
        ("64:ff9b::1.1.1.1", False),
        ("172.32.0.1", False),
        ("100.128.0.1", False),
        ("2a00:1450:4001::1", False),
        ("1.1.1.1", False),
        ("2606:4700::1111", False),
        ("::ffff:1.1.1.1", False),
        ("registry.example", None),
    ],
)
def test_internal_addresses(address: str, internal: bool | None) -> None:
    assert trust.is_internal_address(address) is internal
