"""The settings: defaults, files, the environment, and every refusal with its place."""

import contextlib
import re
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from homeport.cli.initialize import template
from homeport.config.errors import ConfigError, Problem, SecretUnreadable
from homeport.config.loading import changes, load, located, marks
from homeport.config.references import SecretReference
from homeport.config.settings import Settings
from homeport.config.tree import schema, secret_references, settings, variables
from homeport.config.values import Address

Load = Callable[..., Settings]


@pytest.fixture
def load_text(tmp_path: Path) -> Load:
    def load_it(text: str, environ: dict[str, str] | None = None) -> Settings:
        path = tmp_path / "homeport.yaml"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        return load(path, environ or {})

    return load_it


@pytest.fixture
def refused(load_text: Load) -> Callable[..., list[str]]:
    """The problems of a configuration, without the folder's name."""

    def problems(text: str, environ: dict[str, str] | None = None) -> list[str]:
        with pytest.raises(ConfigError) as raised:
            load_text(text, environ)
        return [str(problem).rpartition("/homeport.yaml")[2].removeprefix(":") for problem in raised.value.problems]

    return problems


def test_everything_has_a_default(load_text: Load) -> None:
    empty = load_text("")
    assert empty == load(None, {}) == Settings()
    assert str(empty.server.listen) == "127.0.0.1:5000"
    assert empty.database_path == Path("homeport-data/homeport.db")
    assert empty.access.anonymous == ()
    assert empty.limits.manifest_bytes == 4 * 1024**2
    assert empty.storage.reserve_bytes == 1024**3


def test_sections_may_be_empty(load_text: Load) -> None:
    assert load_text("server:\n  # nothing yet\naccess:\nlog: {}\n") == Settings()


