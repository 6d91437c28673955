"""Where studies are kept: an Optuna database, made once, locked by study, told off in one line.

SQLite with a write-ahead log by default, PostgreSQL for many machines. Only Optuna's storage
interface is used, so that its dashboard opens what is written here; see decision 13.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from defectops.atomic import replacing
from defectops.errors import (
    Conflict,
    DefectopsError,
    EnvironmentFault,
    InputRefused,
    IntegrityFault,
    one_line,
)
from defectops.experiments.locks import locked, sweep

FOLDER = Path(".defectops/studies")
DATABASE = "studies.db"

_BUSY_SECONDS = 60
# What a passing fault (a server that restarts, a busy disk) is waited for: 0.25 + 0.5 + ... s.
_RETRIES = 6
_FIRST_PAUSE_SECONDS = 0.25
_DAMAGED = ("malformed", "not a database", "disk image", "quick_check", "corrupt")

_OF_DATABASES = (SQLAlchemyError, StorageInternalError, sqlite3.Error)

_Result = TypeVar("_Result")


@dataclass(frozen=True, eq=False)
class Store:
    """An open study database.

    Parameters
    ----------
    subject : str
        How messages name it: the file, or the address without its password.
    storage : BaseStorage
        Optuna's, with finished trials cached.
    engine : sqlalchemy.Engine
    database : Path or None
        The SQLite file; None for a server.
    """

    subject: str
    storage: BaseStorage
    engine: sqlalchemy.Engine
    database: Path | None

    @contextlib.contextmanager
    def lock(self, study: str) -> Iterator[None]:
        """Hold the lock of a study; it goes with the process or its connection."""
        if self.database is not None:
            with locked(self.database.with_name(f"{study}.lock")):
                yield
        else:
            with advisory_lock(self.engine, study):
                yield

    def patiently(self, act: Callable[[], _Result]) -> _Result:
        """Do something in the store, again for a while if it is away; see `faults`.

        `act` must be safe to repeat, since a fault may come after it took effect.
        """
        for attempt in range(_RETRIES):
            try:
                with self.faults():
                    return act()
            except EnvironmentFault as fault:
                if fault.code != "E_STUDY":
                    raise  # not the store: a disk without room, say
                time.sleep(_FIRST_PAUSE_SECONDS * 2**attempt)
        with self.faults():
            return act()

    @contextlib.contextmanager
    def faults(self) -> Iterator[None]:
        """Turn what Optuna and the database raise inside the block into one line."""
        with store_faults(self.subject):
            yield

    def close(self) -> None:
        """Give the connections back."""
        self.storage.remove_session()
        self.engine.dispose()


def default_url(root: Path) -> str:
    """Return the address of a project's own study database."""
    path = str((root / FOLDER / DATABASE).resolve())
    return URL.create("sqlite", database=path).render_as_string()


def open_store(url: str) -> Store:
    """Open a study database; make it, once, if it is not there.

    Safe for any number of processes at once. A connection must not cross a fork: open the store
    in the process that uses it.

    Parameters
    ----------
    url : str
        ``sqlite:///path`` or ``postgresql://user@host/database``.

    Raises
    ------
    InputRefused
        Not such an address.
    EnvironmentFault
        No driver, no answer, no room, or the schema of another Optuna.
    IntegrityFault
        The SQLite file is damaged.
    """
    address = _address(url)
    if address.get_backend_name() == "postgresql":
        return _open_server(address)
    return _open_file(Path(str(address.database)).resolve())


@contextlib.contextmanager
def store_faults(subject: str) -> Iterator[None]:
    """Turn what Optuna and a database raise inside the block into one line that says what to do."""
    try:
        yield
    except DefectopsError:
        raise
    except Exception as error:
        if isinstance(error, KeyError) and "Record does not exist" in str(error):
            raise Conflict(
                subject, "E_STUDY", "the study was deleted while it ran; start it anew"
            ) from error
        chain = _chain(error)
        if not isinstance(error, _OF_DATABASES):
            raise
        text = one_line(" ".join(str(chain[-1]).split()))[:300]
        if any(word in text for word in _DAMAGED):
            raise _damaged(subject, text) from error
        raise EnvironmentFault(
            subject,
            "E_STUDY",
            f"the study database cannot be used ({text}); see whether it is there, writable and "
            "has room, then run the command again: it resumes",
        ) from error


