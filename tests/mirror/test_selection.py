"""Which tags of an upstream repository are meant, and why the others are not."""

import time
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.mirror.selection import Selected, Selector, referrer_wanted, select
from homeport.oci import versions
from homeport.oci.digest import Digest

SUBJECT = Digest.of(b"subject")
ALPINE = "latest edge 20240329 20250108 3 2 3.18 3.19 3.20 3.18.9 3.19.1 3.19.2 3.20.0 3.20.1 3.20.2 3.21.0-rc.1"
NODE = "22 22-alpine 22.1 22.1.0 22.1.0-alpine 22.2.0 22.2.0-alpine 20.9.0-alpine lts lts-alpine current"


def meant(selector: Selector, names: str, created: Mapping[str, float] | None = None) -> str:
    return " ".join(select(selector, names.split(), created or {}).tags)


def by_name(names: str) -> str:
    return " ".join(sorted(names.split()))


# --- names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (Selector(), NODE),
        (Selector(list=("lts",)), "lts"),
        (Selector(list=("lts", "not-there")), "lts not-there"),
        (Selector(glob=("*-alpine",)), "22-alpine 22.1.0-alpine 22.2.0-alpine 20.9.0-alpine lts-alpine"),
        (Selector(glob=("22.?", "l*")), "22.1 lts lts-alpine"),
        (Selector(match=("^22",)), "22 22-alpine 22.1 22.1.0 22.1.0-alpine 22.2.0 22.2.0-alpine"),
        (Selector(match=("^lts$", "rren")), "lts current"),
        (Selector(not_match=("-alpine", r"\.")), "22 lts current"),
        (Selector(not_match=("",)), ""),
        (Selector(match=("^22",), not_match=("-alpine$",)), "22 22.1 22.1.0 22.2.0"),
        (Selector(glob=("*-alpine",), match=("^22",)), "22-alpine 22.1.0-alpine 22.2.0-alpine"),
        (Selector(list=("lts",), glob=("20.*",)), "lts 20.9.0-alpine"),
        (Selector(list=("lts-alpine",), not_match=("-alpine",)), "lts-alpine 22 22.1 22.1.0 22.2.0 lts current"),
    ],
)
def test_names(selector: Selector, expected: str) -> None:
    assert meant(selector, NODE) == by_name(expected)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (Selector(semver=">=3.19 <4"), "3.19 3.20 3.19.1 3.19.2 3.20.0 3.20.1 3.20.2"),
        (Selector(semver=">=3.20", prereleases=True), "3.20 3.20.0 3.20.1 3.20.2 3.21.0-rc.1"),
        (Selector(semver=">=3.20", list=("edge",)), "3.20 3.20.0 3.20.1 3.20.2 edge"),
        (Selector(semver=">=3.18", glob=("*.0", "edge")), "3.20.0"),
    ],
)
def test_ranges(selector: Selector, expected: str) -> None:
    assert meant(selector, ALPINE) == by_name(expected)


def test_a_range_names_its_variant() -> None:
    assert meant(Selector(semver=">=22"), NODE) == "22 22.1 22.1.0 22.2.0"
    assert meant(Selector(semver=">=22-alpine"), NODE) == "22-alpine 22.1.0-alpine 22.2.0-alpine"


def test_what_the_list_names_and_upstream_lacks_is_told() -> None:
    found = select(Selector(list=("b", "a", "c")), ["c", "d"])
    assert found == Selected(("a", "b", "c"), {"d": "not in the list"}, (), ("a", "b"))


def test_signatures_follow_their_subject() -> None:
    signature = SUBJECT.fallback_tag + ".sig"
    found = select(Selector(), ["1.0", signature, SUBJECT.fallback_tag])
    assert found.tags == ("1.0",)
    assert found.why_not[signature] == f"belongs to {SUBJECT} and comes with that"
    assert select(Selector(glob=("*",)), [signature]).tags == ()
    assert select(Selector(list=(signature,)), [signature]).tags == (signature,)


@pytest.mark.parametrize(
    ("selector", "listed"),
    [
        (Selector(list=("a",)), True),
        (Selector(list=("a",), prereleases=True), True),
        (Selector(), False),
        (Selector(list=("a",), glob=("*",)), False),
        (Selector(list=("a",), newest=3), False),
        (Selector(list=("a",), not_match=("b",)), False),
    ],
)
def test_whether_upstreams_list_is_needed(selector: Selector, listed: bool) -> None:
    assert selector.is_only_a_list is listed


