"""Quantiles: SciPy's own to the last bit, without loading its statistics."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from defectops.measurement import quantiles

shares = st.floats(1e-6, 1 - 1e-6)
freedoms = st.floats(0.01, 1e4)


@given(shares, freedoms, freedoms)
def test_quantiles_are_those_of_scipys_statistics(share: float, a: float, b: float) -> None:
    assert quantiles.normal(share) == stats.norm.ppf(share)
    assert quantiles.student(share, a) == stats.t.ppf(share, a)
    assert quantiles.chi_square(share, a) == stats.chi2.ppf(share, a)
    assert quantiles.beta(share, a, b) == stats.beta.ppf(share, a, b)
    assert quantiles.fisher(share, a, b) == stats.f.ppf(share, a, b)


def test_quantiles_of_several_shares_at_once() -> None:
    tails = np.array([0.975, 0.025])
    assert quantiles.chi_square(tails, 3.0).tolist() == stats.chi2.ppf(tails, 3.0).tolist()


@pytest.mark.parametrize("freedom", [0.0, -1.0, float("nan")])
def test_without_degrees_of_freedom_there_is_no_quantile(freedom: float) -> None:
    assert np.isnan(quantiles.student(0.975, freedom))
    assert np.isnan(quantiles.chi_square(0.975, freedom))
    assert np.isnan(quantiles.fisher(0.975, freedom, 3.0))


@pytest.mark.slow
def test_judging_a_model_loads_none_of_scipys_statistics() -> None:
    code = "import sys, defectops.workflows.direct_promotion; print('scipy.stats' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.strip() == b"False"
