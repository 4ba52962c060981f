"""Bringing images from other registries here: those of the configuration every night, others when they are pulled."""
