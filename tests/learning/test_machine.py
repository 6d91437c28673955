"""Device, precision and threads."""

import pytest
import torch

from defectops.errors import SettingsRefused
from defectops.learning import machine

CPU = torch.device("cpu")


@pytest.fixture
def _settled():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(0)


@pytest.mark.usefixtures("_settled")
def test_settle_sets_threads_and_determinism():
    assert machine.settle(1) == 1 == torch.get_num_threads()
    assert torch.are_deterministic_algorithms_enabled()
    assert machine.settle(0) == torch.get_num_threads() >= 1


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_autocast_computes_in_the_precision_asked_for(precision, dtype):
    with machine.autocast(precision, CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.mark.parametrize("native", [True, False])
def test_auto_takes_bfloat16_only_where_the_processor_has_it(native, monkeypatch):
    monkeypatch.setattr(machine, "_processor_has_bfloat16", lambda: native)
    with machine.autocast("auto", CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if native else torch.float32)


def test_an_unknown_precision_is_refused():
    with pytest.raises(SettingsRefused, match="got 'float16'"):
        machine.autocast("float16", CPU)
