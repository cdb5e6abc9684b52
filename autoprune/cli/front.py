"""`autoprune front`."""

from __future__ import annotations

from autoprune.cli.options import Cost, Device, Json, Quiet, Storage, Study, read_study
from autoprune.cli.output import print_json, print_tables


def front(
    study: Study,
    cost: Cost = None,
    storage: Storage = None,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print the front found so far; also while a search runs.

    Reads the storage only: neither the model nor the data are needed, and no device is used.

    Example: autoprune front studies/digits.toml --json
    """
    from autoprune.cli.tables import front_table
    from autoprune.searching.study import read_front

    config = read_study(study, storage=storage)
    found = read_front(config.storage, config.name)
    found = found if cost is None else found.over(cost)
    if json:
        print_json(found.to_json())
    else:
        print_tables(front_table(found))
