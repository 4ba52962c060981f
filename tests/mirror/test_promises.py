"""Whatever an upstream does: a tag that it has never goes, nor what is in use, nor anything before its whole grace."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from homeport.mirror import brake, holdings, leaving, plan
from homeport.mirror.origins import Leaving, TagOrigin
from homeport.mirror.plan import Departure, Grace, Here, UpstreamTags
from tests.mirror.promises import OURS, Nights

TAGS = [f"1.{number}" for number in range(12)]
some_tags = st.sets(st.sampled_from(TAGS), min_size=1, max_size=8)
one_tag = st.sampled_from(TAGS)
days = st.sampled_from([0.01, 0.5, 1, 1, 1, 2, 5])


class Mirror(RuleBasedStateMachine):
    """Upstream states, configurations and pushes in any order, with nights between them."""

    def __init__(self) -> None:
        super().__init__()
        self.nights = Nights()
        self.world = self.nights.world
        self.truth = self.world.truth

    def teardown(self) -> None:
        self.nights.end()

    @initialize(tags=st.sets(st.sampled_from(TAGS), min_size=4))
    def begin(self, tags: set[str]) -> None:
        self.come(tags)
        self.world.want(2)
        self.night(1)
        assert self.nights.do(self.world.tags(OURS)).keys() == tags

    @rule(tags=some_tags)
    def come(self, tags: set[str]) -> None:
        for tag in sorted(tags):
            self.truth.put(tag, self.world.artifacts.image(20))

    @rule(tags=some_tags)
    def go(self, tags: set[str]) -> None:
        for tag in tags:
            self.truth.tags_there.pop(tag, None)

    @rule(tags=some_tags, then=days)
    def go_for_some_nights(self, tags: set[str], then: float) -> None:
        self.go(tags)
        for _ in range(3):
            self.night(then)

    @rule(tag=one_tag, then=days)
    def comes_back_for_a_night(self, tag: str, then: float) -> None:
        image = self.truth.tags_there.get(tag)
        assume(image is not None)
        assert image is not None
        self.go({tag})
        self.night(then)
        self.truth.put(tag, image)
        self.night(then)
        self.go({tag})
        self.night(then)

    @rule(exists=st.booleans())
    def the_repository(self, *, exists: bool) -> None:
        self.truth.exists = exists

    @rule(fails=st.booleans())
    def lists(self, *, fails: bool) -> None:
        self.truth.fails = fails

    @rule(length=st.sampled_from([None, 0, 1, 3, 6, -1, -3]), then=days)
    def lists_lack(self, length: int | None, then: float) -> None:
        self.truth.lie = lambda tags: tags[:length]
        self.some_nights(then)

    @rule(tags=st.sets(st.sampled_from(TAGS), max_size=3))
    def cannot_be_asked_for(self, tags: set[str]) -> None:
        self.truth.silent = tags

    @rule(grace=st.sampled_from([None, 1 / 24, 2, 2, 5]), newest=st.sampled_from([None, None, 3]))
    def another_configuration(self, grace: float | None, newest: int | None) -> None:
        self.world.want(grace, tags={} if newest is None else {"newest": newest})

    @rule(tag=one_tag, content=st.binary(min_size=1, max_size=3))
    def somebody_pushes(self, tag: str, content: bytes) -> None:
        assume(tag not in self.world.pushed)
        self.nights.do(self.world.push_over(tag, b"ours" + content))
        self.night(1)

    @rule(tags=st.sets(st.sampled_from(TAGS), max_size=2), goes=st.booleans())
    def runs_somewhere(self, tags: set[str], *, goes: bool) -> None:
        self.nights.do(self.world.use(*sorted(tags)))
        if goes:
            self.go(tags)
            self.some_nights(2)

    @rule()
    def a_person_believes_it(self) -> None:
        self.nights.do(self.world.release())

    @rule(then=days)
    def night(self, then: float) -> None:
        self.nights.do(self.world.night(then))

    @rule(then=days)
    def some_nights(self, then: float) -> None:
        for _ in range(3):
            self.night(then)


def few(examples: int, *phases: Phase) -> settings:
    """So many attempts to break a promise, the same each time."""
    return settings(
        max_examples=examples,
        phases=phases or tuple(Phase),
        report_multiple_bugs=False,
        stateful_step_count=12,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def test_no_promise_is_broken() -> None:
    run_state_machine_as_test(Mirror, settings=few(40))


# --- the test finds what it is for ----------------------------------------------------------------------------------


def drop_the_brake(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(brake, "why_not", lambda *_: None)


def count_from_the_copy(patch: pytest.MonkeyPatch) -> None:
    def departure(origin: TagOrigin, why: Leaving, grace: Grace, _: float) -> Departure:
        seconds = grace.of(why)
        return Departure(origin, why, origin.copied_at, None if seconds is None else origin.copied_at + seconds)

    patch.setattr(plan, "departure", departure)


def never_unmark(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(plan, "_is_back", lambda *_: False)


def trust_any_list(patch: pytest.MonkeyPatch) -> None:
    def why(origin: TagOrigin, upstream: UpstreamTags, *_: object) -> Leaving | None:
        return "gone upstream" if upstream.tags is not None and origin.source_tag not in upstream.tags else None

    patch.setattr(plan, "_why", why)
    patch.setattr("homeport.mirror.run.MirrorRun._has_again", _nothing)


async def _nothing(*_: object) -> None:
    return None


def forget_who_uses_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leaving, "_why_kept", lambda *_: None)


def overwrite_what_was_pushed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Here, "is_upstreams", property(lambda _: True))
    patch.setattr(holdings, "is_theirs", lambda *_: False)


@pytest.mark.parametrize(
    "plant",
    [
        drop_the_brake,
        count_from_the_copy,
        never_unmark,
        trust_any_list,
        forget_who_uses_it,
        overwrite_what_was_pushed,
    ],
)
def test_a_planted_fault_is_found(monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None]) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Mirror, settings=few(300, Phase.generate))
