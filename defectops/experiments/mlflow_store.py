"""Where MLflow keeps its records: opened quietly, schema made once, paths kept right.

MLflow alone is not safe when several processes start on nothing at once: its tracking store
migrates without a lock, and a migration that dies half-way leaves a database that nobody can open
(mlflow/mlflow#18233). Here the database is built beside its place under a lock and renamed into
it, so it is complete or absent.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import socket
import sqlite3
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from defectops.atomic import replacing
from defectops.errors import DefectopsError, EnvironmentFault, one_line
from defectops.experiments.locks import locked, sweep

LOCK = Path(".defectops/mlflow.lock")
ARTIFACTS = "mlartifacts"

_SQLITE = "sqlite:///"
_PROBE_SECONDS = 5.0
# Columns of MLflow's schema that hold absolute places of artifacts.
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "storage_location"),
)


def open_client(uri: str, root: Path) -> Any:
    """Return an ``MlflowClient`` for a store that is there, complete and of the right version.

    Parameters
    ----------
    uri : str
        ``sqlite:///<absolute path>``, another database, or ``http(s)://server``.
    root : Path
        The project. A database keeps its artifacts in ``mlartifacts`` there; when the folder of
        a SQLite store was moved or copied, or is mounted elsewhere, the places in it follow.

    Raises
    ------
    EnvironmentFault
        No such store, a server that does not answer, a schema of another MLflow.
    """
    database = database_of(uri)
    with one_line_faults(uri):
        if database is not None:
            make_database(database, root)
            _relocate(database, artifact_location(root))
        elif is_server(uri):
            _require_answer(uri)
        with quietly(), uncollected():
            module: Any = importlib.import_module("mlflow.tracking")
            return module.MlflowClient(tracking_uri=uri, registry_uri=uri)


def quiet_environment() -> None:
    """Switch MLflow's calls home and chatter off, before it is imported; a user's own value wins.

    Child processes, such as the server behind ``defectops ui``, inherit it.
    """
    for name, value in (
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("DO_NOT_TRACK", "true"),
        ("MLFLOW_LOGGING_LEVEL", "ERROR"),
        ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),
        ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
    ):
        os.environ.setdefault(name, value)


def database_of(uri: str) -> Path | None:
    """Return the file of a SQLite address, None for anything else."""
    path = uri.removeprefix(_SQLITE)
    return Path(unquote(path)) if uri.startswith(_SQLITE) and path not in {"", ":memory:"} else None


def is_server(uri: str) -> bool:
    """Whether an address is an MLflow server, not a database."""
    return urlsplit(uri).scheme in {"http", "https"}


def sqlite_uri(database: Path) -> str:
    """Return the address of a SQLite file; inverse of `database_of`.

    >>> sqlite_uri(Path("/data/100%/mlflow.db"))
    'sqlite:////data/100%25/mlflow.db'
    """
    return _SQLITE + str(database).replace("%", "%25").replace("?", "%3F")


def artifact_location(root: Path) -> str:
    """Return the address of the artifact folder of the SQLite default (percent-encoded)."""
    return (root.resolve() / ARTIFACTS).as_uri()


def make_database(database: Path, root: Path) -> None:
    """Make MLflow's SQLite database unless it is there; safe for any number of processes at once.

    Parameters
    ----------
    database : Path
        Built as a temporary file in the same folder, renamed when its schema is complete.
    root : Path
        The lock lies in ``.defectops`` there.
    """
    if _there(database):
        return
    with locked(root / LOCK):
        if not _there(database):
            sweep(database)
            with replacing(database) as temporary:
                _build(temporary)


@contextlib.contextmanager
def one_line_faults(subject: str) -> Iterator[None]:
    """Turn what MLflow and SQLAlchemy raise inside the block into one line that says what to do."""
    try:
        yield
    except DefectopsError:
        raise
    except Exception as error:
        if not type(error).__module__.startswith(("mlflow", "sqlalchemy", "sqlite3", "requests")):
            raise
        raise EnvironmentFault(_without_password(subject), "E_TRACKING", _advice(error)) from error


def _there(database: Path) -> bool:
    return database.is_file() and database.stat().st_size > 0


def _build(path: Path) -> None:
    """Run all of MLflow's migrations on an empty file (about a second)."""
    with quietly():
        module: Any = importlib.import_module("mlflow.store.db.utils")
        engine = module.create_sqlalchemy_engine(sqlite_uri(path))
        try:
            module._initialize_tables(engine)
        finally:
            engine.dispose()
    # Write-ahead log: who looks at the UI does not hold up who trains. It stays set in the file.
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _relocate(database: Path, now: str) -> None:
    """Let the places of artifacts follow a project folder that was moved, copied or mounted.

    MLflow stores absolute places only. Without this a copy of a project would write into the
    original, and a container into the path of its host.
    """
    with contextlib.closing(sqlite3.connect(database, timeout=20)) as connection:
        stale = [
            place
            for (place,) in connection.execute("SELECT DISTINCT artifact_location FROM experiments")
            if place.startswith("file://") and place.endswith(f"/{ARTIFACTS}") and place != now
        ]
        for before in stale:
            for table, column in _PLACES:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (now, len(before) + 1, before, len(before) + 1, f"{before}/"),
                )
        connection.commit()


def _require_answer(uri: str) -> None:
    """Refuse a server that nobody listens on, at once; MLflow itself retries for minutes."""
    parts = urlsplit(uri)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), _PROBE_SECONDS).close()
    except OSError as error:
        raise EnvironmentFault(
            _without_password(uri),
            "E_TRACKING",
            f"the tracking server does not answer ({error}); start it, or unset "
            "MLFLOW_TRACKING_URI to record in mlflow.db",
        ) from error


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Import and open MLflow without a word; what goes wrong reaches the user as an exception.

    MLflow uses SQLAlchemy in ways that newer versions deprecate, which no user can change.
    """
    quiet_environment()
    for name, level in (
        ("mlflow", logging.ERROR),
        ("mlflow.store.db.utils", logging.CRITICAL),
        ("alembic", logging.ERROR),
    ):
        logging.getLogger(name).setLevel(level)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Let the collector of garbage rest while the block makes many objects and no garbage.

    MLflow makes a hundred objects of each version it reads. The collector would go through all of
    them again and again and find nothing: two thirds of the time that a thousand versions take.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _without_password(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    return uri.replace(f":{parts.password}@", ":***@")


def _advice(error: Exception) -> str:
    text = one_line(" ".join(str(error).split()))[:300]
    if "out-of-date database schema" in text:
        return (
            "the store was made by another version of MLflow; copy mlflow.db for safety, then run "
            "`mlflow db upgrade` with this address"
        )
    return f"{text}; see whether the store is there, writable and has room"
