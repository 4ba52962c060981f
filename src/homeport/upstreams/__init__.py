"""Registries that images come from: one way to each, with its login, its pace and its quota, shared by all who ask."""