# --- the newest -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        # The example of the settings' page: no date is among them.
        (Selector(semver=">=3.18", newest=3), "3.18 3.19 3.20 3.20.0 3.20.1 3.20.2"),
        (Selector(newest=1), "20250108 3 3.20 3.20.2"),
        (Selector(newest=1, prereleases=True), "20250108 3 3.20 3.20.2 3.21.0-rc.1"),
        (Selector(newest=1, list=("latest", "3.18")), "20250108 3 3.20 3.20.2 latest 3.18"),
        (Selector(glob=("3.*.*",), newest=2), "3.20.1 3.20.2"),
        (Selector(glob=("3.*.*",), minors=2), "3.19.1 3.19.2 3.20.0 3.20.1 3.20.2"),
        (Selector(glob=("3.*.*",), minors=2, patches=1), "3.19.2 3.20.2"),
        (Selector(glob=("3.*.*",), patches=1), "3.18.9 3.19.2 3.20.2"),
        (Selector(glob=("3.*.*",), patches=1, newest=2), "3.19.2 3.20.2"),
        (Selector(glob=("3.*.*",), minors=1, prereleases=True), "3.20.0 3.20.1 3.20.2 3.21.0-rc.1"),
        (Selector(semver=">=3.21.0-rc.0", newest=1), "3.21.0-rc.1"),
    ],
)
def test_the_newest_versions(selector: Selector, expected: str) -> None:
    assert meant(selector, ALPINE) == by_name(expected)


def test_each_variant_is_counted_for_itself() -> None:
    assert meant(Selector(newest=1), NODE) == by_name("22 22-alpine 22.1 22.2.0 22.2.0-alpine")


def test_tags_of_one_version_count_once() -> None:
    assert meant(Selector(newest=1), "v1.2.0 1.2.0_a 1.2.0_b 1.1.9") == by_name("v1.2.0 1.2.0_a 1.2.0_b")


@pytest.mark.parametrize(
    ("selector", "tag", "reason"),
    [
        (Selector(glob=("a*", "b*")), "c", "no 'glob' means it"),
        (Selector(match=("^a",)), "c", "no 'match' is found in it"),
        (Selector(not_match=("x", "-rc")), "1-rc", "'-rc' is found in it"),
        (Selector(semver=">=2"), "c", "not a version"),
        (Selector(semver=">=2"), "1", "not in >=2"),
        (Selector(semver=">=2"), "3-alpine", ">=2 names no variant alpine"),
        (Selector(semver=">=2-alpine"), "3", ">=2-alpine names a variant"),
        (Selector(semver=">=2"), "3-rc1", "a pre-release"),
        (Selector(newest=1), "3-rc1", "a pre-release"),
        (Selector(newest=1), "latest", "not a version"),
        (Selector(newest=1), "1.0.0", "not of the newest 1 versions"),
        (Selector(minors=1), "1.0.0", "not of the newest 1 minor versions"),
        (Selector(patches=1), "2.0.0", "not of the newest 1 of its minor version"),
    ],
)
def test_reasons(selector: Selector, tag: str, reason: str) -> None:
    assert select(selector, [tag, "2.0.1"]).why_not[tag] == reason


# --- by when they were made -------------------------------------------------------------------------------------


def test_the_newest_by_when_they_were_made() -> None:
    selector = Selector(glob=("b-*",), newest=2, by="created")
    names = ["b-1", "b-2", "b-3", "b-4", "other"]
    first = select(selector, names)
    assert (first.tags, first.needs_created) == ((), ("b-1", "b-2", "b-3", "b-4"))
    assert first.why_not["b-1"] == "when it was made is not known"
    some = select(selector, names, {"b-1": 5.0, "b-2": 1.0})
    assert (some.tags, some.needs_created) == ((), ("b-3", "b-4"))
    whole = select(selector, names, {"b-1": 5.0, "b-2": 1.0, "b-3": 5.0, "b-4": 5.0, "other": 9.0})
    assert (whole.tags, whole.needs_created) == (("b-1", "b-3"), ())
    assert whole.why_not == {"b-2": "not of the newest 2", "b-4": "not of the newest 2", "other": "no 'glob' means it"}


def test_no_time_is_asked_for_where_it_makes_no_difference() -> None:
    found = select(Selector(newest=2, by="created", list=("c",)), ["a", "b", "c"])
    assert (found.tags, found.needs_created) == (("a", "b", "c"), ())


def test_the_list_is_meant_while_times_are_not_known() -> None:
    assert select(Selector(newest=1, by="created", list=("c",)), ["a", "b", "c"]).tags == ("c",)


def test_what_is_called_like_a_prerelease_may_be_a_date() -> None:
    selector = Selector(newest=1, by="created")
    assert select(selector, ["2024-01-05", "2024-01-06"], {"2024-01-05": 1, "2024-01-06": 2}).tags == ("2024-01-06",)


