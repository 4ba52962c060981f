"""What runs by itself, and when."""

from homeport.app.composition import plans
from homeport.config import Cleanup, Settings
from homeport.jobs.schedule import Plan


def test_what_runs_when() -> None:
    assert plans(Settings()) == [
        Plan("cleanup", "cleanup", "0 3 * * 0", "UTC"),
        Plan("housekeeping", "housekeeping", "30 4 * * *", "UTC"),
    ]
    settings = Settings(cleanup=Cleanup(schedule="@daily"), time_zone="Europe/Paris")
    assert plans(settings)[0] == Plan("cleanup", "cleanup", "0 0 * * *", "Europe/Paris")
