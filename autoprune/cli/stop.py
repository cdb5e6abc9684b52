"""`autoprune stop`."""

from __future__ import annotations

import typer

from autoprune.cli.options import Json, Storage, Study, read_study
from autoprune.cli.output import print_json


def stop(study: Study, storage: Storage = None, json: Json = False) -> None:
    """End a search cleanly, wherever its workers run: each finishes its trial and ends.

    The request goes through the storage. Workers that start later are not concerned: the same
    'autoprune search' continues the study.

    Example: autoprune stop studies/digits.toml
    """
    from autoprune.searching.overview import overview
    from autoprune.searching.study import check_ours, stored_study
    from autoprune.storing.stopping import request_stop

    config = read_study(study, storage=storage)
    found = stored_study(config.storage, config.name)
    check_ours(found)
    request_stop(found)
    seen = overview(found)
    if json:
        print_json({"study": config.name, "running": seen.running, "workers": list(seen.workers)})
    else:
        typer.echo(f"{config.name}: stop requested; {_running(seen.running, len(seen.workers))}.")


def _running(trials: int, workers: int) -> str:
    if trials == 0:
        return "no trial is running"
    what = "1 trial is" if trials == 1 else f"{trials} trials are"
    if workers == 0:
        return f"{what} marked as running, but by no worker that lives; the next search repeats them"
    return f"{what} running and will be finished first"