# --- referrers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("artifact_type", "types", "not_types", "expected"),
    [
        ("application/spdx+json", (), (), True),
        ("application/spdx+json", ("application/spdx*",), (), True),
        ("application/spdx+json", ("application/vnd.*",), (), False),
        ("application/spdx+json", ("*",), ("*spdx*",), False),
        ("application/spdx+json", (), ("*spdx*",), False),
        (None, (), ("*spdx*",), True),
        (None, ("application/*",), (), False),
    ],
)
def test_which_referrers(
    artifact_type: str | None, types: tuple[str, ...], not_types: tuple[str, ...], expected: bool
) -> None:
    assert referrer_wanted(artifact_type, types, not_types) is expected


# --- whatever upstream has --------------------------------------------------------------------------------------

NAMES = st.builds(
    "{}{}{}".format,
    st.lists(st.integers(0, 2), min_size=1, max_size=3).map(lambda numbers: ".".join(map(str, numbers))),
    st.sampled_from(["", "", "-rc.1", "-rc.2"]),
    st.sampled_from(["", "", "-alpine"]),
) | st.sampled_from(["latest", "20240329", "20250108", SUBJECT.fallback_tag])
COUNTS = st.none() | st.integers(1, 3)
SELECTORS = st.builds(
    Selector,
    list=st.lists(NAMES, max_size=2).map(tuple),
    glob=st.sampled_from([(), ("1*",), ("*",)]),
    match=st.sampled_from([(), (r"\.",)]),
    not_match=st.sampled_from([(), ("-alpine",), ("rc", "^0")]),
    semver=st.sampled_from([None, ">=1", "*", "*-alpine", "1.x || *-alpine"]),
    prereleases=st.booleans(),
    newest=COUNTS,
    by=st.sampled_from(["semver", "created"]),
    minors=COUNTS,
    patches=COUNTS,
)


@given(SELECTORS, st.lists(NAMES, max_size=30))
def test_each_tag_is_selected_or_has_a_reason(selector: Selector, names: list[str]) -> None:
    created = {name: float(len(name)) for name in names}
    for times in ({}, created):
        found = select(selector, names, times)
        assert set(found.tags) <= {*names, *selector.list}
        assert set(found.tags) >= set(selector.list)
        assert found.why_not.keys() == set(names) - set(found.tags)
        assert all(found.why_not.values())
        assert set(found.needs_created) <= found.why_not.keys()
        assert set(found.absent) == set(selector.list) - set(names)
        assert found == select(selector, [*reversed(names), *names], times)
    assert not select(selector, names, created).needs_created


@given(st.lists(NAMES, max_size=30), st.integers(1, 3), st.booleans())
def test_what_is_left_out_of_the_newest_has_enough_newer_ones(names: list[str], newest: int, prereleases: bool) -> None:
    found = select(Selector(newest=newest, prereleases=prereleases), names)
    selected = [version for version in map(versions.parse, found.tags) if version]
    for name in found.why_not:
        version = versions.parse(name)
        if version is None or not (version.is_release or prereleases) or name == SUBJECT.fallback_tag:
            continue
        newer = {
            each.precedence
            for each in selected
            if each.series == version.series and each.precedence > version.precedence
            if each.is_release or not version.is_release
        }
        assert len(newer) >= newest


@given(st.lists(NAMES, max_size=30), COUNTS, COUNTS, COUNTS)
def test_no_lower_release_is_taken_while_a_higher_one_of_its_minor_is_left_out(
    names: list[str], minors: int | None, patches: int | None, newest: int | None
) -> None:
    found = select(Selector(minors=minors, patches=patches, newest=newest, semver="*"), names)
    taken = [version for version in map(versions.parse, found.tags) if version]
    for version in filter(None, map(versions.parse, found.why_not)):
        for each in taken:
            if version.is_release and (each.series, each.minor) == (version.series, version.minor):
                assert each.precedence >= version.precedence


def test_a_hundred_thousand_tags() -> None:
    names = [f"{major}.{minor}.{patch}{variant}" for major in range(10) for minor in range(50) for patch in range(50)
             for variant in ("", "-alpine", "-rc.1", "-slim-bookworm")]  # fmt: skip
    selector = Selector(
        glob=("*",), match=(r"^\d",), not_match=("windows",), semver=">=2", minors=40, patches=3, newest=9
    )
    before = time.perf_counter()
    found = select(selector, names)
    took = time.perf_counter() - before
    assert found.tags == (
        "9.47.47",
        "9.47.48",
        "9.47.49",
        "9.48.47",
        "9.48.48",
        "9.48.49",
        "9.49.47",
        "9.49.48",
        "9.49.49",
    )
    assert len(found.why_not) == len(names) - 9
    assert took < 5
