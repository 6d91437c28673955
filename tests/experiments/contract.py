"""What every tracker and every registry must do, whoever implements it.

A test module makes a fixture `tracker` or `registry` for its implementation and inherits the class.
"""

import hashlib
import math
import signal

import pytest

from defectops.errors import InputRefused, IntegrityFault
from defectops.experiments.mlflow_model_check import check_mlflow_model
from defectops.experiments.ownership import Owner, this_process
from defectops.experiments.tracking import close_stale_runs, tracked_run


class TrackerContract:
    """Laws of the port `Tracker`."""

    def test_a_started_run_is_running_and_ours(self, tracker):
        run_id = tracker.start("voids", "quick", {"epochs": 3, "note": None}, {"preset": "quick"})
        run = tracker.run(run_id)
        assert (run.experiment, run.name, run.status) == ("voids", "quick", "RUNNING")
        assert run.params == {"epochs": "3", "note": ""}
        assert run.tags["preset"] == "quick"
        assert {k: run.tags[k] for k in this_process().tags()} == this_process().tags()
        assert [r.run_id for r in tracker.running()] == [run_id]

    def test_two_runs_of_an_experiment_do_not_mix(self, tracker):
        first = tracker.start("voids", "a", {}, {})
        second = tracker.start("voids", "b", {}, {})
        tracker.metrics(first, {"loss": 1.0}, 1)
        tracker.metrics(second, {"loss": 2.0}, 1)
        assert first != second
        assert tracker.history(first, "loss") == [(1, 1.0)]
        assert tracker.history(second, "loss") == [(1, 2.0)]

    def test_curves_keep_every_step_and_the_last_value_counts(self, tracker):
        run_id = tracker.start("voids", "a", {}, {})
        for step, value in ((1, 0.1), (3, 0.2), (2, 0.9)):
            tracker.metrics(run_id, {"dev/iou": value}, step)
        assert tracker.history(run_id, "dev/iou") == [(1, 0.1), (2, 0.9), (3, 0.2)]
        assert tracker.run(run_id).metrics == {"dev/iou": 0.2}
        assert tracker.history(run_id, "loss") == []

    def test_values_that_are_no_numbers_are_left_out(self, tracker):
        run_id = tracker.start("voids", "a", {}, {})
        tracker.metrics(run_id, {"iou": math.nan, "loss": math.inf, "lr": 0.5}, 1)
        tracker.metrics(run_id, {"iou": math.nan}, 2)
        assert tracker.run(run_id).metrics == {"lr": 0.5}
        assert tracker.history(run_id, "iou") == []

    def test_a_parameter_can_be_added_and_repeated_but_not_changed(self, tracker):
        run_id = tracker.start("voids", "a", {"epochs": 3}, {})
        tracker.params(run_id, {"epochs": 3, "width": 16})
        with pytest.raises(InputRefused, match=r"epochs: E_PARAM: recorded as '3' before, now '4'"):
            tracker.params(run_id, {"epochs": 4})
        assert tracker.run(run_id).params == {"epochs": "3", "width": "16"}

    def test_many_parameters_and_long_ones(self, tracker):
        many = {f"p{i}": i for i in range(250)} | {"long": "x" * 9000}
        run_id = tracker.start("voids", "a", many, {})
        kept = tracker.run(run_id).params
        assert len(kept) == 251
        assert kept["long"] == "x" * 6000

    def test_tags_are_replaced(self, tracker):
        run_id = tracker.start("voids", "a", {}, {"git.commit": "1"})
        tracker.tags(run_id, {"git.commit": "2"})
        assert tracker.run(run_id).tags["git.commit"] == "2"

    def test_finish(self, tracker):
        run_id = tracker.start("voids", "a", {}, {})
        tracker.finish(run_id, "FAILED", "out of\nmemory " + "y" * 900)
        run = tracker.run(run_id)
        assert run.status == "FAILED"
        assert run.tags["ended.reason"].startswith("out of memory y")
        assert len(run.tags["ended.reason"]) == 500
        assert tracker.running() == []

    def test_a_reopened_run_goes_on(self, tracker):
        run_id = tracker.start("voids", "a", {}, {})
        tracker.metrics(run_id, {"loss": 1.0}, 1)
        tracker.finish(run_id, "KILLED", "power cut")
        tracker.reopen(run_id)
        tracker.metrics(run_id, {"loss": 0.5}, 2)
        assert tracker.run(run_id).status == "RUNNING"
        assert tracker.history(run_id, "loss") == [(1, 1.0), (2, 0.5)]

    def test_unknown_run(self, tracker):
        with pytest.raises(InputRefused, match="E_RUN"):
            tracker.run("0" * 32)

    @pytest.mark.parametrize(
        ("error", "status", "reason"),
        [
            (None, "FINISHED", None),
            (ValueError("bad label"), "FAILED", "ValueError: bad label"),
            (KeyboardInterrupt(), "KILLED", "stopped by Ctrl-C"),
            (SystemExit(128 + signal.SIGTERM), "KILLED", "stopped by SIGTERM"),
        ],
    )
    def test_a_tracked_run_ends_however_its_block_ends(self, tracker, error, status, reason):
        seen = []

        def work():
            with tracked_run(tracker, "voids", "a", {}, {}) as run_id:
                seen.append(run_id)
                if error:
                    raise error

        if error:
            with pytest.raises(type(error)):
                work()
        else:
            work()
        run = tracker.run(seen[0])
        assert run.status == status
        assert run.tags.get("ended.reason") == reason

    def test_runs_of_dead_processes_are_closed_and_no_others(self, tracker):
        here = this_process()
        gone = Owner(here.host, here.boot, here.namespace, "4194305", here.started)
        elsewhere = Owner("other", here.boot, here.namespace, "4194305", here.started)
        ids = {}
        for name in ("mine", "gone", "elsewhere", "nobody"):
            ids[name] = tracker.start("voids", name, {}, {})
        tracker.tags(ids["gone"], gone.tags())
        tracker.tags(ids["elsewhere"], elsewhere.tags())
        tracker.tags(ids["nobody"], dict.fromkeys(here.tags(), ""))

        assert [run.name for run in close_stale_runs(tracker)] == ["gone"]
        run = tracker.run(ids["gone"])
        assert run.status == "KILLED"
        assert "4194305" in run.tags["ended.reason"]
        assert {r.name for r in tracker.running()} == {"mine", "elsewhere", "nobody"}
        assert close_stale_runs(tracker) == []

    def test_artifact_and_dataset_are_accepted(self, tracker, tmp_path):
        run_id = tracker.start("voids", "a", {}, {})
        (tmp_path / "curve.csv").write_text("epoch,iou\n1,0.5\n")
        tracker.artifact(run_id, tmp_path / "curve.csv", "curves")
        tracker.dataset(run_id, "voids/train", "d" * 32 + ".dir", "data.dvc", "train")
        assert self.artifact_text(tracker, run_id, "curves/curve.csv") == "epoch,iou\n1,0.5\n"
        assert self.datasets(tracker, run_id) == [("voids/train", "d" * 32 + ".dir", "train")]

    def test_an_artifact_comes_back_whole_or_not_at_all(self, tracker, tmp_path):
        run_id = tracker.start("voids", "a", {}, {})
        (tmp_path / "best.safetensors").write_bytes(bytes(range(256)))
        tracker.artifact(run_id, tmp_path / "best.safetensors", "weights")
        into = tmp_path / "elsewhere"
        found = tracker.fetch(run_id, "weights/best.safetensors", into)
        assert found == into / "best.safetensors"
        assert found.read_bytes() == bytes(range(256))
        for run, name, match in (
            (run_id, "weights/other", "E_RUN: has no weights/other"),
            ("0" * 32, "weights/best.safetensors", "E_RUN: no such run"),
        ):
            with pytest.raises(InputRefused, match=match):
                tracker.fetch(run, name, into)
        assert [p.name for p in into.iterdir()] == ["best.safetensors"]


