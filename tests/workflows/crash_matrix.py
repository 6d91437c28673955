"""Kill a promotion or a rollback between any two of its steps, then run the next command.

The processes are real and so is the signal. DVC is played by what it does to ``dvc.lock``; the real
one is in tests/pipelines. As a program this prints the tables of docs/how-to/recover-a-champion.md.
"""

import base64
import contextlib
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

from defectops.defects import register
from defectops.errors import DefectopsError
from defectops.experiments import changing, journal
from defectops.experiments.champions import (
    Places,
    checked_champion,
    read_champion,
    require_settled,
)
from defectops.experiments.changing import Note
from defectops.experiments.health import examine
from defectops.experiments.promotion import PromotionOptions, Verdict
from defectops.experiments.provenance import dvc_digests
from defectops.experiments.registry import RecordingRegistry, Version, digest
from defectops.experiments.succession import Candidate, promote
from defectops.experiments.tracking import RecordingTracker
from defectops.workflows import after_promotion, promoting
from defectops.workflows.after_promotion import finish_move, record, tell, unrecorded
from defectops.workflows.direct_promotion import roll_back
from defectops.workflows.doctoring import left_undone

ROOT = Path(__file__).parents[2]
MODEL = "defectops-voids"
VOIDS = register({"voids": {}})["voids"]
PASS = Verdict("pass", ())
TOLD = "told.txt"
STEPS = {
    "submit": "the version is registered",
    "set_alias candidate": "it is named candidate",
    "begin": "the move is written down",
    "_keep_evidence": "evidence",
    "_write_journal": "journal",
    "_place_bundle": "bundle",
    "_write_file": "champion file",
    "set_alias champion": "alias champion",
    "set_alias previous": "alias previous",
    "set_tags": "tags of the version",
    "_note_untold": "note for the hook",
    "_tidy": "the note of the move is removed",
    "record_promotion": "`dvc commit`",
    "_run": "the hook",
    "end": "(nothing: all is done)",
}


class KeptRegistry(RecordingRegistry):
    """A registry in a folder, so that it outlasts the process; each change is one rename."""

    def __init__(self, folder, before=lambda step: None):
        super().__init__()
        self.file, self.before = folder / "registry.json", before
        folder.mkdir(exist_ok=True)
        if self.file.exists():
            kept = json.loads(self.file.read_text())
            self._versions = {m: [Version(**v) for v in vs] for m, vs in kept["versions"].items()}
            self.stored = {
                (MODEL, int(n)): base64.b64decode(data) for n, data in kept["stored"].items()
            }
            self._aliases = {(MODEL, a): n for a, n in kept["aliases"].items()}

    def _save(self):
        kept = {
            "versions": {m: [asdict(v) for v in vs] for m, vs in self._versions.items()},
            "stored": {n: base64.b64encode(d).decode() for (_, n), d in self.stored.items()},
            "aliases": {a: n for (_, a), n in self._aliases.items()},
        }
        temporary = self.file.with_suffix(".part")
        temporary.write_text(json.dumps(kept))
        temporary.replace(self.file)

    def submit(self, *given):
        if self.find(given[0], digest(given[1])) is None:
            self.before("submit")
        number = super().submit(*given)
        self._save()
        return number

    def set_alias(self, model, alias, number):
        self.before(f"set_alias {alias}")
        super().set_alias(model, alias, number)
        self._save()

    def set_tags(self, model, number, tags):
        self.before("set_tags")
        super().set_tags(model, number, tags)
        self._save()