@contextlib.contextmanager
def advisory_lock(engine: sqlalchemy.Engine, name: str) -> Iterator[None]:
    """Hold a lock of a PostgreSQL server on a connection of its own, and so as long as that."""
    digest = hashlib.sha256(f"defectops study {name}".encode()).digest()
    key = int.from_bytes(digest[:8], "big", signed=True)
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    try:
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": key})
        yield
    finally:
        # Closes the connection for good: also an interrupted wait for the lock leaves nothing.
        connection.invalidate()
        connection.close()


def _address(url: str) -> URL:
    try:
        address = make_url(url)
    except ArgumentError as error:
        raise _refused(url.partition("://")[0]) from error
    backend = address.get_backend_name()
    if backend == "postgresql":
        return address.set(drivername="postgresql+psycopg")
    if backend != "sqlite" or address.database in {None, "", ":memory:"}:
        raise _refused(address.render_as_string(hide_password=True))
    return address


def _refused(given: str) -> InputRefused:
    return InputRefused(
        given,
        "E_STUDY",
        "not a study database; give sqlite:///path/studies.db or postgresql://user@host/database",
    )


def _open_file(path: Path) -> Store:
    subject = str(path)
    with store_faults(subject):
        _make_file(path)
        _require_sound(path)
    # With a write-ahead log a killed process loses nothing by NORMAL. After a power cut the last
    # commits may be missing; those epochs are told again from the trial's checkpoint.
    with store_faults(subject):
        storage = _checked(lambda: _file_storage(path, "NORMAL", skip_table_creation=True), subject)
    return Store(subject, get_storage(storage), storage.engine, path)


def _make_file(path: Path) -> None:
    """Build the database beside its place and rename it: it is complete or absent."""
    if path.is_file() and path.stat().st_size > 0:
        return
    with locked(path.with_name(f"{path.name}.lock")):
        if path.is_file() and path.stat().st_size > 0:
            return
        sweep(path)
        with replacing(path) as temporary:
            # Not synchronised statement by statement: the whole file is, before it is renamed.
            _file_storage(temporary, "OFF", skip_table_creation=False).engine.dispose()
            # Who reads does not hold up who writes, nor the reverse. It stays set in the file.
            with contextlib.closing(sqlite3.connect(temporary)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")


def _file_storage(path: Path, synchronous: str, *, skip_table_creation: bool) -> RDBStorage:
    def connect() -> sqlite3.Connection:
        # A connection serves one thread at a time; the pool hands it from one to the next.
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)
        connection.execute(f"PRAGMA synchronous={synchronous}")
        return connection

    url = URL.create("sqlite", database=str(path)).render_as_string()
    return RDBStorage(url, {"creator": connect}, skip_table_creation=skip_table_creation)


def _require_sound(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise _damaged(str(path), str(found))


def _damaged(subject: str, text: str) -> IntegrityFault:
    return IntegrityFault(
        subject,
        "E_STUDY",
        f"the study database is damaged ({text}); move it and its -wal file away and restore a "
        f"copy, or save what can be read: sqlite3 {subject} .recover | sqlite3 recovered.db",
    )


def _open_server(address: URL) -> Store:
    url = address.render_as_string(hide_password=False)
    subject = address.render_as_string(hide_password=True)
    try:
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
    except ImportError as error:
        raise EnvironmentFault(
            subject,
            "E_STUDY",
            "PostgreSQL needs a driver that is not installed; pip install 'defectops[scale]'",
        ) from error
    # Optuna makes its tables without a lock, and several first starts at once fail
    # (optuna/optuna#1092): here one makes them and the others find them.
    with store_faults(subject), advisory_lock(engine, " the schema"):
        storage = _checked(lambda: RDBStorage(url), subject)
    return Store(subject, get_storage(storage), storage.engine, None)


def _checked(build: Callable[[], RDBStorage], subject: str) -> RDBStorage:
    """Open Optuna's storage without its chatter, unless its schema is another version's."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        return build()
    except RuntimeError as error:
        raise EnvironmentFault(
            subject,
            "E_STUDY",
            "made by another version of Optuna; copy the database for safety, then run "
            "`optuna storage upgrade --storage` with its address",
        ) from error


def _chain(error: BaseException) -> list[BaseException]:
    """Return an exception and what caused it, the first cause last."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    return chain
