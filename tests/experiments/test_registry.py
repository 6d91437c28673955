"""The registry that keeps everything in memory."""

import pytest
from contract import RegistryContract

from defectops.experiments.registry import RecordingRegistry


class TestRecordingRegistry(RegistryContract):
    @pytest.fixture
    def registry(self):
        return RecordingRegistry()

    @pytest.fixture
    def new_run(self):
        return lambda: "0" * 32

    @pytest.fixture
    def run_id(self, new_run):
        return new_run()

    def damage(self, registry, model, number):
        registry.stored[model, number] = b"weighty"
