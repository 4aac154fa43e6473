"""``python -m jobeff``."""

from jobeff.cli import main

if __name__ == "__main__":
    main()
