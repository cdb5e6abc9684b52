"""`autoprune dashboard`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from autoprune.cli.options import Json, Storage, Study, read_study
from autoprune.cli.output import print_json

Host = Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on; 0.0.0.0 for everybody.")]
Port = Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Port to listen on; 0: any free one.")]
LOCAL = ("127.0.0.1", "localhost", "::1")


def dashboard(
    study: Study, storage: Storage = None, host: Host = "127.0.0.1", port: Port = 8080, json: Json = False
) -> None:
    """Open optuna-dashboard on the study's storage, also while a search runs; Ctrl-C ends it.

    The study gets a note (dense network, budget, how to read the pages, the front) and its front as
    artifacts, as they are when the command starts; what you wrote into the note stays. Needs the extra:
    pip install 'autoprune[dashboard]'. Whoever reaches the port may also rename and delete studies.

    Example: autoprune dashboard studies/digits.toml --port 8080
    """
    from autoprune.dashboard import describe, make_server
    from autoprune.searching.study import stored_study
    from autoprune.storing.artifacts import open_artifacts

    config = read_study(study, storage=storage)
    found = stored_study(config.storage, config.name)
    artifacts = open_artifacts(config.artifacts, config.storage)
    written = describe(found, artifacts)
    with make_server(found._storage, artifacts, host, port) as server:
        url = f"{server.url}/dashboard/studies/{found._study_id}"
        if json:
            print_json({"study": config.name, "url": url, "written": list(written)})
        else:
            typer.echo(f"{config.name}: {url}")
        if host not in LOCAL:
            typer.echo("whoever reaches this address can rename and delete studies", err=True)
        sys.stdout.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("dashboard closed", err=True)