@dataclass
class Project:
    """A project that has had some champions, all recorded and told."""

    root: Path

    @classmethod
    def made(cls, root, names):
        root.mkdir(parents=True)
        (root / ".dvc").mkdir()
        (root / "dvc.yaml").write_text("")
        project = cls(root)
        for name in names:
            project.promote(name)
        return project

    def copied(self, root):
        shutil.copytree(self.root, root)
        return Project(root)

    @property
    def places(self):
        return Places(self.root, "voids", MODEL)

    @property
    def hook(self):
        return f"sh -c 'echo $DEFECTOPS_SHA256 >> {TOLD}'"

    def registry(self, before=lambda step: None):
        return KeptRegistry(self.root / "registry", before)

    def candidate(self, name):
        path = self.root / f"{name}.trained"
        path.write_bytes(name.encode())
        return Candidate(path, f"run {name}", 0.1 * len(name), {"iou": 0.5}, {})

    def settle(self, registry):
        finish_move(self.places, registry)
        record(self.root, VOIDS)

    def after(self):
        record(self.root, VOIDS)
        tell(self.places, self.hook)

    def promote(self, name, before=lambda step: None):
        registry = self.registry(before)
        self.settle(registry)
        about = Note("ada@lab", name, "2026-01-01T00:00:00Z")
        promote(self.places, registry, self.candidate(name), PASS, about)
        self.after()

    def rollback(self, before=lambda step: None):
        roll_back(self.root, VOIDS, self.registry(before), "back")
        tell(self.places, self.hook)

    def repro(self, name):
        """Play `dvc repro`: the stage runs if an output changed, with the model in ``models/``."""
        if recorded(self.root, "voids") == digests(self.root, "voids"):
            return False
        registry = self.registry()
        finish_move(self.places, registry)
        champion = read_champion(self.places)
        promoting._follow(
            self.places, registry, self.candidate(name), PASS, PromotionOptions(), champion
        )
        tell(self.places, self.hook)
        dvc_commit(self.root, "voids")
        return True

    def doctor(self, fix):
        found = examine(self.root, RecordingTracker(), self.registry(), fix)
        return [*found, *left_undone(self.root, VOIDS, self.hook, fix)]

    def names(self):
        """Return the names of all champions by digest."""
        return {hashlib.sha256(n.encode()).hexdigest(): n for n in NAMES}

    def champion(self):
        return self.names().get(read_champion(self.places).sha256, "nobody")

    def read(self):
        """Return what `evaluate` would get: the champion's name, or the code of the error."""
        try:
            require_settled(self.places)
            return self.names()[checked_champion(self.places).sha256]
        except DefectopsError as error:
            return error.code

    def state(self):
        """Return everything that a move concerns; raises unless all of it agrees."""
        champion = checked_champion(self.places)
        registry = self.registry()
        name = self.names()[champion.sha256]
        assert self.places.bundle.read_bytes().decode() == name
        assert champion.threshold == 0.1 * len(name)
        number = registry.alias(MODEL, "champion")
        assert registry.stored[MODEL, number].decode() == name
        assert registry.version(MODEL, number).tags["journal_sha256"] == champion.journal_sha256
        entries = journal.read(self.places.journal)
        before = registry.alias(MODEL, "previous")
        moves = [self.names()[e.more["to_sha256"]] for e in entries]
        assert registry.stored[MODEL, before].decode() == moves[-2]
        assert not unrecorded(self.places)
        told = (self.root / TOLD).read_text().split()
        assert {self.names()[s] for s in told} == set(moves)
        assert len(told) >= len(moves)
        assert not list(self.root.glob(".defectops/untold/*/*"))
        assert not self.places.intent.exists()
        kept = sorted(p.stem for p in self.places.evidence.iterdir())
        assert kept == sorted({e.evidence_sha256 for e in entries})
        return moves


NAMES = ("zero", "first", "second", "third")


def digests(root, defect):
    """Return what DVC would find of the outputs of ``promote@<defect>``."""
    names = (f"{defect}.json", f"{defect}.journal.jsonl", f"{defect}/model.safetensors")
    return {f"champions/{name}": changing.md5(root / "champions" / name) for name in names}


def recorded(root, defect):
    return dvc_digests(root, [f"promote@{defect}"])


def dvc_commit(root, defect):
    """What `dvc commit` does to ``dvc.lock``, as far as we read it."""
    outs = [{"path": path, "md5": md5} for path, md5 in digests(root, defect).items()]
    temporary = root / "dvc.lock.part"
    temporary.write_text(json.dumps({"stages": {f"promote@{defect}": {"outs": outs}}}))
    temporary.replace(root / "dvc.lock")


@contextlib.contextmanager
def played_dvc():
    real = after_promotion.record_promotion
    after_promotion.record_promotion = dvc_commit
    try:
        yield
    finally:
        after_promotion.record_promotion = real


