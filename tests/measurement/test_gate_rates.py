"""A short run of the benchmark of the gate: equal models are not called better, worse ones stop."""

import importlib.util
import sys
from pathlib import Path

import pytest

from defectops.measurement import model_comparison

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "gate.py"
REPEATS = 8


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("gate_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def condition(benchmark, what, score=""):
    return next(c for c in benchmark.conditions() if (c.what, c.worse) == (what, score))


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["particle", "line"])
def test_an_equal_challenger_is_rarely_called_better(benchmark, shape):
    equal = [c for c in benchmark.conditions() if c.what == "equal" and c.pack.shape == shape]
    found, _ = benchmark.tallies(equal[0], REPEATS, 1)
    assert {t.name for t in found} == set(benchmark.JUDGED[shape])
    for tally in found:
        assert tally.repeats == REPEATS
        assert tally.better <= 2
        assert tally.failed <= 2


@pytest.mark.slow
def test_what_is_lost_at_the_rate_of_the_margin_is_stopped_also_where_nothing_shows(
    benchmark, monkeypatch
):
    worse = condition(benchmark, "a perfect one, loses objects", benchmark.COUNT)
    (tally,), _ = benchmark.tallies(worse, REPEATS, 1)
    assert tally.stopped == REPEATS
    # A bootstrap alone lets it pass wherever none of the 20 objects happens to be lost.
    monkeypatch.setattr(model_comparison, "_event", lambda sample, name: 0.0)
    (alone,), _ = benchmark.tallies(worse, REPEATS, 1)
    assert alone.passed >= 2
    assert alone.missed


@pytest.mark.slow
def test_a_miss_is_the_exit_code(benchmark, monkeypatch, capsys):
    few = benchmark.conditions()[1]
    monkeypatch.setattr(benchmark, "conditions", lambda: [few])
    assert benchmark.main(["--repeats", "2", "--seed", "3"]) == 0
    assert "number_density_error_percent" in capsys.readouterr().out
    monkeypatch.setattr(benchmark, "MOST_BETTER", -1.0)
    assert benchmark.main(["--repeats", "2", "--seed", "3", "--json"]) == 1


def test_wilson_of_ten_in_two_hundred(benchmark):
    low, high = benchmark.wilson(10, 200)
    assert (round(low, 4), round(high, 4)) == (0.0274, 0.0896)
    assert benchmark.wilson(0, 200)[0] == 0
    assert benchmark.wilson(200, 200)[1] == pytest.approx(1)
