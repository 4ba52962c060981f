"""Telling people and programs what happened: who is told of what, in which words, and that it arrives."""
