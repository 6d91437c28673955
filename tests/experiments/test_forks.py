"""Two branches that both promoted: what a real git merge leaves, and one history again."""

import copy
import json
import shutil
import subprocess

import pytest

from defectops.errors import InputRefused, IntegrityFault
from defectops.experiments import changing, hash_chain, journal
from defectops.experiments.accesses import read_accesses, record_access
from defectops.experiments.champions import Places, checked_champion, read_champion
from defectops.experiments.changing import Note
from defectops.experiments.forks import read_fork, repair
from defectops.experiments.promotion import Verdict
from defectops.experiments.registry import RecordingRegistry
from defectops.experiments.succession import Candidate, promote, rollback

MODEL = "defectops-voids"
JOIN = Note("cleo@lab", "git merge", "2026-01-09T00:00:00Z", by="repair")


class Checkout:
    """A git repository with a registry that all its branches share."""

    def __init__(self, root):
        self.places = Places(root, "voids", MODEL)
        self.registry = RecordingRegistry()
        root.mkdir()
        self.git("init", "-q", "-b", "main")
        (root / ".gitignore").write_text(
            "/.defectops/\n/champions/*/model.safetensors\n*.trained\n"
        )
        self.promote("first", "ada")
        self.commit("first")

    def git(self, *words, fine=(0,)):
        identity = ("-c", "user.name=T", "-c", "user.email=t@example.org")
        done = subprocess.run(
            ["git", *identity, *words],
            cwd=self.places.root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in fine, done.stdout + done.stderr
        return done.stdout

    def commit(self, message):
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)

    def promote(self, name, who, threshold=0.4):
        path = self.places.root / f"{name}.trained"
        path.write_bytes(name.encode())
        candidate = Candidate(path, f"run {name}", threshold, {"iou": 0.5}, {"data_sha256": name})
        about = Note(f"{who}@lab", f"{name} is better", "2026-01-01T00:00:00Z")
        return promote(self.places, self.registry, candidate, Verdict("pass", ()), about)

    def diverge(self, *style):
        """Let two branches promote and open the test side, then merge them as git does."""
        for branch, names in (("work", ("second", "third")), ("main", ("other",))):
            self.git("checkout", "-q", *(("-b",) if branch == "work" else ()), branch)
            self.restore()
            for name in names:
                self.promote(name, branch, 0.1 * len(name))
                record_access(self.places, read_champion(self.places), "t" * 64)
            self.commit(branch)
        said = self.git(*style, "merge", "work", fine=(1,))
        assert "CONFLICT" in said

    def restore(self):
        """Bring the bundle of the checked-out champion back, as `dvc checkout` does."""
        champion = read_champion(self.places)
        number = self.registry.find(MODEL, champion.sha256)
        self.registry.fetch(MODEL, number, self.places.bundle.parent)

    def take_both(self):
        """Resolve the journal by keeping both sides' lines, as a driver `union` does."""
        for path in (self.places.journal, self.places.accesses):
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join(s for s in lines if not s.startswith(hash_chain.MARKS)))
        self.git("checkout", "-q", "--theirs", "champions/voids.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Repositories made once: git takes its time."""
    made = {}
    for style in ("merge", "diff3"):
        made[style] = Checkout(tmp_path_factory.mktemp(style) / "project")
        made[style].diverge("-c", f"merge.conflictStyle={style}")
    return made


def copied(checkout, into):
    twin = copy.deepcopy(checkout)
    shutil.copytree(checkout.places.root, into)
    twin.places = Places(into, "voids", MODEL)
    return twin


@pytest.fixture
def checkout(made, tmp_path):
    """A merge of two branches that both promoted, with its conflicts."""
    return copied(made["merge"], tmp_path / "project")


@pytest.mark.parametrize("style", ["merge", "diff3"])
def test_a_merge_is_reported_by_every_reader_with_the_command_that_repairs_it(
    made, tmp_path, style
):
    checkout = copied(made[style], tmp_path / "project")
    command = "models repair --defect voids --keep ours"
    with pytest.raises(IntegrityFault, match=f"E_CHAMPION: an unresolved git merge.*{command}"):
        checked_champion(checkout.places)
    with pytest.raises(IntegrityFault, match=f"E_JOURNAL: an unresolved git merge.*{command}"):
        journal.read(checkout.places.journal)
    with pytest.raises(IntegrityFault, match=f"E_JOURNAL: an unresolved git merge.*{command}"):
        read_accesses(checkout.places)
    checkout.take_both()
    with pytest.raises(IntegrityFault, match=f"line 3: E_JOURNAL: a fork.*{command}"):
        checked_champion(checkout.places)


OURS = (["first", "other"], ["second", "third"])
THEIRS = (["first", "second", "third"], ["other"])


@pytest.mark.parametrize("union", [False, True])
@pytest.mark.parametrize(("keep", "sides"), [("ours", OURS), ("theirs", THEIRS)])
def test_repair_keeps_one_champion_and_both_histories(checkout, keep, sides, union):
    kept, merged = sides
    before, name = kept[-2:]
    if union:
        checkout.take_both()
    result = repair(checkout.places, checkout.registry, keep, JOIN)
    champion = checked_champion(checkout.places)
    assert (champion.run_id, champion.threshold) == (f"run {name}", 0.1 * len(name))
    assert champion.verdict == "pass"
    assert checkout.places.bundle.read_bytes() == name.encode()
    assert (result.champion, result.merged, result.bundle) == (champion, len(merged), True)
    *lines, last = journal.read(checkout.places.journal)
    assert [e.reason for e in lines] == [f"{n} is better" for n in kept]
    assert (last.verdict, last.who, last.from_version) == ("merge", "cleo@lab", last.to_version)
    assert [e.reason for e in last.merged] == [f"{n} is better" for n in merged]
    # The other side's lines are as they were written there, digests and all.
    branch = "work" if keep == "ours" else "HEAD"
    there = checkout.git("show", f"{branch}:champions/voids.journal.jsonl").splitlines()[1:]
    assert [json.loads(line) for line in there] == [e.as_mapping() for e in last.merged]
    for alias, expected in (("champion", name), ("previous", before)):
        number = checkout.registry.alias(MODEL, alias)
        assert checkout.registry.stored[MODEL, number] == expected.encode()
    assert checkout.registry.version(MODEL, champion.version).tags["journal_length"] == str(
        champion.journal_length
    )
    # The ledger adds up, and everything goes on from here.
    assert len(read_accesses(checkout.places)) == 3
    checkout.commit("merged")
    assert rollback(checkout.places, checkout.registry, JOIN).run_id == f"run {before}"
    checkout.promote("fourth", "dan")
    assert checked_champion(checkout.places).run_id == "run fourth"
    with pytest.raises(InputRefused, match="E_NO_FORK"):
        repair(checkout.places, checkout.registry, keep, JOIN)


def test_the_same_repair_gives_the_same_bytes(checkout):
    broken = {p: p.read_bytes() for p in checkout.places.root.glob("champions/*.json*")}
    seen = []
    for _ in range(2):
        for path, data in broken.items():
            path.write_bytes(data)
        repair(checkout.places, checkout.registry, "ours", JOIN)
        seen.append({p: p.read_bytes() for p in broken})
    assert seen[0] == seen[1]


def test_without_the_bundle_the_repair_says_so_and_the_files_are_right(checkout):
    checkout.places.bundle.unlink()
    result = repair(checkout.places, RecordingRegistry(), "ours", JOIN)
    assert not result.bundle
    assert read_champion(checkout.places).run_id == "run other"
    assert not checkout.places.bundle.exists()


@pytest.mark.parametrize("step", range(len(changing.STEPS) + 1))
def test_a_repair_that_is_interrupted_is_finished_by_the_next(checkout, monkeypatch, step):

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        steps = list(changing.STEPS)
        patch.setattr(changing, "STEPS", (*steps[:step], die, *steps[step:]))
        with pytest.raises(KeyboardInterrupt):
            repair(checkout.places, checkout.registry, "ours", JOIN)
    if step < len(changing.STEPS):
        result = repair(checkout.places, checkout.registry, "ours", JOIN)
        assert result.merged == 2
    assert checked_champion(checkout.places).run_id == "run other"


def test_an_edited_line_is_not_repaired_away(checkout):
    path = checkout.places.journal
    path.write_text(path.read_text().replace("third is better", "third is bitter"))
    before = path.read_bytes()
    with pytest.raises(IntegrityFault, match="was edited"):
        repair(checkout.places, checkout.registry, "ours", JOIN)
    assert path.read_bytes() == before


def test_a_missing_line_is_not_repaired_away(checkout):
    path = checkout.places.journal
    lines = path.read_text().splitlines(keepends=True)
    (number,) = [i for i, line in enumerate(lines) if "second is better" in line]
    path.write_text("".join(lines[:number] + lines[number + 1 :]))
    with pytest.raises(IntegrityFault, match="lines are missing"):
        read_fork(path)


def test_a_promotion_from_before_the_merge_is_not_carried_into_it(checkout):
    checkout.places.waiting.mkdir(parents=True)
    checkout.places.intent.write_text('{"entry": {}}')
    with pytest.raises(IntegrityFault, match="E_UNFINISHED: a promotion was not finished before"):
        repair(checkout.places, checkout.registry, "ours", JOIN)


def test_a_ledger_alone_is_joined_too(tmp_path):
    checkout = Checkout(tmp_path / "project")
    for branch in ("work", "main"):
        checkout.git("checkout", "-q", *(("-b",) if branch == "work" else ()), branch)
        checkout.restore()
        record_access(checkout.places, read_champion(checkout.places), branch[0] * 64)
        checkout.commit(branch)
    checkout.git("merge", "work", fine=(1,))
    result = repair(checkout.places, checkout.registry, "theirs", JOIN)
    assert (result.champion.run_id, result.merged) == ("run first", 0)
    assert [line["test_sha256"][0] for line in read_accesses(checkout.places)] == ["w", "m"]


def test_edited_lines_of_the_other_branch_are_noticed(checkout):
    repair(checkout.places, checkout.registry, "ours", JOIN)
    path = checkout.places.journal
    *lines, last = hash_chain.read_chain(path)
    last["merged"][0]["reason"] = "invented"
    path.write_text(hash_chain.text_of([*lines, hash_chain.chained(last, lines[-1])]))
    with pytest.raises(IntegrityFault, match="keeps edited lines of another branch"):
        journal.read(path)