def test_a_whole_file(load_text: Load) -> None:
    found = load_text("""
data: /srv/data
database: /var/fast/homeport.db
server:
  listen: "[::]:443"
  url: https://registry.lan/
  tls: {certificate: /c.pem, key: /k.pem}
  trusted_proxies: [10.0.0.7, 172.16.0.0/12]
  read_only: moving to the new disk
  drain_seconds: 1m
access:
  anonymous: [pull]
  groups: {ops: [ada, ci]}
  users: {ci: {password: "file:/run/secrets/ci"}}
  rules: [{repositories: "team/**", allow: {ops: [pull, push], "*": [pull]}, visibility: private}]
limits: {manifest_bytes: 8MiB}
storage: {reserve_percent: 5, reserve_bytes: 10GB}
repositories: {sparse: ["mirror/**"]}
client: {ca: [/lan.crt], hosts: {"vault.lan:8443": {ca: /vault.crt, insecure: false}}}
log: {level: warning, format: json}
""")
    assert found.database_path == Path("/var/fast/homeport.db")
    assert found.server.listen == Address("::", 443)
    assert found.server.url == "https://registry.lan"
    assert found.server.trusted_proxies == (ip_network("10.0.0.7/32"), ip_network("172.16.0.0/12"))
    assert found.server.drain_seconds == 60
    assert found.access.users["ci"].password == SecretReference("file", "/run/secrets/ci")
    assert found.access.rules[0].allow["ops"] == ("pull", "push")
    assert found.storage.reserve_bytes == 10**10
    assert found.client.hosts["vault.lan:8443"].ca == Path("/vault.crt")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("data: x\ndat: y", "2: dat: no such setting; did you mean 'data'?"),
        ("server:\n  lisen: x", "2: server.lisen: no such setting; did you mean 'listen'?"),
        ("listen: x", "1: listen: no such setting; did you mean 'server.listen'?"),
        ("server:\n\n  listen: 5000", "3: server.listen: must be HOST:PORT, such as 127.0.0.1:5000, 0.0.0.0:5000 or"),
        ("server: {tls: {certificate: /a}}", "1: server.tls.key: is missing"),
        ("server: {url: 'https://ada:secret@lan'}", "1: server.url: must be the address that clients use, such as"),
        ("server: {url: 'https://lan/registry'}", "1: server.url: must be the address that clients use, such as"),
        ("server: {trusted_proxies: [10.0.0.1/8]}", "1: server.trusted_proxies[0]: must be an address or a network"),
        ("server: {drain_seconds: soon}", "1: server.drain_seconds: must be a number of seconds, or a duration"),
        ("server: {drain_seconds: -1}", "1: server.drain_seconds: must be a number of seconds, or a duration"),
        ("server: {read_only: ''}", "1: server.read_only: must not be empty"),
        ("server: {token_seconds: 3}", "1: server.token_seconds: must be at least 60"),
        ("limits: {page_entries: many}", "1: limits.page_entries: must be a whole number"),
        ("limits: {page_entries: true}", "1: limits.page_entries: must be a whole number"),
        ("limits: {manifest_bytes: 1GiB}", "1: limits.manifest_bytes: must be at most 67108864"),
        ("storage: {reserve_bytes: .inf}", "1: storage.reserve_bytes: must be a number of bytes, or a size"),
        ("storage: [1]", "1: storage: must be a map, with a 'name: value' on each line"),
        ("access: {anonymous: none}", "1: access.anonymous: must be a list, such as [pull, push], or [] for no rights"),
        ("access: {anonymous: [admin]}", "1: access.anonymous[0]: must be 'pull', 'push' or 'delete'"),
        ("access: {groups: {ops: ada}}", "1: access.groups.ops: must be a list"),
        ("access: {users: {'a b': {password: 'env:X'}}}", "1: access.users.a b: must be a name: a letter or"),
        ("access: {users: {anonymous: {password: 'env:X'}}}", "1: access.users.anonymous: must be another name"),
        ("access: {users: {ada: {password: 'env:X', admin: 1}}}", "1: access.users.ada.admin: must be true or false"),
        ("access: {rules: [{allow: {ops: [pull]}}]}", "1: access.rules[0].repositories: is missing"),
        ("access: {rules: [{repositories: 'Team/**'}]}", "1: access.rules[0].repositories: must be a pattern of"),
        ("access: {rules: [{repositories: a, allow: {'group:x': [pull]}}]}", "1: access: a rule names 'group:x', and"),
        ("data: ~/registry", "1: data: must be a path as it stands on disk; '~' is the shell's"),
        ("log: {level: loud}", "1: log.level: must be 'info', 'warning' or 'error'"),
        ("client: {proxy: 'proxy.lan:3128'}", "1: client.proxy: must be the address of a proxy, such as http://proxy"),
        ("notify: [{url: 'https://lan/h'}]", "1: notify: must be a map, with a 'name: value' on each line"),
        ("notify: {ops: {on: ['*'], url: lan/hook}}", "1: notify.ops.url: must be an address, such as https://hooks."),
        ("notify: {ops: {on: ['*'], url: 'vualt:Hook'}}", "1: notify.ops.url: must be an address, such as https://"),
        ("quotas: [{repositories: 'a/**'}]", "1: quotas[0].bytes: is missing"),
        ("quotas: [{repositories: 'a/**', bytes: 0}]", "1: quotas[0].bytes: must be more than 0"),
        ("quotas:\n- {repositories: a, bytes: 1}\n- {repositories: b, bytes: 1}\n- {repositories: a, bytes: 2}",
         "4: quotas[2].repositories: 'a' has a quota already"),
        ("quotas: [" + "{repositories: a, bytes: 1}," * 101 + "]", "1: quotas: must have at most 100 entries"),
        ("log:\n\tlevel: info", "2: begins with a tab; YAML is indented with spaces"),
        ("- data", "1: must be a map of settings, such as 'data: /var/lib/homeport'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(refused: Callable[..., list[str]], text: str, problem: str) -> None:
    (found,) = refused(text)
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("data: x\nserver: {}\ndata: y", "3: 'data' stands twice, here and on line 1"),
        ("a: b: c", "1: mapping values are not allowed here"),
        ("data: 'x", "1: found unexpected end of stream"),
        ("data: *x", "1: found undefined alias"),
        ("? [a]\n: b", "1: a key must be text"),
        ("data: !!python/object/apply:os.system [ls]", "1: 'tag:yaml.org,2002:python/object/apply:os.system' is not"),
        ("data: !!int x", "1: the value and its tag do not fit together"),
        ("data: x\n\x00", "2: has a character that YAML does not allow"),
        ("---\ndata: x\n---\ndata: y", "3: but found another document"),
        ("data: \udcff", "1: is not UTF-8 text"),
        ("data: " + "[" * 100_000, "1: is nested more than 24 deep"),
        ("data: &a [*a]", "1: is nested more than 24 deep"),
        ("#" * (1024 * 1024 + 1), ": is larger than 1 MiB"),
    ],
)
def test_what_is_no_yaml_of_ours_is_refused(refused: Callable[..., list[str]], text: str, problem: str) -> None:
    (found,) = refused(text)
    assert found.strip().startswith(problem.removeprefix(":").strip())


