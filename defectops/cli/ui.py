"""``defectops ui``: MLflow's pages on the project's own store."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import typer

from defectops.cli import output
from defectops.errors import EnvironmentFault

app = typer.Typer(rich_markup_mode=None, add_completion=False)

HOST = "127.0.0.1"
# MLflow's pages open on chats and their traces; this opens them on runs and curves.
PAGE = "/#/experiments?workflowType=machine_learning"


@app.command(epilog="Example:  defectops ui --port 5001")
def ui(
    port: int = typer.Option(5000, "--port", min=0, max=65535, help="0 takes any free port."),
) -> None:
    """Open MLflow's pages on the runs and models of this project; Ctrl-C ends them.

    With MLFLOW_TRACKING_URI set to a server, its address is printed: the pages are there.
    """
    from defectops.experiments.mlflow_store import (
        artifact_location,
        database_of,
        is_server,
        make_database,
        quiet_environment,
    )
    from defectops.settings import tracking_uri

    root = Path()
    uri = tracking_uri(root)
    if is_server(uri):
        output.line(uri)
        return
    database = database_of(uri)
    if database is not None:
        make_database(database, root)
    quiet_environment()
    # By environment, not by argument: an address may hold a password, and `ps` shows arguments.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = uri
    os.environ["MLFLOW_REGISTRY_STORE_URI"] = uri
    os.environ["MLFLOW_DEFAULT_ARTIFACT_ROOT"] = artifact_location(root)
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    number = _free(port)
    output.line(f"http://{HOST}:{number}{PAGE}")
    sys.stdout.flush()
    os.execv(sys.executable, command(number))


def command(port: int) -> list[str]:
    """Return the command of the server, which takes the place of this process."""
    options = {"--host": HOST, "--port": str(port), "--workers": "1"}
    quiet = ["--uvicorn-opts", "--log-level warning"]
    pairs = [word for pair in options.items() for word in pair]
    return [sys.executable, "-m", "mlflow", "ui", *pairs, *quiet]


def _free(port: int) -> int:
    """Return the port if nobody listens there; any free one for 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise EnvironmentFault(
                f"port {port}", "E_PORT", f"{error.strerror}; choose another with --port"
            ) from error
        return int(probe.getsockname()[1])
