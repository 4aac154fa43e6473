"""``python -m jobeff``."""

from jobeff.start import command

if __name__ == "__main__":
    command()
