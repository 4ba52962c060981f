"""What the `client:` section means."""

import re
from pathlib import Path

import pytest
import yaml
from yarl import URL

from homeport.client.settings import ClientSettings, HostSettings
from homeport.config import settings as config
from tests.support.components import ROOT

PAGE = (ROOT / "docs/how-to/calls.md").read_text("utf-8")
PROXY = URL("http://proxy.lan:3128")


def test_the_section_is_taken_over_as_it_is() -> None:
    section = config.Client.model_validate(
        {
            "ca": ["/etc/ca.pem"],
            "proxy": "http://proxy.lan:3128",
            "direct": ["LAN", "10.0.0.1:80"],
            "hosts": {
                "Vault.lan": {"ca": "/etc/vault.pem"},
                "registry.lan:443": {"insecure": True, "realms": ["Auth.lan", "auth.lan:5001"]},
                "[FD00:0::1]:5000": {},
            },
        }
    )
    assert ClientSettings.of(section) == ClientSettings(
        ca=(Path("/etc/ca.pem"),),
        hosts={
            "vault.lan": HostSettings(ca=Path("/etc/vault.pem")),
            "registry.lan:443": HostSettings(insecure=True, realms=("auth.lan", "auth.lan:5001")),
            "[fd00::1]:5000": HostSettings(),
        },
        proxy=PROXY,
        direct=("lan", "10.0.0.1:80"),
    )
    assert ClientSettings.of(config.Client()) == ClientSettings()


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://vault.lan/", True),
        ("http://VAULT.lan.:8080/", True),
        ("http://[fd00:0:0::1]:5000/", True),
        ("http://[fd00::1]/", False),
        ("https://registry.lan/", True),
        ("http://registry.lan/", False),
        ("http://auth.lan:99/token", True),
        ("http://a.vault.lan/", False),
        ("http://lan/", False),
    ],
)
def test_hosts_that_a_person_named(url: str, allowed: bool) -> None:
    hosts = {"vault.lan": HostSettings(), "registry.lan:443": HostSettings(realms=("auth.lan",))}
    assert ClientSettings(hosts={**hosts, "[fd00::1]:5000": HostSettings()}).allows(URL(url)) is allowed


@pytest.mark.parametrize(
    ("url", "proxied"),
    [
        ("https://registry.example/", True),
        ("http://example/", True),
        ("http://vault.lan/", False),
        ("http://lan./", False),
        ("http://wlan/", True),
        ("http://10.0.0.1/", False),
        ("http://10.0.0.1:81/", True),
        ("http://localhost:5000/", False),
        ("http://127.1.2.3/", False),
        ("http://[::1]:5000/", False),
        ("http://[fd00::1]/", True),
    ],
)
def test_what_goes_through_the_proxy(url: str, proxied: bool) -> None:
    settings = ClientSettings(proxy=PROXY, direct=("lan", "10.0.0.1:80"))
    assert settings.proxy_for(URL(url)) == (PROXY if proxied else None)
    assert ClientSettings(direct=("lan",)).proxy_for(URL(url)) is None


def test_the_how_to_can_be_written_like_this() -> None:
    neighbour, realm, authorities, proxy = (
        ClientSettings.of(config.Client.model_validate(yaml.safe_load(block)["client"]))
        for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    )
    assert neighbour.allows(URL("http://minio.lan:9000/"))
    assert realm.allows(URL("https://auth.lan/token"))
    assert authorities.host(URL("https://vault.lan/")).ca == Path("/etc/homeport/vault.crt")
    assert authorities.host(URL("https://old.lan/")).insecure
    assert proxy.proxy_for(URL("https://quay.io/")) == PROXY
    assert proxy.proxy_for(URL("https://vault.lan/")) is None
