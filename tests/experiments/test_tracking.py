"""The tracker that records in memory, and runs that always end."""

import pytest
from contract import TrackerContract

from defectops.errors import EnvironmentFault
from defectops.experiments.tracking import RecordingTracker, tracked_run


class TestRecordingTracker(TrackerContract):
    @pytest.fixture
    def tracker(self):
        return RecordingTracker()

    def artifact_text(self, tracker, run_id, name):
        return tracker.records[run_id].artifacts[name].decode()

    def datasets(self, tracker, run_id):
        return [(d["name"], d["digest"], d["context"]) for d in tracker.records[run_id].datasets]


def test_a_store_that_goes_away_does_not_hide_why_the_run_ended():
    class Away(RecordingTracker):
        def finish(self, run_id, status, reason=""):
            raise EnvironmentFault("server", "E_TRACKING", "away")

    with pytest.raises(ValueError, match="bad label"), tracked_run(Away(), "v", "a", {}, {}):
        raise ValueError("bad label")
