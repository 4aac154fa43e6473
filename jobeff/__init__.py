"""jobeff: raw usage samples of an HPC cluster in, one exact efficiency row per job out."""

__version__ = "0.1.0"
