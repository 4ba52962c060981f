"""The file beside the data folder by which an empty registry refills itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from homeport.config.settings import Settings
from homeport.kinds import Outcome
from homeport.mirror import keeping
from tests.mirror.artifacts import Artifacts
from tests.mirror.mirroring import Mirroring
from tests.mirror.upstream import Upstream

APP = "team/app"


@pytest.fixture
def file(mirroring: Mirroring, tmp_path: Path) -> Path:
    mirroring.keep_in(tmp_path / "kept" / "data")
    (tmp_path / "kept").mkdir()
    return tmp_path / "kept" / "data.mirror.yaml"


async def test_an_empty_registry_refills_itself_by_what_the_run_wrote(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, file: Path, tmp_path: Path
) -> None:
    images = {tag: artifacts.image() for tag in ("1.0", "1.1")}
    for tag, image in images.items():
        upstream.put(APP, image, tag)
    mirroring.configure({"source": f"{upstream.host}/{APP}", "target": "app", "tags": {"glob": "1.*"}})
    await mirroring.run()
    written = yaml.safe_load(file.read_text("utf-8"))
    assert Settings.model_validate(written).mirror.images[0].target == "app"
    (tmp_path / "empty").mkdir()
    empty = Mirroring(tmp_path / "empty" / "data", tmp_path / "empty.db")
    await empty.connect()
    empty.settings = Settings.model_validate({**written, "data": str(tmp_path / "kept" / "other")})
    assert (await empty.run()).outcome is Outcome.SUCCESS
    assert await empty.tags("app") == {tag: image.digest for tag, image in images.items()}
    await empty.close()


async def test_what_a_new_registry_has_not_yet_is_not_forgotten(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, file: Path
) -> None:
    upstream.put(APP, artifacts.image(), "1.0")
    mirroring.configure({"source": f"{upstream.host}/{APP}", "target": "app"})
    before = "mirror:\n  images:\n  - source: docker.io/library/lost\n    tags: {list: [latest]}\n"
    file.write_text(before, "utf-8")
    await mirroring.run()
    assert "lost" not in file.read_text("utf-8")
    assert file.with_name("data.mirror.yaml.before").read_text("utf-8") == before


async def test_what_is_kept_beyond_an_image_is_not_forgotten_either(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, file: Path
) -> None:
    """It has the source of the image, and a name of its own."""
    image = {"source": f"{upstream.host}/{APP}", "target": "app", "tags": {"newest": 1}}
    upstream.put(APP, artifacts.image(), "1.0")
    mirroring.configure(image)
    await mirroring.run()
    upstream.put(APP, artifacts.image(), "1.1")
    await mirroring.run()
    assert 'list: ["1.0"]' in file.read_text("utf-8")
    file.write_text(before := file.read_text("utf-8").replace("name: ", "name: the-"), "utf-8")
    await mirroring.run()
    assert file.with_name("data.mirror.yaml.before").read_text("utf-8") == before


async def test_a_folder_that_cannot_be_written_fails_no_run(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, tmp_path: Path
) -> None:
    upstream.put(APP, artifacts.image(), "1.0")
    mirroring.configure({"source": f"{upstream.host}/{APP}", "target": "app"})
    mirroring.keep_in(tmp_path / "not-there" / "data")
    asked = await mirroring.ask()
    await mirroring.worker.run_until_idle()
    assert any("data.mirror.yaml cannot be written" in line for line in await mirroring.log(asked.id))


async def test_a_file_that_cannot_be_ours_is_left_alone_and_fails_no_run(
    mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts, file: Path
) -> None:
    upstream.put(APP, artifacts.image(), "1.0")
    mirroring.configure({"source": f"{upstream.host}/{APP}", "target": "app"})
    file.write_bytes(theirs := b"\x89PNG\xff")
    asked = await mirroring.ask()
    await mirroring.worker.run_until_idle()
    assert (await mirroring.summary(asked)).outcome is Outcome.SUCCESS
    assert any("data.mirror.yaml is no text" in line for line in await mirroring.log(asked.id))
    assert file.read_bytes() == theirs


async def test_nothing_mirrored_writes_nothing(mirroring: Mirroring, file: Path) -> None:
    assert await keeping.write(mirroring.registry, mirroring.settings) is None
    assert not file.exists()