def instrument(before):
    """Call `before` with a step's name right before it is done, in this process, for good."""

    def announced(name, act):
        def act_(*given):
            before(name)
            return act(*given)

        return act_

    skipped = {"_point_aliases", "_tag_version"}  # their calls of the registry are announced
    changing.STEPS = tuple(
        s if s.__name__ in skipped else announced(s.__name__, s) for s in changing.STEPS
    )
    for module, name in (
        (changing, "begin"),
        (after_promotion, "record_promotion"),
        (after_promotion, "_run"),
    ):
        setattr(module, name, announced(name, getattr(module, name)))


def forked(act):
    """Run a function in a forked process and return the process's id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside another test's thread
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return pid


def steps_of(project, move):
    """Return the steps of a move in their order, as it goes without a crash."""
    here, there = os.pipe()

    def act():
        def say(step):
            os.write(there, f"{step}\n".encode())

        instrument(say)
        getattr(project, move[0])(*move[1:], before=say)
        say("end")

    os.waitpid(forked(act), 0)
    os.close(there)
    with os.fdopen(here) as said:
        return said.read().splitlines()


def killed(project, move, number, by_parent=True):
    """Let a process make a move, and end it before its step `number`.

    `by_parent`: it stops there and is killed by SIGKILL from here; else it ends itself.
    """
    here, there = os.pipe()

    def act():
        left = [number]

        def count(step):
            if left[0] == 0:
                os.write(there, b".")
                if not by_parent:
                    os._exit(137)
                time.sleep(60)
            left[0] -= 1

        instrument(count)
        getattr(project, move[0])(*move[1:], before=count)
        count("end")

    pid = forked(act)
    os.close(there)
    said = os.read(here, 1)
    os.close(here)
    if by_parent:
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert said == b"."
    assert status == (-signal.SIGKILL if by_parent else 137)


MOVES = {"promote": ("promote", "second"), "rollback": ("rollback",)}
CHAMPIONS = {"promote": ("zero", "first"), "rollback": ("zero", "first", "second")}
# What stands in models/ all the while: what was trained last, and judged when it was.
TRAINED = {"promote": "first", "rollback": "second"}


def rows(folder, kind):
    """Return a row of the table for each step before which a move was killed."""
    base = Project.made(folder / "base", CHAMPIONS[kind])

    for number, step in enumerate(steps_of(base.copied(folder / "whole"), MOVES[kind])):
        after = {}
        for then in ("look", "doctor", "promote", "rollback", "repro"):
            project = base.copied(folder / f"{number}-{then}")
            killed(project, MOVES[kind], number)
            after[then] = outcome(project, then, kind)
        yield {"step": step, **after.pop("look"), **after}


def outcome(project, then, kind):
    """Return what the next command makes of it; raises unless everything agrees afterwards."""
    if then == "look":
        reads = project.read()
        codes = sorted({t.code for t in project.doctor(fix=False)})
        return {"reads": reads, "says": ", ".join(codes) or "nothing"}
    if then == "doctor":
        project.doctor(fix=True)
        assert project.doctor(fix=False) == []
    elif then == "promote":
        project.promote("third")
    elif then == "rollback":
        project.rollback()
    elif not project.repro(TRAINED[kind]):
        left = _code(", ".join(t.code for t in project.doctor(fix=False) if t.exit_code))
        return "does not run" + (f"; `doctor`: {left}" if left else "")
    return " → ".join(project.state())


HEADS = (
    "killed before",
    "`evaluate` reads",
    "`doctor` says",
    "`doctor --fix`",
    "`promote` of *third*",
    "`rollback`",
    "`dvc repro`",
)


def table(found):
    """Return rows as a Markdown table."""
    lines = ["| " + " | ".join(HEADS) + " |", "|" + "---|" * len(HEADS)]
    for row in found:
        cells = [STEPS[row["step"]], _code(row["reads"]), _code(row["says"])]
        cells += [row[then] for then in ("doctor", "promote", "rollback", "repro")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _code(text):
    """Set error codes as code."""
    return ", ".join(f"`{w}`" if w[:2] in {"E_", "N_"} else w for w in text.split(", "))


if __name__ == "__main__":
    with played_dvc(), tempfile.TemporaryDirectory() as name:
        for kind in MOVES:
            sys.stdout.write(f"\n{kind}\n\n{table(rows(Path(name) / kind, kind))}\n")
