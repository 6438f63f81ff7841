"""Bases: where a model comes from."""
