"""Benchmarks: a history of any length, the plain method, other engines, and each stage, in one run."""
