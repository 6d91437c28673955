"""After a champion has moved: DVC's record, the user's command, and what doctor says of both."""

import pytest
from crash_matrix import MODEL, VOIDS, Project, dvc_commit, played_dvc

from defectops.errors import EnvironmentFault, IntegrityFault
from defectops.experiments.champions import Places, read_champion
from defectops.experiments.registry import RecordingRegistry
from defectops.workflows import after_promotion, versioning
from defectops.workflows.after_promotion import hook_of, record, tell, unrecorded
from defectops.workflows.direct_promotion import roll_back
from defectops.workflows.doctoring import left_undone
from defectops.workflows.parameters import Parameters
from defectops.workflows.repairing import repair_history
from defectops.workflows.versioning import cached


@pytest.fixture
def project(tmp_path):
    with played_dvc():
        yield Project.made(tmp_path / "project", ("zero", "first"))


def moved(project, name="second"):
    """Promote without what comes after."""
    after = project.after
    project.after = lambda: None
    project.promote(name)
    project.after = after


def codes(project, command="", mend=False):
    found = list(left_undone(project.root, VOIDS, command, mend))
    return [(t.code, t.exit_code, t.mended) for t in found]


def test_a_move_is_recorded_once(project, monkeypatch):
    assert not unrecorded(project.places)
    moved(project)
    assert unrecorded(project.places)
    calls = []
    monkeypatch.setattr(
        after_promotion, "record_promotion", lambda *given: (calls.append(1), dvc_commit(*given))
    )
    for _ in range(2):
        record(project.root, VOIDS)
    assert calls == [1]
    assert not unrecorded(project.places)


def test_without_dvc_or_a_champion_there_is_nothing_to_record(tmp_path):
    places = Places(tmp_path, "voids", MODEL)
    assert not unrecorded(places)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "dvc.yaml").touch()
    assert not unrecorded(places)
    (tmp_path / ".dvc").rmdir()
    moved(Project(tmp_path))
    assert not unrecorded(places)


def test_doctor_reports_and_records(project, monkeypatch):
    assert codes(project) == []
    moved(project)
    assert codes(project) == [("E_UNRECORDED", 5, False)]

    def fails(root, defect):
        raise EnvironmentFault("dvc commit", "E_DVC", "failed: lock")

    with monkeypatch.context() as patch:
        patch.setattr(after_promotion, "record_promotion", fails)
        assert codes(project, mend=True) == [("E_DVC", 4, False)]
    assert codes(project, mend=True) == [("E_UNRECORDED", 0, True)]
    assert codes(project) == []


def test_a_champion_file_that_cannot_be_read_is_left_to_its_own_report(project):
    project.places.file.write_text("<<<<<<< HEAD\n")
    assert codes(project) == []


def test_the_command_is_told_what_moved(project):
    tell(project.places, "")
    moved(project, "second")
    names = ["DEFECT", "MODEL", "FROM", "TO", "VERDICT", "REASON", "WHO", "BY"]
    line = " ".join(f"$DEFECTOPS_{n}" for n in names)
    assert tell(project.places, f"sh -c 'echo {line} > told.txt'") == []
    told = (project.root / "told.txt").read_text()
    assert told == f"voids {MODEL} 2 3 pass second ada@lab promote\n"
    assert tell(project.places, "sh -c 'echo again > told.txt'") == []
    assert (project.root / "told.txt").read_text() == told


def test_every_move_is_told_in_order(project):
    for name in ("second", "third"):
        moved(project, name)
    assert codes(project, "true") == [("E_UNRECORDED", 5, False), ("N_AFTER", 0, False)]
    assert tell(project.places, "sh -c 'echo $DEFECTOPS_TO >> told.txt'") == []
    assert (project.root / "told.txt").read_text().split()[-2:] == ["3", "4"]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("sh -c 'echo no mail >&2; exit 3'", "ended with 3 (no mail); the promotion stands"),
        ("no-such-program --now", "was not run to its end"),
        ("sh -c 'unclosed", "was not run to its end"),
        ("sleep 9", "timed out after 0.05 seconds"),
    ],
)
def test_a_command_that_fails_is_a_warning_and_the_move_stands(project, monkeypatch, command, says):
    monkeypatch.setattr(after_promotion, "_HOOK_SECONDS", 0.05 if "sleep" in command else 60)
    moved(project)
    (warning,) = tell(project.places, command)
    assert says in warning
    assert project.read() == "second"
    assert tell(project.places, command) == []


def test_nobody_to_tell_and_nothing_is_kept(project):
    moved(project)
    assert tell(project.places, " ") == []
    assert list(project.places.untold.iterdir()) == []


def test_the_command_comes_from_the_parameters():
    parameters = Parameters({"promotion": {"default": {"after": "say done"}}}, {"voids": VOIDS})
    assert hook_of(parameters, VOIDS) == "say done"
    assert hook_of(Parameters({}, {"voids": VOIDS}), VOIDS) == ""


def in_cache(project, name, monkeypatch):
    """Put a bundle where DVC's cache keeps it."""
    md5 = after_promotion.md5(project.root / f"{name}.trained")
    path = project.root / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    path.parent.mkdir(parents=True)
    path.write_bytes(name.encode())
    monkeypatch.setattr(versioning, "_dvc", lambda root, *words, then: f"{root / 'cache'}\n")
    return path


def test_rollback_takes_the_bundle_from_dvcs_cache_when_the_registry_is_lost(project, monkeypatch):
    path = in_cache(project, "zero", monkeypatch)
    fresh = RecordingRegistry()
    champion = roll_back(project.root, VOIDS, fresh, "")
    assert (champion.run_id, champion.threshold) == ("run zero", 0.1 * len("zero"))
    assert project.places.bundle.read_bytes() == path.read_bytes() == b"zero"
    assert fresh.stored[MODEL, fresh.alias(MODEL, "champion")] == b"zero"


def test_rollback_without_any_copy_says_where_to_look_and_moves_nothing(project, monkeypatch):
    before = read_champion(project.places)
    path = in_cache(project, "zero", monkeypatch)
    path.write_bytes(b"damaged")
    with pytest.raises(IntegrityFault, match=r"E_DIGEST: .*no copy is in DVC's cache: fetch"):
        roll_back(project.root, VOIDS, RecordingRegistry(), "")
    path.unlink()
    with pytest.raises(IntegrityFault, match="E_DIGEST"):
        roll_back(project.root, VOIDS, RecordingRegistry(), "")
    assert read_champion(project.places) == before


def test_a_damaged_copy_in_the_registry_does_not_stop_a_rollback(project, monkeypatch):
    in_cache(project, "zero", monkeypatch)
    registry = project.registry()
    registry.stored[MODEL, 1] = b"damaged"
    assert roll_back(project.root, VOIDS, registry, "").version == 1
    assert project.places.bundle.read_bytes() == b"zero"


def test_a_path_is_not_made_of_what_is_no_digest(project):
    assert cached(project.root, "../../etc/passwd") is None
    assert cached(project.root, "") is None


def test_repair_asks_for_a_side_and_for_a_fork(project):
    for keep, code in (("mine", "E_USAGE"), ("ours", "E_NO_FORK")):
        with pytest.raises(Exception, match=code):
            repair_history(project.root, VOIDS, project.registry(), keep, "")
