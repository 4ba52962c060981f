"""The settings of what comes from other registries: how they are asked, what is mirrored and cached.

Holds: an image of the configuration can be mirrored as it is written; what an upstream is known not to offer (a list of
its repositories) is refused here and not at two in the morning.
"""

from __future__ import annotations

import re
from string import Formatter
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    Strict,
    WithJsonSchema,
    model_validator,
)

from homeport.config.plans import NEVER, Cron
from homeport.config.references import Secret
from homeport.config.section import Section, setting
from homeport.config.values import (
    Count,
    Duration,
    FilePath,
    Flag,
    HostName,
    Listen,
    Name,
    Network,
    Number,
    Pattern,
    Size,
    TagGlob,
    check_pattern,
    parse_duration,
    refusal,
)
from homeport.oci import platforms, version_ranges
from homeport.oci.errors import RegistryError
from homeport.oci.reference import DOCKER_HUB, Reference, is_repository, is_tag

#: Registries that tell nobody, or no user, which repositories they have: a pattern of names can't be resolved there.
UNLISTED: Final = frozenset({DOCKER_HUB, "ghcr.io", "registry.gitlab.com", "public.ecr.aws"})
#: What may stand between braces in a `target`.
TARGET_FIELDS: Final = ("host", "repository", "namespace", "name")

#: Any, since it is a default that is read as what people write is.
KEEP: Final[Any] = "keep"
_EXPRESSION_CHARACTERS_MAX = 500


def _parse_removal(value: Any) -> float | None:
    if value is None or value == KEEP:
        return None
    if isinstance(value, dict) and set(value) == {"remove_after"}:
        seconds = parse_duration(value["remove_after"])
        if seconds >= 3600:
            return seconds
    raise ValueError("must be 'keep', or {remove_after: 14d} with at least an hour")


def _written_removal(seconds: float | None) -> str | dict[str, float]:
    return KEEP if seconds is None else {"remove_after": seconds}


def _parse_eviction(value: Any) -> float | None:
    return None if value is None or value == NEVER else parse_duration(value)


def _written_eviction(seconds: float | None) -> str | float:
    return NEVER if seconds is None else seconds


def _check_expression(value: str) -> str:
    if len(value) > _EXPRESSION_CHARACTERS_MAX:
        raise ValueError(f"has more than {_EXPRESSION_CHARACTERS_MAX} characters")
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return value


def _check_tag(value: str) -> str:
    if not is_tag(value):
        raise ValueError("must be a tag, such as 3.20; patterns are written as 'glob' or 'match'")
    return value


def _check_platform(value: str) -> str:
    platforms.parse(value)
    return value


def _check_range(value: str) -> str:
    version_ranges.parse(value)
    return value


def _parse_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _check_source(value: str) -> str:
    """A repository with its host, as it is written in full; or a pattern of repositories behind a host."""
    if "*" in value:
        host, slash, pattern = value.partition("/")
        if not slash or "*" in host or not ("." in host or ":" in host or host == "localhost"):
            raise ValueError("must name the host of a pattern, such as registry.lan/team/**")
        check_pattern(pattern)
        if host in UNLISTED:
            raise ValueError(f"has a pattern, and {host} lists its repositories to nobody: name each repository")
        return value
    try:
        reference = Reference.parse(value)
    except RegistryError:
        raise ValueError("must be a repository with its host, such as docker.io/library/alpine") from None
    if reference.digest is not None or ":" in value.rpartition("/")[2]:
        raise ValueError("must be a repository without a tag; tags stand below 'tags', such as {list: [\"3.20\"]}")
    return f"{reference.host}/{reference.repository}"


def _check_target(value: str) -> str:
    try:
        fields = {name for _, name, spec, conversion in Formatter().parse(value) if name is not None}
    except ValueError:
        fields = {""}
    if not fields <= set(TARGET_FIELDS) or not is_repository(value.format(**dict.fromkeys(fields, "x"))):
        known = ", ".join(f"{{{name}}}" for name in TARGET_FIELDS)
        raise ValueError(f"must be a repository's name, in which {known} stand for parts of the source's")
    return value


