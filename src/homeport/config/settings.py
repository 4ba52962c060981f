"""The tree of settings: for each its name, its type, its default and its sentence of help, and nothing else.

Holds: every setting here is used by something. `live` marks those that a running server takes over when it is told to
read the file again; the others wait for its next start.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from homeport.config.mirroring import Cache, Mirror, Upstream
from homeport.config.place import DATA_FOLDER
from homeport.config.plans import Cron, EventPattern, HeaderName, Place, Zone
from homeport.config.references import LocalSecret, Secret
from homeport.config.section import Section, setting
from homeport.config.values import (
    Address,
    AgentGlob,
    Count,
    Duration,
    EngineUrl,
    FilePath,
    Flag,
    HostName,
    Listen,
    Name,
    Network,
    Number,
    Pattern,
    ProxyUrl,
    ServerUrl,
    Size,
    Subject,
    TagGlob,
    Url,
    parse_rights,
    refusal,
)

DATABASE_FILE = "homeport.db"

Right: TypeAlias = Literal["pull", "push", "delete", "admin"]
Rights = Annotated[tuple[Right, ...], BeforeValidator(parse_rights)]
RightsOfMany = Annotated[tuple[Literal["pull", "push", "delete"], ...], BeforeValidator(parse_rights)]


class Tls(Section):
    """Serve HTTPS; both files are read again when they change."""

    certificate: FilePath = Field(
        description="Serve HTTPS with this certificate (PEM, with those between it and its authority behind it)."
    )
    key: FilePath = Field(description="The private key of the certificate, PEM.")


class Server(Section):
    """How clients reach the registry."""

    listen: Listen = setting(
        Address("127.0.0.1", 5000), "Where to listen, HOST:PORT; 0.0.0.0:5000 is every address of the machine."
    )
    url: Url | None = setting(
        None, "The address that clients use, where it is not the one they send, as behind some proxies.", live=True
    )
    tls: Tls | None = setting(None, "Serve HTTPS; both files are read again when they change. Without it, plain HTTP.")
    trusted_proxies: tuple[Network, ...] = setting(
        (), "Addresses or networks of proxies whose X-Forwarded-For, -Proto and -Host headers are believed.", live=True
    )
    read_only: str | None = setting(
        None, "Refuse every change and tell clients this reason; pulls go on.", live=True, min_length=1
    )
    drain_seconds: Duration = setting(30, "How long running requests may go on after the server is told to stop.")
    body_idle_seconds: Duration = setting(
        300, "End a request whose body stands still for so long; its upload can be resumed.", live=True, gt=0
    )
    token_seconds: Duration = setting(
        300, "How long a bearer token of the token service is good for.", live=True, ge=60, le=86400
    )


class User(Section):
    """A user that the configuration names; it wins over one of the database with the same name."""

    password: Secret = Field(
        description="Where the password, or its argon2id or bcrypt hash, is: env:NAME, file:/path or vault:ITEM."
    )
    admin: Flag = Field(default=False, description="Whether the user may do everything.")


class Rule(Section):
    """Rights on the repositories of a pattern. The rights of all rules that match add up."""

    repositories: Pattern = Field(
        description="Which repositories: team/app, team/* (one level), team/** (every level)."
    )
    allow: Mapping[Subject, Rights] = Field(
        default={},
        description="Rights by the name of a group, else of a user; '*' is who is logged in, 'anonymous' everybody.",
    )
    visibility: Literal["public", "private"] | None = Field(
        default=None,
        description="public: anybody may pull; private: nothing for anonymous and signed-in clients but by a rule.",
    )


class Access(Section):
    """Who may do what. The rights are pull, push, delete and admin."""

    anonymous: RightsOfMany = setting((), "Rights of clients that are not logged in, on every repository.", live=True)
    signed_in: RightsOfMany = setting(
        ("pull", "push"), "Rights of every user that is logged in, on every repository.", live=True
    )
    groups: Mapping[Name, tuple[Name, ...]] = setting({}, "Groups and the users that are in them.", live=True)
    users: Mapping[Name, User] = setting(
        {}, "Users beside those of `homeport user`, which cannot change these.", live=True
    )
    rules: tuple[Rule, ...] = setting((), "Rights by pattern of repository.", live=True)

    @model_validator(mode="after")
    def _groups_are_known(self) -> Access:
        for rule in self.rules:
            for subject in rule.allow:
                if subject.startswith("group:") and subject.removeprefix("group:") not in self.groups:
                    raise ValueError(f"a rule names '{subject}', and 'access.groups' has no such group")
        return self


class Limits(Section):
    """The largest of what a client may send."""

    manifest_bytes: Size = setting(
        "4MiB", "The largest manifest that is accepted.", live=True, ge=64 * 1024, le=64 * 1024**2
    )
    page_entries: Count = setting(
        10_000, "The most tags, repositories or referrers in one answer.", live=True, ge=1, le=100_000
    )
    header_bytes: Size = setting(
        "64KiB", "The largest address and headers of one request.", live=True, ge=4096, le=1024**2
    )


class Storage(Section):
    """The room that is kept free. Below it uploads are refused with 507; pulls and deletes go on."""

    reserve_percent: Number = setting(2.0, "Keep this part of the disk free, in percent.", ge=0, le=90)
    reserve_bytes: Size = setting("1GiB", "Keep at least this much of the disk free.")


class _SomeTags(Section):
    repositories: Pattern = Field(
        description="Which repositories: team/app, team/* (one level), team/** (every level)."
    )
    tags: tuple[TagGlob, ...] = Field(
        default=("*",), description="Which of their tags: '*' is any characters, '?' is one."
    )
    not_tags: tuple[TagGlob, ...] = Field(default=(), description="Those of them that are not meant.")

    @model_validator(mode="after")
    def _some_are_left(self) -> _SomeTags:
        if not self.tags:
            raise ValueError("'tags' names none; leave it out where all are meant")
        if "*" in self.not_tags:
            raise ValueError("'not_tags' leaves no tag; take the '*' out")
        return self


class ImmutableTags(_SomeTags):
    """Tags that, once pushed, are neither moved nor deleted."""


class Repositories(Section):
    """What holds for repositories by their pattern."""

    sparse: tuple[Pattern, ...] = setting(
        (), "Where an index may name manifests that are not here, as mirrors need.", live=True
    )
    immutable: tuple[ImmutableTags, ...] = setting(
        (),
        "Tags that, once pushed, are neither moved nor deleted; `latest` makes no exception.",
        live=True,
    )
    protected: tuple[Pattern, ...] = setting(
        (), "Where nothing goes by itself, whatever the rules say; people can delete there.", live=True
    )


class ClientHost(Section):
    """How Homeport calls one host. What stands here may be called even where somebody else named it."""

    ca: FilePath | None = Field(default=None, description="Authorities in PEM that are trusted for this host as well.")
    insecure: Flag = Field(
        default=False, description="Do not check its certificate, and use plain HTTP if it does not speak TLS."
    )
    realms: tuple[HostName, ...] = Field(
        default=(), description="Token services on other hosts that may be given the login for this one."
    )


class Client(Section):
    """How Homeport calls others."""

    ca: tuple[FilePath, ...] = setting((), "Authorities in PEM that are trusted beside the system's.", live=True)
    proxy: ProxyUrl | None = setting(
        None, "The HTTP proxy that every call goes through; what others name must resolve here too.", live=True
    )
    direct: tuple[HostName, ...] = setting(
        (), "Hosts that are called without the proxy, each with all whose names end in it.", live=True
    )
    hosts: Mapping[HostName, ClientHost] = setting({}, "What holds for one host only.", live=True)


class Log(Section):
    """What is written to standard error."""

    level: Literal["info", "warning", "error"] = setting("info", "The least that is written.", live=True)
    format: Literal["text", "json"] = setting("text", "Lines for people or for machines.")


#: What a program is sent, and messages for people.
WebhookFormat: TypeAlias = Literal["standard", "cloudevents", "distribution", "empty"]
ChatFormat: TypeAlias = Literal["discord", "slack", "teams", "ntfy", "gotify", "apprise"]


class Target(Section):
    """Somebody who is told what happens."""

    url: Place | None = Field(
        default=None, description="Where to send it: an address, or where one is that is a secret (vault:ITEM, ...)."
    )
    urls_file: FilePath | None = Field(
        default=None, description="Instead of `url`: a JSON list of addresses, each of which is told, as webhooks.json."
    )
    on: tuple[EventPattern, ...] = Field(description="The events that it is told of: tag.set, manifest.*, *.finished.")
    repositories: tuple[Pattern, ...] = Field(
        default=(), description="Only events of these repositories; those that concern none are told always."
    )
    format: Literal["auto", WebhookFormat, ChatFormat] = Field(
        default="auto",
        description="What is sent: standard (Standard Webhooks), cloudevents, distribution (as registry:2), empty, or"
        " a message by discord, slack, teams, ntfy, gotify or apprise (an Apprise URL). auto sees it by the URL.",
    )
    method: Literal["POST", "PUT"] | None = Field(
        default=None, description="The request of a webhook; POST unless it is set, and PUT for `empty`."
    )
    secret: Secret | None = Field(
        default=None, description="What `standard` is signed with: where a whsec_... is, or a text."
    )
    headers: Mapping[HeaderName, Secret] = Field(default={}, description="Headers of a webhook, such as a token.")
    timeout_seconds: Duration = Field(default=15, description="How long the receiver may take to answer.", gt=0, le=300)

    @model_validator(mode="after")
    def _one_place(self) -> Target:
        if (self.url is None) == (self.urls_file is None):
            raise ValueError("give one of 'url' and 'urls_file'")
        if not self.on:
            raise ValueError("'on' names no event that it is to be told of")
        if self.secret and self.format not in ("auto", "standard"):
            raise ValueError(f"'secret' signs the format standard; '{self.format}' has no signature")
        if (self.headers or self.method) and self.format in get_args(ChatFormat):
            raise ValueError(f"'headers' and 'method' are a webhook's; '{self.format}' sets its own")
        return self


class Vaultwarden(Section):
    """A Vaultwarden or Bitwarden server. What it holds is referred to as vault:ITEM."""

    url: ServerUrl = setting(..., "Its address, such as https://vault.lan.", live=True, examples=["https://vault.lan"])
    client_id: LocalSecret = setting(
        ...,
        "Where the client_id of the account's API key (user.…) is.",
        live=True,
        examples=["file:/run/secrets/vault_client_id"],
    )
    client_secret: LocalSecret = setting(
        ...,
        "Where the client_secret of the account's API key is.",
        live=True,
        examples=["file:/run/secrets/vault_client_secret"],
    )
    password: LocalSecret = setting(
        ...,
        "Where the account's master password is; the key alone opens nothing.",
        live=True,
        examples=["file:/run/secrets/vault_password"],
    )


class Bitwarden(Section):
    """The official program `bw`, already logged in. What it can read is referred to as bw:ITEM."""

    program: str = setting("bw", "The program, by name or path.", live=True, min_length=1)
    session: LocalSecret = setting(
        "file:/run/secrets/bw_session_token", "Where the session token of its unlock is.", live=True
    )
    state: FilePath | None = setting(
        None, "The folder with its data.json; its own default unless it is set.", live=True
    )


class Secrets(Section):
    """Where references lead, and how long what was read is remembered (in memory only)."""

    vaultwarden: Vaultwarden | None = setting(None, "The vault that vault:ITEM is read from.")
    bw: Bitwarden = Bitwarden()
    refresh_seconds: Duration = setting(300, "How old what was read from a vault may get.", live=True, ge=10)


class Jobs(Section):
    """Runs: what happens by itself or by `homeport jobs run`."""

    workers: Count = setting(2, "How many run at once.", ge=1, le=64)


class Housekeeping(Section):
    """Forgetting what is old."""

    schedule: Cron = setting("30 4 * * *", "When it runs: minute hour day month weekday, or 'never'.", live=True)
    keep_events: Duration = setting("400d", "How long the audit log goes back.", live=True, ge=7 * 86400)
    keep_jobs: Duration = setting("30d", "How long ended jobs and their logs are kept.", live=True, ge=86400)
    keep_deliveries: Duration = setting(
        "30d", "How long notifications that were sent or given up are kept.", live=True, ge=86400
    )


class KeepRule(_SomeTags):
    """What is kept of some tags: a tag stays if any of the conditions keeps it, and goes if none does."""

    newest: Count | None = Field(default=None, description="Keep so many tags, those pushed last.", ge=1)
    newest_of_minor: Count | None = Field(
        default=None,
        description="Keep so many versions of each minor and variant: of 1.4.1, 1.4.2, 1.5.0 and 1.4.2-alpine, with 1,"
        " all but the first.",
        ge=1,
    )
    pushed_within: Duration | None = Field(default=None, description="Keep what was pushed so lately.", gt=0)
    pulled_within: Duration | None = Field(
        default=None, description="Keep what was pulled so lately, or pushed and not pulled yet.", gt=0
    )
    always: tuple[TagGlob, ...] = Field(default=(), description="Keep the tags of these names.")
    untagged_after: Duration | None = Field(
        default=None, description="How long a manifest stays after its last tag was lost, in these repositories."
    )

    @model_validator(mode="after")
    def _says_something(self) -> KeepRule:
        conditions = (self.newest, self.newest_of_minor, self.pushed_within, self.pulled_within)
        if self.always or any(condition is not None for condition in conditions):
            return self
        if self.untagged_after is None:
            raise ValueError(
                "says nothing to keep, so every tag would go; give it one of 'newest', 'newest_of_minor',"
                " 'pushed_within', 'pulled_within' and 'always', or 'untagged_after' alone"
            )
        if self.model_fields_set & {"tags", "not_tags"}:
            raise ValueError("has only 'untagged_after', which is not about tags; take 'tags' and 'not_tags' out")
        return self


def _differ(rules: tuple[KeepRule, ...]) -> tuple[KeepRule, ...]:
    """`rules`, no two of which say something about the same, so that the first would silently win."""
    about: dict[Any, int] = {}
    graces: dict[str, int] = {}
    for number, rule in enumerate(rules):
        first = about.setdefault((rule.repositories, frozenset(rule.tags), frozenset(rule.not_tags)), number)
        if first != number:
            text = f"is about the same tags of the same repositories as cleanup.keep[{first}]; make one rule of them"
            raise refusal(text, number)
        if rule.untagged_after is not None and (first := graces.setdefault(rule.repositories, number)) != number:
            raise refusal(
                f"is said for the same repositories in cleanup.keep[{first}] already", number, "untagged_after"
            )
    return rules


class Cleanup(Section):
    """What goes by itself, and how long it can be brought back."""

    schedule: Cron = setting(
        "0 3 * * 0",
        "When the retention policy runs and the summary is sent: minute hour day month weekday, or 'never'."
        " What nothing refers to goes all the time.",
        live=True,
    )
    skip_while_uploading: Flag = setting(
        False,
        "Skip a run while something is being pushed. Nothing that is being pushed is ever touched, also without this.",
        live=True,
    )
    grace: Duration = setting(
        "24h", "How long something stays after the last reference to it was lost.", live=True, ge=3600
    )
    untagged_after: Duration = setting(
        "7d", "How long a manifest stays after its last tag was lost, unless a rule says otherwise.", live=True
    )
    uploads_after: Duration = setting("24h", "Forget an upload of which no byte came for so long.", live=True, ge=3600)
    trash: Duration = setting("7d", "How long what was deleted can be brought back.", live=True, ge=86400)
    keep: Annotated[tuple[KeepRule, ...], AfterValidator(_differ)] = setting(
        (),
        "The retention policy: of the rules that are about a tag, the one with the longest pattern of repositories"
        " decides; a tag that none is about stays.",
        live=True,
    )
    not_pulls: tuple[AgentGlob, ...] = setting(
        ("homeport*", "*trivy*", "*grype*", "*syft*", "*clair*", "*regclient*", "*regsync*", "*harbor*", "diun*"),
        "Programs whose pulls do not count for `pulled_within`, by their User-Agent: scanners and mirrors.",
        live=True,
    )


class Engine(Section):
    """A container engine that is asked what it runs."""

    url: EngineUrl = Field(
        description="Where it listens: unix:///var/run/docker.sock, tcp://HOST:2376 (TLS), or http://HOST:2375."
    )
    ca: FilePath | None = Field(
        default=None, description="The authority (PEM) that its certificate is from; the system's unless it is set."
    )
    certificate: FilePath | None = Field(default=None, description="The certificate (PEM) that it knows us by.")
    key: FilePath | None = Field(default=None, description="The private key of the certificate, PEM.")

    @model_validator(mode="after")
    def _tls_is_complete(self) -> Engine:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("'certificate' and 'key' go together")
        if (self.ca or self.certificate) and not self.url.startswith("tcp://"):
            raise ValueError("'ca', 'certificate' and 'key' are for TLS, which only tcp:// has")
        return self


class InUse(Section):
    """What runs somewhere is never deleted: container engines are asked."""

    engines: Mapping[Name, Engine] = setting(
        {}, "Docker or Podman engines that are asked what they run, each under a name of its own.", live=True
    )
    keep_last: Count = setting(
        2, "How many images that ran before are kept for each service and container.", live=True, ge=0, le=100
    )
    refresh_seconds: Duration = setting(60, "How often the engines are asked.", live=True, ge=5, le=3600)


class Quota(Section):
    """How much the repositories of a pattern may hold together. Where several match, all of them hold."""

    repositories: Pattern = Field(
        description="Which repositories: team/app, team/* (one level), team/** (every level)."
    )
    bytes: Size = Field(
        description="The most that they may hold; what several tags or repositories share counts once.", gt=0
    )


def _name_once(quotas: tuple[Quota, ...]) -> tuple[Quota, ...]:
    """`quotas`, no two of which have one pattern."""
    seen: set[str] = set()
    for number, quota in enumerate(quotas):
        if quota.repositories in seen:
            raise refusal(f"'{quota.repositories}' has a quota already", number, "repositories")
        seen.add(quota.repositories)
    return quotas


class Settings(Section):
    """All settings. Everything has a default: an empty file is valid."""

    data: FilePath = setting(Path(DATA_FOLDER), "The folder that holds everything; it is made if it is not there.")
    database: FilePath | None = setting(
        None, f"The SQLite file, on a local disk; {DATABASE_FILE} in the data folder unless it is set."
    )
    server: Server = Server()
    access: Access = Access()
    limits: Limits = Limits()
    storage: Storage = Storage()
    repositories: Repositories = Repositories()
    client: Client = Client()
    time_zone: Zone = setting("UTC", "The time zone that schedules are meant in, such as Europe/Paris.", live=True)
    jobs: Jobs = Jobs()
    housekeeping: Housekeeping = Housekeeping()
    upstreams: Mapping[HostName, Upstream] = setting(
        {}, "How registries are asked that images come from, each by its host as in image names.", live=True
    )
    mirror: Mirror = Mirror()
    cache: Cache = Cache()
    cleanup: Cleanup = Cleanup()
    in_use: InUse = InUse()
    quotas: Annotated[tuple[Quota, ...], AfterValidator(_name_once)] = setting(
        (), "How much repositories may hold, by pattern; a pattern stands here once.", live=True, max_length=100
    )
    notify: Mapping[Name, Target] = setting({}, "Who is told what happens, each under a name of its own.", live=True)
    secrets: Secrets = Secrets()
    log: Log = Log()

    @property
    def database_path(self) -> Path:
        """Where the SQLite file is."""
        return self.database or self.data / DATABASE_FILE
