"""Shows it: one job, reports."""
