"""Whether secrets can be read, over the API: never a value."""

from pathlib import Path

from homeport.config.references import SecretReference
from tests.server.api.world import World

MARKER = "the-marker-of-a-secret"


async def test_every_secret_in_use_is_checked_and_none_shown(world: World, tmp_path: Path) -> None:
    world.environ["THERE"] = MARKER
    file = tmp_path / "secret"
    file.write_text(MARKER)
    world.references = [
        ("notify.ops.url", SecretReference("env", "THERE")),
        ("notify.ops.secret", SecretReference("env", "ABSENT")),
        ("access.users.ci.password", SecretReference("file", str(file))),
        ("notify.lan.url", SecretReference("vault", "Hook", "uri")),
    ]
    answer = await world.get("/api/v1/secrets")
    assert answer.status == 200
    assert MARKER.encode() not in answer.body
    there, absent, from_file, vault = answer.json["secrets"]
    assert [each["ok"] for each in (there, absent, from_file, vault)] == [True, False, True, False]
    assert (there["name"], there["reference"], there["problem"]) == ("notify.ops.url", "env:THERE", None)
    assert "ABSENT" in absent["problem"]
    assert vault["reference"] == "vault:Hook#uri"
    assert vault["problem"]
    assert all(each["source"] for each in (there, from_file, vault))
    world.context.log.flush()
    assert MARKER not in world.logged.getvalue()


async def test_no_secret_in_use(world: World) -> None:
    assert (await world.get("/api/v1/secrets")).json == {"secrets": []}
