"""What the configuration says of one mirrored image, in the form that runs work with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from homeport.config.mirroring import Mirror, MirroredImage, TagSelection
from homeport.mirror import addresses
from homeport.mirror.addresses import Source
from homeport.mirror.origins import TagOrigin
from homeport.mirror.plan import Departure, Grace, departure
from homeport.mirror.selection import Selector
from homeport.oci import patterns, platforms
from homeport.oci.errors import NameInvalid
from homeport.oci.platforms import Platform

#: What followed tags are called in runs: no name that an image can have.
FOLLOWED = "(followed)"


@dataclass(frozen=True, slots=True)
class Rule:
    """One image of the configuration, or what is followed."""

    label: str
    host: str
    #: A repository of `host`, or a pattern of them.
    repositories: str
    #: Where it is put.
    target: str
    #: None: those tags that are here.
    selector: Selector | None
    minimum_age: float = 0.0
    platforms: tuple[Platform, ...] = ()
    referrers: bool = True
    referrer_types: tuple[str, ...] = ()
    not_referrer_types: tuple[str, ...] = ()
    overwrite: bool = False
    grace: Grace = field(default_factory=Grace)

    @property
    def is_pattern(self) -> bool:
        """Whether upstream has to be asked which repositories are meant."""
        return "*" in self.repositories

    @property
    def needs_list(self) -> bool:
        """Whether the list of a repository's tags is needed, rather than single ones."""
        if self.selector is None:
            return self.grace.removes
        return not self.selector.is_only_a_list or self.grace.removes

    def means(self, source: Source) -> bool:
        """Whether the upstream repository is one of this rule's."""
        if source.host != self.host:
            return False
        if self.is_pattern:
            return patterns.matches(self.repositories, source.repository)
        return source.repository == self.repositories

    def place(self, source: Source) -> str | None:
        """Where the source is put; None where that is no name."""
        try:
            return addresses.target(self.target, source)
        except NameInvalid:
            return None

    def brings(self, origin: TagOrigin) -> bool:
        """Whether it is this rule's to bring tags from there to here."""
        return self.means(origin.source) and self.place(origin.source) == origin.repository


def of(mirror: Mirror) -> list[Rule]:
    """The images of the configuration, in its order."""
    return [_rule(image, mirror.dropped) for image in mirror.images]


def named(rules: Iterable[Rule], name: str) -> list[Rule]:
    """Those that people call so: by what the configuration calls them, or by their source."""
    return [rule for rule in rules if name in (rule.label, f"{rule.host}/{rule.repositories}")]


def followed(mirror: Mirror, source: Source, repository: str) -> Rule:
    """What holds for a repository of ours that is followed."""
    grace = Grace(gone_upstream=mirror.gone_upstream)
    return Rule(FOLLOWED, source.host, source.repository, repository, None, grace=grace)


def marked(mirror: Mirror, origins: Iterable[TagOrigin], now: float) -> list[Departure]:
    """When the tags go that runs have marked, by what the configuration says now."""
    by_label = {rule.label: rule.grace for rule in of(mirror)}
    unnamed = Grace(gone_upstream=mirror.gone_upstream, dropped=mirror.dropped)
    return [
        departure(each, each.leaving, by_label.get(each.image or "", unnamed), now)
        for each in origins
        if each.leaving is not None
    ]


def _rule(image: MirroredImage, dropped: float | None) -> Rule:
    host, _, repositories = image.source.partition("/")
    return Rule(
        label=image.label,
        host=host,
        repositories=repositories,
        target=image.target,
        selector=_selector(image.tags),
        minimum_age=image.minimum_age,
        platforms=tuple(map(platforms.parse, image.platforms)),
        referrers=image.referrers,
        referrer_types=image.referrer_types,
        not_referrer_types=image.not_referrer_types,
        overwrite=image.overwrite,
        grace=Grace(image.gone_upstream, image.repository_gone, image.unselected, dropped),
    )


def _selector(tags: TagSelection) -> Selector:
    return Selector(**dict(tags))
