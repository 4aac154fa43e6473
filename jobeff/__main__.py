"""``python -m jobeff``."""

from jobeff.cli import command

if __name__ == "__main__":
    command()
