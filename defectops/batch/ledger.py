"""What of a batch is done: one record an item, complete or absent, so that a kill costs one item.

In the output folder, ``.work/plan.json`` says what the batch is, ``.work/<item>/`` keeps what was
measured of one item, and its ``record.json`` is written last.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectops.atomic import replacing, write_text
from defectops.errors import Conflict, EnvironmentFault, IntegrityFault, SettingsRefused

if TYPE_CHECKING:
    from defectops.batch.items import Item

FORM = 1
WORK, PLAN = ".work", "plan.json"
RECORD = "record.json"
_TIMING = "timing.csv"
_KEY = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True)
class Parts:
    """What the work on one item leaves behind.

    Parameters
    ----------
    record : mapping
        Plain values for the tables.
    files : mapping of str to bytes
        Results to look at, by their path in the output folder.
    kept : mapping of str to bytes
        What the tables are made of later, by name.
    timing : str
        CSV lines ``...,step,seconds``; differ from run to run, so they are in no digest.
    """

    record: Mapping[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)
    kept: Mapping[str, bytes] = field(default_factory=dict)
    timing: str = ""


@dataclass(frozen=True)
class Kept:
    """What was kept of one item.

    Parameters
    ----------
    item : Item
    record : mapping
        As in `Parts`.
    digests : mapping of str to str
        Of the files it was made from, by role.
    files : mapping of str to str
        SHA-256 of the results to look at, by their path in the output folder.
    timing : str
    """

    item: Item
    record: Mapping[str, Any]
    digests: Mapping[str, str]
    files: Mapping[str, str]
    timing: str
    folder: Path
    sha256: Mapping[str, str]

    def read(self, name: str) -> bytes:
        """Return a kept file; `IntegrityFault` if it is not the one that was written."""
        path = self.folder / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise _damaged(path, error.strerror or "cannot be read") from error
        if hashlib.sha256(data).hexdigest() != self.sha256.get(name):
            raise _damaged(path, "not what was written")
        return data


class Ledger:
    """The records of one batch in its output folder; use inside `held`.

    Parameters
    ----------
    out : Path
        The output folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.work = out / WORK
        self._plan: dict[str, Any] = {}

    @contextlib.contextmanager
    def held(self, *, anew: bool = False) -> Iterator[Ledger]:
        """Keep other processes out.

        Parameters
        ----------
        anew : bool
            What is here will be started over, so a damaged plan does not matter.

        Raises
        ------
        Conflict
            ``E_LOCKED``: another process works here.
        EnvironmentFault
            The folder cannot be written.
        """
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            stream = (self.work / "lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise EnvironmentFault(
                self.out, "E_IO", f"cannot write here: {error.strerror}"
            ) from error
        with stream:
            _lock(stream, self.out)
            try:
                self._sweep()
                self._plan = self._read_plan(anew)
                yield self
            finally:
                stream.truncate(0)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings that this batch was begun with; empty for a new one."""
        return dict(self._plan.get("settings", {}))

    def begin(
        self, settings: Mapping[str, Any], items: Sequence[Item], files: Sequence[Sequence[str]]
    ) -> None:
        """Write down what the batch is; results of items that it no longer has are deleted.

        Parameters
        ----------
        settings : mapping
            Whatever decides about results, as plain values.
        items : sequence of Item
        files : sequence of sequence of str
            For each item the results to look at that it may write.

        Raises
        ------
        SettingsRefused
            ``E_BATCH``: the folder holds results of other settings, or tables of another program.
        """
        if self._plan:
            self._refuse_other(settings)
        plan = {
            "form": FORM,
            "settings": settings,
            "items": [
                {"key": i.key, "name": i.name, "path": self._beside(i.path), "files": sorted(f)}
                for i, f in zip(items, files, strict=True)
            ],
        }
        before = {row["key"]: row["files"] for row in self._plan.get("items", [])}
        keys = {i.key for i in items}
        staying = {name for own in files for name in own}
        for key in before.keys() - keys:
            self._forget(key, [name for name in before[key] if name not in staying])
        write_text(self.work / PLAN, json.dumps(plan, indent=1, sort_keys=True) + "\n")
        self._plan = json.loads(json.dumps(plan))

    def start_over(self, tables: Sequence[str]) -> None:
        """Delete everything that an earlier batch wrote here, and nothing else."""
        for row in self._plan.get("items", []):
            self._forget(row["key"], row["files"])
        for folder in self.work.iterdir():
            if _KEY.fullmatch(folder.name):
                self._forget(folder.name, [])
        for name in tables if self._plan else ():
            (self.out / name).unlink(missing_ok=True)
        (self.work / PLAN).unlink(missing_ok=True)
        self._plan = {}

    def refuse_foreign(self, tables: Sequence[str]) -> None:
        """Refuse a folder with tables of these names that no batch of ours wrote."""
        there = [] if self._plan else [n for n in tables if (self.out / n).exists()]
        if there:
            raise SettingsRefused(
                self.out,
                "E_BATCH",
                f"{there[0]} is there already, and not from here; another --out",
            )

    def find(self, item: Item, digests: Mapping[str, str]) -> Kept | None:
        """Return what was kept of an item if its files still have these digests, else None."""
        kept = self.kept(item)
        if kept is None or kept.digests != dict(digests):
            return None
        there = all((self.out / name).is_file() for name in kept.files)
        return kept if there else None

    def kept(self, item: Item) -> Kept | None:
        """Return what was kept of an item, None if its work was not finished."""
        folder = self.work / item.key
        try:
            text = (folder / RECORD).read_text(encoding="utf-8")
            timing = (folder / _TIMING).read_text(encoding="utf-8")
            row = json.loads(text)
            told = row["record"], row["digests"], row["files"]
            return Kept(item, *told, timing, folder, row["kept"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError) as error:
            raise _damaged(folder / RECORD, str(error)) from error

    def keep(self, item: Item, digests: Mapping[str, str], parts: Parts) -> None:
        """Write down what an item left; either all of it counts, or nothing."""
        folder = self.work / item.key
        (folder / RECORD).unlink(missing_ok=True)
        for name, data in parts.files.items():
            _write(self.out / name, data)
        for name, data in parts.kept.items():
            _write(folder / name, data)
        write_text(folder / _TIMING, parts.timing)
        record = {
            "digests": dict(digests),
            "files": {n: hashlib.sha256(d).hexdigest() for n, d in parts.files.items()},
            "kept": {n: hashlib.sha256(d).hexdigest() for n, d in parts.kept.items()},
            "record": parts.record,
        }
        text = json.dumps(record, sort_keys=True, allow_nan=False)
        write_text(folder / RECORD, text + "\n")

    def drop(self, item: Item) -> None:
        """Delete whatever an item left, since it is refused now."""
        rows = [r for r in self._plan.get("items", []) if r["key"] == item.key]
        self._forget(item.key, [name for row in rows for name in row["files"]])

    def _forget(self, key: str, files: Sequence[str]) -> None:
        (self.work / key / RECORD).unlink(missing_ok=True)
        for name in files:
            (self.out / name).unlink(missing_ok=True)
        shutil.rmtree(self.work / key, ignore_errors=True)

    def _read_plan(self, anew: bool) -> dict[str, Any]:
        try:
            return self._checked_plan()
        except IntegrityFault:
            if not anew:
                raise
            return {"items": []}

    def _checked_plan(self) -> dict[str, Any]:
        path = self.work / PLAN
        try:
            plan = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise _damaged(path, str(error)) from error
        if plan.get("form") != FORM:
            raise _damaged(path, f"form {plan.get('form')!r}, this version writes {FORM}")
        return dict(plan)

    def _refuse_other(self, settings: Mapping[str, Any]) -> None:
        before, now = _flat(self.settings), _flat(json.loads(json.dumps(settings)))
        changed = sorted(n for n in before.keys() | now.keys() if before.get(n) != now.get(n))
        if changed:
            name = changed[0]
            more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
            raise SettingsRefused(
                self.out,
                "E_BATCH",
                f"holds results of other settings: {name} was {before.get(name)!r}, now "
                f"{now.get(name)!r}{more}; --new starts over, another --out keeps both",
            )

    def _beside(self, path: Path) -> str:
        """Return where an input is, seen from the output folder: the same wherever both are."""
        return os.path.relpath(path.absolute(), self.out.absolute())

    def _sweep(self) -> None:
        """Delete temporary files that a killed process left."""
        for place in (self.out, self.work, *(p for p in self.out.iterdir() if p.is_dir())):
            for stray in (*place.glob(".*.tmp"), *place.glob("*/.*.tmp")):
                stray.unlink(missing_ok=True)


def _lock(stream: Any, out: Path) -> None:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        stream.seek(0)
        raise Conflict(
            out,
            "E_LOCKED",
            f"{stream.read(200) or 'another process'} works here; wait, or another --out",
        ) from error
    stream.truncate(0)
    stream.write(f"process {os.getpid()} on {socket.gethostname()}")
    stream.flush()


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def _flat(node: object, name: str = "") -> dict[str, object]:
    """Return nested mappings as one, with names joined by dots."""
    if not isinstance(node, Mapping):
        return {name: node}
    parts = [_flat(value, f"{name}.{key}".strip(".")) for key, value in node.items()]
    return {key: value for part in parts for key, value in part.items()}


def _damaged(path: Path, why: str) -> IntegrityFault:
    return IntegrityFault(
        f"{path.parent.name}/{path.name}", "E_BATCH", f"damaged: {why}; --new starts over"
    )
