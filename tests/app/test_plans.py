"""What runs: by itself, and when; and because somebody asked."""

from pathlib import Path

from homeport.app.composition import open_services, plans
from homeport.app.core import open_registry
from homeport.config.settings import Cleanup, Settings
from homeport.jobs.schedule import Plan
from homeport.jobs.work import FORMS, Form


def test_what_runs_when() -> None:
    assert plans(Settings()) == [
        Plan("cleanup", "cleanup", "0 3 * * 0", "UTC"),
        Plan("housekeeping", "housekeeping", "30 4 * * *", "UTC"),
    ]
    settings = Settings(cleanup=Cleanup(schedule="@daily"), time_zone="Europe/Paris")
    assert plans(settings)[0] == Plan("cleanup", "cleanup", "0 0 * * *", "Europe/Paris")


async def test_what_may_be_asked_for_is_what_runs(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    async with open_registry(settings) as registry, open_services(settings, registry) as services:
        found = {
            name: Form(kind.name, takes=kind.takes, one_at_a_time=kind.one_at_a_time)
            for name, kind in services.kinds.items()
        }
    assert found == FORMS
