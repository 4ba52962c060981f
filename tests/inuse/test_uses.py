"""What the answers of an engine mean: who uses which digest; and that nothing is made of what is not understood."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport import inuse
from homeport.client.errors import BadAnswer
from homeport.inuse import IMAGE_CHARACTERS_MAX, NAME_CHARACTERS_MAX, uses
from homeport.registry.protections import Use
from tests.inuse.recorded import (
    CONFIG_ONE,
    CONFIG_THREE,
    CONFIG_TWO,
    ONE,
    THREE,
    TWO,
    Said,
    answers,
    swarm,
)

Told = tuple[str, str, str, str | None]


def told(found: list[Use]) -> set[Told]:
    """Who, how, where and what; with a `*` where it runs no more."""
    return {
        (use.used_by, use.kind + ("*" if use.stopped_at is not None else ""), use.node, use.digest) for use in found
    }


def of(said: Said) -> set[Told]:
    return told(uses(answers(said)))


def with_images(said: Said, **images: Any) -> set[Told]:
    """What it says of its containers alone, with these answers of its images."""
    return of({**said, "services": [], "tasks": [], "nodes": [], **images})


# --- what was recorded ------------------------------------------------------------------------------------------


def test_what_a_swarm_said() -> None:
    assert of(swarm()) == {
        ("service app", "current", "", TWO),
        ("service app", "previous", "", ONE),
        ("service app", "task", "node-1", TWO),
        ("service app", "container", "node-1", TWO),
        ("service app", "container", "node-1", CONFIG_TWO),
        ("service app", "container*", "node-1", ONE),
        ("service app", "container*", "node-1", CONFIG_ONE),
        ("container tool", "container", "node-1", THREE),
        ("container tool", "container", "node-1", CONFIG_THREE),
    }


def test_an_image_is_named_as_the_engine_names_it() -> None:
    found = {str(use.digest): use for use in uses(answers(swarm())) if use.kind in ("current", "container")}
    assert found[TWO].image == f"registry.lan/team/app:2@{TWO}"
    assert found[THREE].image == "registry.lan/team/other:3"
    assert found[THREE].image_id == found[CONFIG_THREE].image_id == CONFIG_THREE


def test_tasks_are_told_with_the_names_of_their_nodes() -> None:
    said = swarm()
    (node,), task = said["nodes"], said["tasks"][0]
    said["nodes"].append({**node, "ID": "n2", "Description": {"Hostname": "nœud-2"}})
    said["tasks"] += [{**task, "ID": "t2", "NodeID": "n2"}, {**task, "ID": "t3", "NodeID": "gone-from-the-swarm"}]
    said["tasks"] += [{**task, "ID": "t4", "NodeID": ""}, {key: task[key] for key in ("Spec", "Status", "ID")}]
    nodes = {(who, where) for who, kind, where, digest in of(said) if kind == "task"}
    expected = {("service app", where) for where in ("node-1", "nœud-2", "gone-from-th", "")}
    assert nodes == {*expected, (f"service {task['ID'][:12]}", "")}


def test_a_service_that_is_gone_is_told_by_the_id_that_its_tasks_have() -> None:
    said = swarm()
    service_id = said["services"][0]["ID"]
    said["services"] = []
    assert (f"service {service_id[:12]}", "task", "node-1", TWO) in of(said)


@pytest.mark.parametrize(
    ("state", "is_told"),
    [
        *((state, True) for state in ("new", "pending", "assigned", "preparing", "starting", "running", "orphaned")),
        *((state, False) for state in ("complete", "shutdown", "failed", "rejected", "remove")),
        ("a state of the future", True),
    ],
)
def test_a_task_counts_until_it_has_ended(state: str, is_told: bool) -> None:
    said = swarm()
    for task in said["tasks"]:
        task["Status"]["State"] = state
    assert bool([kind for _, kind, _, _ in of(said) if kind == "task"]) == is_told


@pytest.mark.parametrize(
    ("state", "runs"),
    [
        *((state, True) for state in ("created", "running", "restarting", "paused", "Up", "stopping")),
        *((state, False) for state in ("exited", "dead", "stopped", "removing")),
        ("a state of the future", True),
    ],
)
def test_a_container_counts_as_running_until_it_has_ended(state: str, runs: bool) -> None:
    said = swarm()
    for container in said["containers"]:
        container["State"] = state
    kinds = {kind for _, kind, _, _ in with_images(said)}
    assert kinds == {"container" if runs else "container*"}


# --- images -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [None, [], ["<none>@<none>"], ["no digest"], ["name@sha256:short"]])
def test_an_image_that_no_registry_knows_is_protected_by_its_config(names: list[str] | None) -> None:
    said = swarm()
    said["containers"] = said["containers"][:1]
    images = {CONFIG_THREE: {"Id": CONFIG_THREE, "RepoDigests": names}}
    assert with_images(said, images=images) == {("container tool", "container", "node-1", CONFIG_THREE)}
    assert with_images(said, images={CONFIG_THREE: {}}) == {("container tool", "container", "node-1", CONFIG_THREE)}
    assert with_images(said, images={}) == {("container tool", "container", "node-1", CONFIG_THREE)}


def test_every_digest_of_an_image_counts_whatever_registry_it_is_of() -> None:
    said = swarm()
    said["containers"] = said["containers"][:1]
    names = [f"docker.io/library/app@{ONE}", f"registry.lan:5000/x@{TWO}", f"other.lan/y@{TWO}"]
    found = with_images(said, images={CONFIG_THREE: {"RepoDigests": names}})
    assert {digest for _, _, _, digest in found} == {CONFIG_THREE, ONE, TWO}


def test_an_id_without_its_algorithm_is_one_of_podman() -> None:
    said = swarm()
    said["containers"] = [{**said["containers"][0], "ImageID": CONFIG_THREE.removeprefix("sha256:")}]
    assert with_images(said, images={}) == {("container tool", "container", "node-1", CONFIG_THREE)}


def test_a_container_without_an_image_uses_none() -> None:
    said = swarm()
    said["containers"] = [{**said["containers"][0], "ImageID": "", "Image": ""}]
    assert with_images(said) == set()


def test_what_a_service_names_by_tag_has_no_digest() -> None:
    said = swarm()
    said["services"][0]["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] = "registry.lan/team/app:2"
    assert ("service app", "current", "", None) in of(said)


def test_what_has_no_container_has_no_image() -> None:
    said = swarm()
    said["services"][0]["Spec"]["TaskTemplate"] = {"PluginSpec": {}, "Runtime": "plugin"}
    del said["services"][0]["PreviousSpec"]["TaskTemplate"]
    said["tasks"][0]["Spec"] = {"NetworkAttachmentSpec": {}}
    assert not {kind for _, kind, _, _ in of(said)} & {"current", "previous", "task"}


# --- names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"Names": ["/bücher-☃"]}, "container bücher-☃"),
        ({"Names": ["/a", "/b"]}, "container a"),
        ({"Names": []}, "container d507518a2508"),
        ({"Names": None}, "container d507518a2508"),
        ({"Names": [7]}, "container d507518a2508"),
        ({"Names": ["/\x1b[2J\n\ud800"]}, "container ?[2J??"),
        ({"Names": ["/" + "n" * 1000]}, "container " + "n" * (NAME_CHARACTERS_MAX - 1)),
        ({"Labels": None}, "container tool"),
        ({"Labels": ["com.docker.swarm.service.name"]}, "container tool"),
        ({"Labels": {"com.docker.swarm.service.name": 7}}, "container tool"),
        ({"Labels": {"com.docker.swarm.service.name": "web"}}, "service web"),
    ],
    ids=repr,
)
def test_a_container_has_a_name_that_can_be_shown(changes: Said, name: str) -> None:
    said = swarm()
    said["containers"] = [{**said["containers"][0], **changes}]
    assert {who for who, _, _, _ in with_images(said)} == {name}
    name.encode()


def test_an_image_has_a_name_that_can_be_shown() -> None:
    said = swarm()
    said["containers"] = [{**said["containers"][0], "Image": "\ud800" + "i" * 10_000}]
    (image,) = {use.image for use in uses(answers({**said, "services": [], "tasks": []}))}
    assert len(image) == IMAGE_CHARACTERS_MAX
    image.encode()


@pytest.mark.parametrize("created", [None, "yesterday", -1, True, 1e400, [], {}])
def test_a_moment_that_is_none_was_long_ago(created: object) -> None:
    said = swarm()
    said["containers"] = [{**said["containers"][0], "State": "exited", "Created": created}]
    assert {use.stopped_at for use in uses(answers({**said, "services": [], "tasks": []}))} == {0.0}


# --- what is not understood -------------------------------------------------------------------------------------


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in the JSON."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def put(said: Said, path: tuple[str | int, ...], value: Any) -> None:
    place: Any = said
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value


@pytest.mark.parametrize(
    "path",
    [
        ("services", 0, "ID"),
        ("services", 0, "Spec"),
        ("services", 0, "Spec", "TaskTemplate"),
        ("services", 0, "Spec", "TaskTemplate", "ContainerSpec"),
        ("services", 0, "Spec", "TaskTemplate", "ContainerSpec", "Image"),
        ("services", 0, "PreviousSpec"),
        ("services", 0, "PreviousSpec", "TaskTemplate", "ContainerSpec", "Image"),
        ("tasks", 0, "Status"),
        ("tasks", 0, "Status", "State"),
        ("tasks", 0, "Spec"),
        ("tasks", 0, "Spec", "ContainerSpec", "Image"),
        ("nodes", 0, "ID"),
        ("nodes", 0, "Description"),
        ("containers", 0, "State"),
        ("images", CONFIG_THREE, "RepoDigests"),
    ],
)
@pytest.mark.parametrize("value", [7, ["x", 1], True], ids=repr)
def test_what_is_needed_and_of_another_type_is_refused(path: tuple[str | int, ...], value: object) -> None:
    said = swarm()
    put(said, path, value)
    with pytest.raises(BadAnswer, match=r"^it tells of "):
        uses(answers(said))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(TWO),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
#: Below these lies what `ask` has made sure of: lists of objects, and objects by id.
PLACES = [path for path in places(swarm()) if len(path) > 2 or (len(path) == 2 and path[0] == "info")]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), ANYTHING), min_size=1, max_size=4))
def test_whatever_stands_anywhere_it_is_understood_or_refused(changes: list[tuple[Any, Any]]) -> None:
    said = swarm()
    for path, value in changes:
        with contextlib.suppress(LookupError, TypeError):  # A change before took the place away.
            put(said, path, value)
    try:
        found = uses(answers(said))
    except BadAnswer:
        return
    for use in found:
        f"{use.used_by} {use.node} {use.image} {use.image_id}".encode()
        assert use.digest is None or use.digest.startswith(("sha256:", "sha512:"))


def test_there_is_an_end_to_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    said = swarm()
    container = said["containers"][0]
    said["containers"] = [{**container, "Names": [f"/{number}"]} for number in range(50)]
    assert len(with_images(said)) == 100
    monkeypatch.setattr(inuse, "USES_MAX", 99)
    with pytest.raises(BadAnswer, match="more than 99 uses"):
        with_images(said)


def test_the_same_use_is_written_once() -> None:
    said = swarm()
    said["containers"] *= 1_000
    said["tasks"] *= 1_000
    assert len(uses(answers(said))) == len(uses(answers(swarm())))
