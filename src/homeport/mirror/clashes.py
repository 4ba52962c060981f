"""Images of the configuration that would bring different things to one tag of ours. Pure: no upstream is asked.

Holds: two images that cannot bring the same tag to the same repository are never told of. Of those that are told of, a
run finds out whether upstreams have such a tag: the first image in the configuration brings it, the others fail.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from homeport.mirror import addresses
from homeport.mirror.addresses import Source
from homeport.mirror.rules import Rule
from homeport.mirror.selection import may_share
from homeport.oci import patterns
from homeport.oci.errors import NameInvalid


@dataclass(frozen=True, slots=True)
class Clash:
    """An image that may bring what another one brings."""

    #: Its place in the configuration, from 0.
    number: int
    #: What it shares with which image, for people.
    text: str


def find(rules: Sequence[Rule], skip: Sequence[str] = ()) -> Iterator[Clash]:
    """Each of the configuration's images whose target another image before it has, or which has one for many.

    `skip` are patterns of our names that nothing is brought to.
    """
    by_target: defaultdict[str, list[Rule]] = defaultdict(list)
    for number, rule in enumerate(rules):
        target = _target(rule)
        if target is None or any(patterns.matches(each, target) for each in skip):
            continue
        before = next((each for each in by_target[target] if _may_clash(each, rule)), None)
        if before is not None:
            text = f"puts its tags into '{target}', as '{before.label}' does"
            yield Clash(number, f"{text}: where both have one of the same name, a run brings only that of the first")
        if rule.is_pattern:
            text = f"puts every repository of '{rule.host}/{rule.repositories}' into '{target}'"
            yield Clash(number, f"{text}: where two have a tag of the same name, a run brings only that of the first")
        by_target[target].append(rule)


def _target(rule: Rule) -> str | None:
    """Where the rule puts all that it means; None where that is not one place, or no name."""
    try:
        return addresses.target(rule.target, Source(rule.host, rule.repositories))
    except NameInvalid:
        return None


def _may_clash(first: Rule, second: Rule) -> bool:
    """Whether one tag may be meant by both, of two repositories."""
    is_same = not first.is_pattern and (first.host, first.repositories) == (second.host, second.repositories)
    if is_same or first.selector is None or second.selector is None:
        return False
    return may_share(first.selector, second.selector)
