"""What can be asked of notifications that is not there."""

from __future__ import annotations


class DeliveryError(Exception):
    """The delivery is not there, or cannot be sent again."""


class TargetUnknown(Exception):
    """No target is called that."""
