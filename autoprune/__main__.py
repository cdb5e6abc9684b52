"""`python -m autoprune` is the same as `autoprune`."""

from autoprune.cli import main

# Processes that a cluster starts import this module again.
if __name__ == "__main__":
    main()
