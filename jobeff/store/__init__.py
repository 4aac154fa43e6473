"""Keeps it: archive, shards, databases, atomic files and locks."""
