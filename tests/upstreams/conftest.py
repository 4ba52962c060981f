"""A registry and an upstream, as those of the mirror."""

from tests.mirror.conftest import artifacts, mirroring, upstream, world

__all__ = ["artifacts", "mirroring", "upstream", "world"]
