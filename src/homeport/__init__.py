"""Homeport: a container registry that a person can own."""