def bundle(folder, data=b"weights"):
    path = folder / "trained.safetensors"
    path.write_bytes(data)
    return path


class RegistryContract:
    """Laws of the port `Registry`; `damage(registry, model, number)` breaks stored bytes."""

    def test_nothing_registered(self, registry):
        assert registry.versions("defectops-voids") == []
        assert registry.find("defectops-voids", "0" * 64) is None
        assert registry.alias("defectops-voids", "champion") is None
        registry.set_alias("defectops-voids", "champion", None)
        with pytest.raises(InputRefused, match="defectops-voids/1: E_VERSION"):
            registry.version("defectops-voids", 1)

    def test_a_version_keeps_its_numbers_and_bytes(self, registry, run_id, tmp_path):
        path = bundle(tmp_path)
        metrics = {"iou": 1 / 3, "precision": math.nan}
        number = registry.submit("defectops-voids", path, run_id, metrics, {"threshold": "0.4"})
        version = registry.version("defectops-voids", number)
        assert number == 1
        assert version.run_id == run_id
        assert version.sha256 == hashlib.sha256(b"weights").hexdigest()
        assert version.metrics == {"iou": 1 / 3}
        assert version.tags == {"threshold": "0.4"}
        assert registry.versions("defectops-voids") == [version]
        fetched = registry.fetch("defectops-voids", 1, tmp_path / "into")
        assert fetched == tmp_path / "into" / "model.safetensors"
        assert fetched.read_bytes() == b"weights"

    def test_a_card_stays_with_its_version(self, registry, run_id, tmp_path):
        card = "# Voids\n\nKnows no loops.\n"
        registry.submit("defectops-voids", bundle(tmp_path), run_id, {}, {}, card)
        registry.submit("defectops-voids", bundle(tmp_path), run_id, {}, {}, "another")
        assert registry.version("defectops-voids", 1).card == card
        assert registry.versions("defectops-voids")[0].card == card

    def test_the_whole_folder_comes_back_and_is_ours(self, registry, run_id, tmp_path):
        registry.submit("defectops-voids", bundle(tmp_path), run_id, {}, {}, "# Card\n")
        folder = registry.fetch_folder("defectops-voids", 1, tmp_path / "into")
        assert folder == tmp_path / "into"
        assert check_mlflow_model(folder).read_bytes() == b"weights"
        assert (folder / "MODEL_CARD.md").read_text() == "# Card\n"
        with pytest.raises(InputRefused, match="E_VERSION"):
            registry.fetch_folder("defectops-voids", 2, tmp_path / "no")

    def test_the_same_bytes_are_the_same_version(self, registry, run_id, tmp_path):
        first = registry.submit("defectops-voids", bundle(tmp_path), run_id, {"iou": 0.5}, {})
        again = registry.submit("defectops-voids", bundle(tmp_path), run_id, {"iou": 0.9}, {})
        assert (first, again) == (1, 1)
        assert registry.version("defectops-voids", 1).metrics == {"iou": 0.5}

    def test_versions_count_up_per_model(self, registry, new_run, tmp_path):
        for i in range(11):
            path = bundle(tmp_path, b"weights %d" % i)
            assert registry.submit("defectops-voids", path, new_run(), {}, {}) == i + 1
        path = bundle(tmp_path, b"lines")
        assert registry.submit("defectops-dislocations", path, new_run(), {}, {}) == 1
        assert [v.number for v in registry.versions("defectops-voids")] == list(range(1, 12))
        third = hashlib.sha256(b"weights 2").hexdigest()
        assert registry.find("defectops-voids", third) == 3
        assert registry.find("defectops-dislocations", third) is None

    def test_two_bundles_of_one_run_are_two_versions(self, registry, run_id, tmp_path):
        for i in range(2):
            path = bundle(tmp_path, b"epoch %d" % i)
            assert registry.submit("defectops-voids", path, run_id, {}, {}) == i + 1
        assert registry.version("defectops-voids", 2).run_id == run_id
        for i in range(2):
            fetched = registry.fetch("defectops-voids", i + 1, tmp_path / "into")
            assert fetched.read_bytes() == b"epoch %d" % i

    def test_aliases(self, registry, new_run, tmp_path):
        for i in range(2):
            registry.submit("defectops-voids", bundle(tmp_path, b"%d" % i), new_run(), {}, {})
        registry.set_alias("defectops-voids", "champion", 1)
        registry.set_alias("defectops-voids", "champion", 2)
        registry.set_alias("defectops-voids", "previous", 1)
        assert registry.alias("defectops-voids", "champion") == 2
        assert registry.alias("defectops-voids", "previous") == 1
        registry.set_alias("defectops-voids", "previous", None)
        assert registry.alias("defectops-voids", "previous") is None
        with pytest.raises(InputRefused, match="E_VERSION"):
            registry.set_alias("defectops-voids", "champion", 3)
        assert registry.alias("defectops-voids", "champion") == 2

    def test_tags_can_be_added_and_replaced_later(self, registry, run_id, tmp_path):
        registry.submit("defectops-voids", bundle(tmp_path), run_id, {"iou": 0.5}, {"a": "1"})
        for value in ("x", "y", "y"):
            registry.set_tags("defectops-voids", 1, {"b": value, "c": ""})
        version = registry.version("defectops-voids", 1)
        assert version.tags == {"a": "1", "b": "y", "c": ""}
        assert version.metrics == {"iou": 0.5}
        with pytest.raises(InputRefused, match="defectops-voids/2: E_VERSION"):
            registry.set_tags("defectops-voids", 2, {})

    def test_a_run_that_the_store_lost_does_not_stop_a_registration(self, registry, tmp_path):
        number = registry.submit("defectops-voids", bundle(tmp_path), "f" * 32, {}, {})
        assert registry.version("defectops-voids", number).run_id == "f" * 32
        assert registry.fetch("defectops-voids", number, tmp_path / "into").exists()

    def test_damaged_bytes_are_not_handed_out(self, registry, run_id, tmp_path):
        registry.submit("defectops-voids", bundle(tmp_path), run_id, {}, {})
        self.damage(registry, "defectops-voids", 1)
        into = tmp_path / "into"
        into.mkdir()
        (into / "model.safetensors").write_bytes(b"old")
        with pytest.raises(IntegrityFault, match="defectops-voids/1: E_DIGEST"):
            registry.fetch("defectops-voids", 1, into)
        assert (into / "model.safetensors").read_bytes() == b"old"

    def test_no_bundle(self, registry, run_id, tmp_path):
        with pytest.raises(InputRefused, match="E_NO_BUNDLE"):
            registry.submit("defectops-voids", tmp_path / "none", run_id, {}, {})
        assert registry.versions("defectops-voids") == []