def test_aliases_cannot_blow_a_small_file_up(refused: Callable[..., list[str]]) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (found,) = refused("\n".join(lines))
    assert found.endswith("has more than 100000 values, counting what aliases repeat")


def test_aliases_that_repeat_little_are_welcome(load_text: Load) -> None:
    found = load_text("access: {anonymous: &rights [pull], signed_in: *rights}")
    assert found.access.signed_in == ("pull",)


def test_dates_and_merges_are_text(load_text: Load) -> None:
    assert load_text("server: {read_only: 2026-01-01}").server.read_only == "2026-01-01"


def test_every_problem_is_told_at_once_in_the_order_of_the_file(refused: Callable[..., list[str]]) -> None:
    found = refused("log: {level: loud}\nserver:\n  listen: x\ndat: y\n")
    assert [problem.split(":")[0] for problem in found] == ["1", "3", "4"]


@pytest.mark.parametrize("pasted", ["hunter2secret", "vault:Registry", "env:", "file:", "env:a b"])
def test_a_secret_is_a_reference_and_is_never_repeated(refused: Callable[..., list[str]], pasted: str) -> None:
    (found,) = refused(yaml.safe_dump({"access": {"users": {"ada": {"password": pasted}}}}))
    assert "access.users.ada.password: " in found
    assert "env:" in found or "file:" in found
    assert "hunter2secret" not in found


@pytest.mark.parametrize("reference", ["vault:", "vault: ", "bw:#uri", "vault:A#", "vault:A#totp", "vault:A#field:"])
def test_a_malformed_reference_to_a_vault_is_refused_and_told_how_it_goes(
    refused: Callable[..., list[str]], reference: str
) -> None:
    (found,) = refused(f"secrets: {VAULT}\nnotify: {{ops: {{on: ['*'], url: '{reference}'}}}}")
    assert found.startswith("2: notify.ops.url: after ")


VAULT = "{vaultwarden: {url: 'https://lan/vault/', client_id: env:I, client_secret: env:S, password: env:P}}"


def test_what_is_in_a_vault_needs_one(refused: Callable[..., list[str]], load_text: Load) -> None:
    text = "notify:\n  ops:\n    on: ['*']\n    url: vault:Webhook\naccess: {users: {ada: {password: 'vault:A'}}}\n"
    first, second = refused(text)
    assert first.startswith("4: notify.ops.url: is in a vault and none is known: say with 'secrets.vaultwarden' which")
    assert second.startswith("5: access.users.ada.password: is in a vault")
    (in_variable,) = refused("", {"HOMEPORT_ACCESS_USERS": "{ada: {password: 'vault:A'}}"})
    assert in_variable.startswith("HOMEPORT_ACCESS_USERS: access.users.ada.password: is in a vault")
    found = load_text(f"{text}secrets: {VAULT}")
    assert found.secrets.vaultwarden is not None
    assert found.secrets.vaultwarden.url == "https://lan/vault"


@pytest.mark.parametrize("key", ["client_id", "client_secret", "password"])
def test_what_opens_the_vault_cannot_be_in_it(refused: Callable[..., list[str]], key: str) -> None:
    (found,) = refused("secrets: " + re.sub(rf"{key}: env:.", f"{key}: vault:Key", VAULT))
    assert found.startswith(f"1: secrets.vaultwarden.{key}: opens the vault, so it cannot be in it")


@pytest.mark.parametrize("url", ["vault.lan", "https://ada:x@vault.lan", "https://vault.lan/?x=1", "ftp://vault.lan"])
def test_the_address_of_a_vault(refused: Callable[..., list[str]], url: str) -> None:
    (found,) = refused("secrets: " + VAULT.replace("https://lan/vault/", url))
    assert found.startswith("1: secrets.vaultwarden.url: must be its address, such as https://vault.lan or")