#: Seconds after which it is removed; None: it is kept. Strict, so that its variable is read as YAML.
Removal = Annotated[
    float | None,
    Strict(),
    BeforeValidator(_parse_removal),
    PlainSerializer(_written_removal),
    WithJsonSchema(
        {
            "anyOf": [
                {"const": KEEP},
                {
                    "type": "object",
                    "properties": {"remove_after": {"anyOf": [{"type": "number"}, {"type": "string"}]}},
                    "required": ["remove_after"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]
#: Seconds; None: never.
Eviction = Annotated[
    float | None,
    BeforeValidator(_parse_eviction),
    PlainSerializer(_written_eviction),
    WithJsonSchema({"anyOf": [{"const": NEVER}, {"type": "number", "minimum": 0}, {"type": "string"}]}),
]
Expression = Annotated[str, AfterValidator(_check_expression)]
_OneOrMany = BeforeValidator(_parse_list, json_schema_input_type=str | list[str])
Expressions = Annotated[tuple[Expression, ...], _OneOrMany]
TagGlobs = Annotated[tuple[TagGlob, ...], _OneOrMany]
Tag = Annotated[str, AfterValidator(_check_tag)]
Platform = Annotated[str, AfterValidator(_check_platform)]
VersionRange = Annotated[str, AfterValidator(_check_range)]
Source = Annotated[str, AfterValidator(_check_source)]
Target = Annotated[str, AfterValidator(_check_target)]


class Upstream(Section):
    """How one registry is asked that images come from."""

    username: str | None = Field(default=None, description="The user that Homeport logs in as; else nobody.")
    password: Secret | None = Field(
        default=None,
        description="Where that user's password or access token is: env:NAME, file:/path, vault:ITEM.",
    )
    at_once: Count = Field(default=8, description="How many requests a run has under way at once.", ge=1, le=64)
    requests_per_second: Number | None = Field(default=None, description="At most so many requests a second.", gt=0)
    bandwidth: Size | None = Field(default=None, description="At most so many bytes a second, such as 20MiB.", gt=0)
    reserve: Count = Field(
        default=20,
        description="So many of the pulls that the registry allows are left for people; runs stop before them.",
        ge=0,
    )

    @model_validator(mode="after")
    def _login_is_whole(self) -> Upstream:
        if (self.username is None) != (self.password is None):
            raise ValueError("'username' and 'password' go together")
        return self


class TagSelection(Section):
    """Which tags of a repository: those of `list`, and those that fit every condition; all where there is neither."""

    list: tuple[Tag, ...] = Field(default=(), description="These tags.")
    glob: TagGlobs = Field(default=(), description="Tags that any of these globs means: 3.*, release-?.")
    match: Expressions = Field(default=(), description="Tags in which any of these regular expressions is found: ^v.")
    not_match: Expressions = Field(default=(), description="But not those in which any of these is found: -rc.")
    semver: VersionRange | None = Field(default=None, description="Versions of this range: '>=3.18 <4', '^1.2'.")
    prereleases: Flag = Field(default=False, description="Whether 1.2.0-rc.1 is meant, too, where versions count.")
    newest: Count | None = Field(default=None, description="Of those, only so many: the newest.", ge=1)
    by: Literal["semver", "created"] = Field(
        default="semver", description="What makes a tag newer: its version, or when its image was made."
    )
    minors: Count | None = Field(default=None, description="Only of the newest so many minor versions.", ge=1)
    patches: Count | None = Field(default=None, description="Of each minor version only so many: the newest.", ge=1)

    @model_validator(mode="after")
    def _age_is_counted(self) -> TagSelection:
        if self.by == "created" and self.newest is None:
            raise ValueError("'by: created' says which are the newest; give 'newest' as well")
        return self


class MirroredImage(Section):
    """An upstream repository that is kept in step here."""

    source: Source = Field(
        description="The repository, such as docker.io/library/alpine; or a pattern where the registry lists"
        " its repositories, such as registry.lan/team/**."
    )
    name: Name | None = Field(default=None, description="What it is called in runs; its source unless it is set.")
    target: Target = Field(
        default="{host}/{repository}",
        description="Where it is put; {host}, {repository}, {namespace} and {name} are parts of the source.",
    )
    tags: TagSelection = TagSelection()
    minimum_age: Duration = Field(
        default=0, description="Take a tag only when it has been the same for so long since Homeport first saw it so."
    )
    platforms: tuple[Platform, ...] = Field(
        default=(), description="Only these platforms of an image, such as linux/amd64; the index stays as it is."
    )
    referrers: Flag = Field(default=True, description="Whether signatures, attestations, SBOMs come with an image.")
    referrer_types: tuple[str, ...] = Field(default=(), description="Only those of these artifact types, as globs.")
    not_referrer_types: tuple[str, ...] = Field(default=(), description="Those of these artifact types stay away.")
    overwrite: Flag = Field(default=False, description="Whether a tag that somebody pushed here is overwritten.")
    gone_upstream: Removal = Field(
        default=KEEP, description="What happens to a tag that upstream has no more: keep, or {remove_after: 14d}."
    )
    repository_gone: Removal = Field(
        default=KEEP, description="The same where upstream has the whole repository no more."
    )
    unselected: Removal = Field(
        default=KEEP, description="The same for a tag that 'tags' does not mean any more, since a newer one came."
    )

    @property
    def label(self) -> str:
        """What it is called."""
        return self.name or self.source


def _name_once(images: tuple[MirroredImage, ...]) -> tuple[MirroredImage, ...]:
    seen: set[str] = set()
    for number, image in enumerate(images):
        if image.label in seen:
            text = f"'{image.label}' stands here twice; give each a 'name' of its own"
            raise refusal(text, number, "name" if image.name else "source")
        seen.add(image.label)
    return images


class Mirror(Section):
    """Upstream images that are here before anybody asks."""

    schedule: Cron = setting("0 2 * * *", "When it runs: minute hour day month weekday, or 'never'.", live=True)
    follow: Flag = setting(
        False, "Keep in step what this registry holds and upstream has, as well as what 'images' names.", live=True
    )
    skip: tuple[Pattern, ...] = setting(
        (),
        "What is neither mirrored nor followed, by its name here, nor cached, by its name here or upstream: team/**.",
        live=True,
    )
    gone_upstream: Removal = setting(
        KEEP, "What happens to followed tags that upstream has no more: keep, or {remove_after: 14d}.", live=True
    )
    dropped: Removal = setting(
        KEEP, "What happens to tags of an image that 'images' names no more: keep, or {remove_after: 14d}.", live=True
    )
    export: FilePath | None = setting(
        None, "Where each run writes what is mirrored and followed; beside the data folder unless it is set.", live=True
    )
    images: Annotated[tuple[MirroredImage, ...], AfterValidator(_name_once)] = setting(
        (), "The repositories that are mirrored.", live=True
    )


class Freshness(Section):
    """How long some tags are believed."""

    tags: TagGlobs = Field(description="Which tags, as globs.")
    fresh_for: Duration = Field(description="How long they are believed without asking upstream again.")


class Cache(Section):
    """Upstream images that are fetched when somebody asks for them."""

    upstreams: tuple[HostName, ...] = setting(
        (), "The registries that are asked: docker.io, ghcr.io. Pull HOST/docker.io/library/alpine.", live=True
    )
    networks: tuple[Network, ...] = setting(
        (), "Networks from which public images of the cache can be pulled without a login.", live=True
    )
    listen: Listen | None = setting(
        None, "A second address that is the mirror door at its root, for nodes whose settings allow no path."
    )
    fresh_for: Duration = setting("15m", "How long a tag is believed without asking upstream again.", live=True)
    tags: tuple[Freshness, ...] = setting((), "The same for some tags; the first that means a tag wins.", live=True)
    absent_for: Duration = setting(
        "1m", "How long it is believed that upstream does not have something.", live=True, le=3600
    )
    offline: Flag = setting(False, "Ask no upstream, and serve what is here.", live=True)
    evict_after: Eviction = setting("30d", "Let go what nobody pulled for so long, or 'never'.", live=True)
    size: Size | None = setting(
        None, "Let go what was pulled the longest ago while the cache holds more than this.", live=True, gt=0
    )
