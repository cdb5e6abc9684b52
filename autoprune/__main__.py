"""`python -m autoprune` is the same as `autoprune`."""

from autoprune.cli import main

main()
