"""What is written down of a mirror is a configuration that brings it back."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from homeport.config.document import Document
from homeport.config.loading import load
from homeport.config.settings import Settings
from homeport.mirror import exporting
from homeport.mirror.addresses import Source
from homeport.mirror.exporting import Mirrored


def loaded(text: str, folder: Path) -> Settings:
    path = folder / "homeport.yaml"
    path.write_text(text)
    return load(path, {})


def test_what_is_mirrored_and_followed(tmp_path: Path) -> None:
    found = exporting.text(
        [
            Mirrored("quay.io/org/app", Source("quay.io", "org/app"), ("v1",)),
            Mirrored("docker.io/library/alpine", Source("docker.io", "library/alpine"), ("3.20", "latest")),
            Mirrored("alpine", Source("docker.io", "library/alpine"), ("3.20", "3.2")),
            Mirrored("alpine", Source("docker.io", "library/alpine"), ("3.20", "1e3")),
            Mirrored("nothing", Source("docker.io", "library/nothing"), ()),
            Mirrored("lan_5000/x", Source("lan:5000", "x"), ("latest",)),
        ]
    )
    assert "'mirror' in homeport.yaml" in found.partition("\nmirror:")[0]
    images = loaded(found, tmp_path).mirror.images
    assert [(image.label, image.source, image.target, image.tags.list) for image in images] == [
        ("alpine", "docker.io/library/alpine", "alpine", ("1e3", "3.2", "3.20")),
        ("docker.io-library-alpine", "docker.io/library/alpine", "docker.io/library/alpine", ("3.20", "latest")),
        ("lan:5000/x", "lan:5000/x", "lan_5000/x", ("latest",)),
        ("quay.io/org/app", "quay.io/org/app", "quay.io/org/app", ("v1",)),
    ]  # fmt: skip


def test_an_empty_mirror_is_an_empty_list(tmp_path: Path) -> None:
    assert loaded(exporting.text([]), tmp_path).mirror.images == ()


_MIRRORED = st.builds(
    Mirrored,
    st.sampled_from(["a", "b", "a/b", "a-b", "anonymous", "docker.io/library/a"]),
    st.builds(
        Source, st.sampled_from(["docker.io", "quay.io", "localhost:5001"]), st.sampled_from(["library/a", "x/y"])
    ),
    st.lists(st.sampled_from(["latest", "1", "1.0", "0x1", "null", "true", "3.20", "1_000"]), max_size=4).map(tuple),
)


@given(st.lists(_MIRRORED, max_size=12))
def test_everything_comes_back_in_whatever_order_it_came(mirrored: list[Mirrored]) -> None:
    text = exporting.text(mirrored)
    assert text == exporting.text(reversed(mirrored))
    images = Settings.model_validate(Document(text).value).mirror.images
    wanted = {(str(each.source), each.repository, tag) for each in mirrored for tag in each.tags}
    assert {(i.source, i.target, tag) for i in images for tag in i.tags.list} == wanted
