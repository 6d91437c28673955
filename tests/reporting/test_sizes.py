import pandas as pd

from defectops.defects import BUILT_IN
from defectops.reporting import sizes


def table(**counts):
    return pd.DataFrame(
        [
            {"source": s, "bin_low_nm": 2.0 * i, "bin_high_nm": 2.0 * i + 2, "count": c}
            for s, row in counts.items()
            for i, c in enumerate(row)
        ]
    )


def test_bins_join_and_counts_add():
    found = sizes.histograms(table(prediction=[1, 4, 2], label=[0, 3, 3]))
    assert list(found) == ["label", "prediction"]
    assert found["label"].edges == (0.0, 2.0, 4.0, 6.0)
    assert found["prediction"].counts == (1.0, 4.0, 2.0)
    assert found["prediction"].total == 7
    assert sizes.histograms_summary(found).endswith("counted: label 6, prediction 7.")


def test_source_without_objects_is_left_out():
    assert list(sizes.histograms(table(label=[1], prediction=[0]))) == ["label"]
    assert sizes.histograms(pd.DataFrame()) == {}
    assert sizes.histograms_summary({}) == "No object was counted."


def test_axis_names_size_and_unit():
    found = sizes.histograms(table(label=[1, 2], prediction=[2, 1], truth=[1, 1]))
    particles = sizes.histograms_svg(found, BUILT_IN["voids"], "nm", "a")
    lines = sizes.histograms_svg(found, BUILT_IN["dislocations"], "px", "a")
    assert "Equivalent-circle diameter / nm" in particles
    assert "Segment length / px" in lines
    assert "truth (n = 2)" in lines
    assert "no object counted" in sizes.histograms_svg({}, BUILT_IN["voids"], "nm", "a")
