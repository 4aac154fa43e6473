"""Computes: kernels, partials, plan and pool."""
