"""What Debian's dockerd said as the only node of a Swarm (`swarm.json`), and variations of it.

The service `app` was updated from team/app:1 to team/app:2; `tool` is a plain container of team/other:3.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from homeport.client.engines import Answers

_SAID = json.loads((Path(__file__).parent / "swarm.json").read_text())

ONE = "sha256:60c1be66e1704e63d86038ac49b22ca0db159e01be57c40876e1922a1c836b37"
TWO = "sha256:cf0d0ee97176abebda6daffaad1889fb92f75c92a3bfbed9917265b299442a8a"
THREE = "sha256:fde6e3965136b35d92e1accd5256572d550d2143fee07e15abe7c68d598f9918"
CONFIG_ONE = "sha256:67c15329fc352665aea973d9aa8984eada9ea3381a987e313b12ac0adea9462a"
CONFIG_TWO = "sha256:1205606fecbd4b4b1322eb89a2074cee79de4ffa10e5a73c63582abc8fe976de"
CONFIG_THREE = "sha256:e5bbbb3a80e6359fd8836c6524c8631f70dad4fafdc6a9a61b472793b4b1a5f4"

Said = dict[str, Any]


def swarm() -> Said:
    """All that was said, to be changed by a test."""
    return copy.deepcopy(_SAID)


def answers(said: Said) -> Answers:
    return Answers(**said)
