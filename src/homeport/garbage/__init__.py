"""Giving space back: what nothing refers to goes by itself, in small steps, while the registry serves."""
