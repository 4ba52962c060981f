"""The core: what a registry is."""
