"""`autoprune studies`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoprune.cli.options import Json, Storage, read_study
from autoprune.cli.output import print_json, print_tables
from autoprune.errors import ConfigError
from autoprune.paths import expanded

OptionalStudy = Annotated[
    Path | None,
    typer.Argument(metavar="[STUDY]", help="Study file (TOML) that names the storage.", show_default=False),
]


def studies(study: OptionalStudy = None, storage: Storage = None, json: Json = False) -> None:
    """List all studies of a storage with their progress; also while searches run.

    Reads the storage only: neither models nor data are needed. Best is the most accurate finished trial
    with at most half of the MACs. Workers of this host whose process is gone are not counted.

    Example: autoprune studies --storage studies/digits.journal
    """
    from autoprune.cli.tables import studies_table
    from autoprune.searching.overview import overviews
    from autoprune.storing.storages import open_storage

    if study is None and storage is None:
        raise ConfigError("studies needs a study file or --storage, for instance --storage search.journal.")
    place = expanded(storage or "") if study is None else read_study(study, storage=storage).storage
    found = overviews(open_storage(place, create=False))
    if json:
        print_json([overview.to_json() for overview in found])
    else:
        print_tables(studies_table(place, found))
