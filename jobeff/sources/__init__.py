"""Reads what sites have: usage files, accounting, host lists."""