def test_every_secret_in_use_is_found_with_its_setting(load_text: Load) -> None:
    found = load_text(
        "access: {users: {ada: {password: 'env:ADA'}}}\n"
        "notify: {ops: {on: ['*'], url: vault:Hook#uri, secret: 'vault:Sign#field:key', headers: {X-T: file:/t}},"
        " lan: {on: ['*'], url: 'https://hook.lan/'}}\n"
        f"secrets: {VAULT}"
    )
    assert [(name, str(reference)) for name, reference in secret_references(found)] == [
        ("access.users.ada.password", "env:ADA"),
        ("notify.ops.url", "vault:Hook#uri"),
        ("notify.ops.secret", "vault:Sign#field:key"),
        ("notify.ops.headers.X-T", "file:/t"),
        ("secrets.vaultwarden.client_id", "env:I"),
        ("secrets.vaultwarden.client_secret", "env:S"),
        ("secrets.vaultwarden.password", "env:P"),
    ]
    assert secret_references(Settings()) == []
    asking = load_text("access: {users: {ada: {password: 'bw:Ada'}}}")
    assert [name for name, _ in secret_references(asking)] == ["access.users.ada.password", "secrets.bw.session"]


def test_a_secret_is_read_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("two words \n")
    assert SecretReference("file", str(tmp_path / "secret")).read({}) == "two words "
    assert SecretReference("env", "NAME").read({"NAME": "x"}) == "x"
    for missing in (SecretReference("env", "NAME"), SecretReference("file", str(tmp_path / "none"))):
        with pytest.raises(SecretUnreadable):
            missing.read({})
    (tmp_path / "large").write_text("x" * 100_000)
    with pytest.raises(SecretUnreadable, match="larger than 64 KiB"):
        SecretReference("file", str(tmp_path / "large")).read({})


def test_the_environment_wins_over_the_file(load_text: Load, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("https://from.file\n")
    found = load_text(
        "server: {listen: '127.0.0.1:1', url: 'https://in.yaml', drain_seconds: 1}",
        {
            "HOMEPORT_SERVER_LISTEN": ":2",
            "HOMEPORT_SERVER_URL_FILE": str(tmp_path / "url"),
            "HOMEPORT_SERVER_TLS_CERTIFICATE": "/c",
            "HOMEPORT_SERVER_TLS_KEY": "/k",
            "HOMEPORT_SERVER_READ_ONLY": "yes",
            "HOMEPORT_LIMITS_PAGE_ENTRIES": "7",
            "HOMEPORT_ACCESS_ANONYMOUS": "[pull]",
            "HOMEPORT_ACCESS_USERS": "{ci: {password: 'env:CI'}}",
            "HOMEPORT_LOG_LEVEL": "",
            "PATH": "/bin",
        },
    )
    assert found.server.listen == Address("0.0.0.0", 2)
    assert found.server.url == "https://from.file"
    assert found.server.drain_seconds == 1
    assert found.server.tls is not None
    assert found.server.read_only == "yes"
    assert found.limits.page_entries == 7
    assert found.access.anonymous == ("pull",)
    assert found.access.users["ci"].password.name == "CI"
    assert found.log.level == "info"


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"HOMEPORT_DATTA": "x"}, "HOMEPORT_DATTA: no such setting; did you mean 'HOMEPORT_DATA'?"),
        ({"HOMEPORT_SERVER_LISTEN": "x"}, "HOMEPORT_SERVER_LISTEN: server.listen: must be HOST:PORT"),
        ({"HOMEPORT_DATA": "a", "HOMEPORT_DATA_FILE": "b"}, "HOMEPORT_DATA_FILE: is set beside HOMEPORT_DATA;"),
        ({"HOMEPORT_DATA_FILE": "/nowhere"}, "HOMEPORT_DATA_FILE: /nowhere cannot be read: No such file or directory"),
        ({"HOMEPORT_ACCESS_GROUPS": "["}, "HOMEPORT_ACCESS_GROUPS: "),
    ],
)  # fmt: skip
def test_a_wrong_variable_is_named(refused: Callable[..., list[str]], environ: dict[str, str], problem: str) -> None:
    (found,) = refused("", environ)
    assert found.startswith(problem)


def test_what_others_put_into_the_environment_is_no_setting(load_text: Load) -> None:
    links = {
        "HOMEPORT_SERVICE_HOST": "10.0.0.1",
        "HOMEPORT_SERVICE_PORT": "80",
        "HOMEPORT_SERVICE_PORT_HTTP": "80",
        "HOMEPORT_PORT": "tcp://10.0.0.1:80",
        "HOMEPORT_PORT_80_TCP_ADDR": "10.0.0.1",
        "HOMEPORT_UI_SERVICE_HOST": "10.0.0.2",
    }
    assert load_text("", links) == Settings()
    own = load_text("access: {users: {ci: {password: 'env:HOMEPORT_CI'}}}", {"HOMEPORT_CI": "secret"})
    assert own.access.users["ci"].password.read({"HOMEPORT_CI": "secret"}) == "secret"


def test_no_two_settings_share_a_variable() -> None:
    named = [setting for setting in settings() if setting.variable]
    assert len(variables()) == len(named)
    assert not any(variable.endswith("_FILE") for variable in variables())


def test_every_setting_has_one_sentence_of_help() -> None:
    for setting in settings():
        assert re.fullmatch(r"\S.*[.]", setting.help), setting.name


def test_the_schema_knows_every_setting() -> None:
    told = schema()
    assert told["additionalProperties"] is False
    assert set(told["properties"]) == set(Settings.model_fields)
    assert "listen" in told["$defs"]["Server"]["properties"]


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().server.read_only = "no"


def test_changes_are_told_with_what_can_be_taken_over(load_text: Load) -> None:
    old = load_text("access: {anonymous: [pull]}")
    new = load_text("data: elsewhere\nserver: {tls: {certificate: /c, key: /k}}")
    found = {setting.name: setting.live for setting in changes(old, new)}
    assert found == {"data": False, "server.tls.certificate": False, "server.tls.key": False, "access.anonymous": True}
    assert changes(old, old) == []


def test_parts_that_say_the_same_have_the_same_mark(load_text: Load) -> None:
    mirror = "mirror: {images: [{source: quay.io/team/app, target: %s}]}"
    hosts = "upstreams: {quay.io: {username: ada, password: 'env:QUAY'}, ghcr.io: {at_once: 2}}"
    first = load_text(f"{mirror % 'app'}\n{hosts}")
    assert set(marks(first)) == set(Settings.model_fields)
    same = load_text(
        f"{mirror % 'app'}\nupstreams: {{ghcr.io: {{at_once: 2}}, quay.io: {{at_once: 8, username: ada,"
        " password: 'env:QUAY'}}\ncache: {fresh_for: 900}"
    )
    parts = ("mirror", "upstreams", "cache")
    assert marks(first, parts) == marks(same, parts)
    other = marks(load_text(f"{mirror % 'web'}\n{hosts}"), parts)
    assert [part for part in parts if other[part] != marks(first)[part]] == ["mirror"]
    assert marks(load_text(""), parts)["upstreams"] != other["upstreams"]


def test_the_commented_file_says_the_defaults(load_text: Load) -> None:
    assert load_text(template()) == Settings()
    uncommented = re.sub(r"(?m)^( *)#(\w)", r"\1\2", template())
    found = load_text(uncommented)
    assert found.server.tls is not None
    assert found.secrets.vaultwarden is not None
    without_tls = found.server.model_copy(update={"tls": None})
    without_vault = found.secrets.model_copy(update={"vaultwarden": None})
    assert found.model_copy(update={"server": without_tls, "secrets": without_vault}) == Settings()
    for setting in settings():
        assert setting.help in template(), setting.name


_KEYS = st.sampled_from(["data", "server", "listen", "tls", "access", "users", "rules", "limits", "ada"]) | st.text()
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@limits(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.recursive(_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(_KEYS, inner)))
def test_whatever_the_file_holds_it_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(value))
    with contextlib.suppress(ConfigError):
        load(path, {})


@pytest.mark.parametrize("where", [".", "..", "[", "", f"mirror.images[{'9' * 5_000}]"])
def test_whatever_a_problem_is_about_it_is_told(where: str) -> None:
    problem = Problem(where, "cannot be read")
    assert located([problem], None) == [problem]
