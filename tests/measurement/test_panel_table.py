"""The table of a panel: what is read, and what is refused with its row."""

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectops.errors import InputRefused
from defectops.measurement.panel_table import published_panel, read_panel

HEADER = "image,defect,rater,kind,quantity,value,unit,minutes\n"
GOOD = (
    HEADER
    + "a.tif,voids,truth,truth,number_density,5e20,m^-3,\n"
    + "a.tif,voids,anna,expert,number_density,4e20,m^-3,30\n"
    + "a.tif,voids,anna,expert,mean_diameter,20,nm,30\n"
    + "a.tif,voids,model,machine,number_density,6e20,m^-3,0.02\n"
    + "\n"
    + "a.tif,voids,bert,expert,number_density,,m^-3,10\n"
)


def table(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "panel.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_a_table_is_read(tmp_path):
    panel = read_panel(table(tmp_path, GOOD, "utf-8-sig"))
    assert panel.values["rater"].tolist() == ["truth", "anna", "anna", "model"]
    assert panel.values["value"].tolist() == [5e20, 4e20, 20, 6e20]
    # Bert measured nothing, but his time counts; Anna's is one time, though given twice.
    assert dict(zip(panel.minutes["rater"], panel.minutes["minutes"], strict=True)) == {
        "anna": 30,
        "model": 0.02,
        "bert": 10,
    }


def test_defect_and_minutes_may_be_absent(tmp_path):
    text = "image,rater,kind,quantity,value,unit\na,anna,expert,d,1,nm\n"
    panel = read_panel(table(tmp_path, text))
    assert panel.values["defect"].tolist() == [""]
    assert len(panel.minutes) == 0


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("a.tif,voids,anna,expert,number_density,1,m^-3,30", "row 8.*twice"),
        ("b.tif,voids,anna,machine,number_density,1,m^-3,30", "anna is expert elsewhere"),
        ("b.tif,voids,carl,guru,number_density,1,m^-3,30", "kind must be.*'guru'"),
        ("b.tif,voids,carl,expert,number_density,1,nm^-3,30", "in nm.-3 here and in m.-3"),
        ("b.tif,voids,carl,expert,number_density,abc,m^-3,30", "value.*'abc'"),
        ("b.tif,voids,carl,expert,number_density,nan,m^-3,30", "value.*'nan'"),
        ("b.tif,voids,carl,expert,number_density,1,m^-3,-1", "minutes.*'-1'"),
        ("b.tif,voids,truth,truth,number_density,0,m^-3,", "a positive number"),
        ("a.tif,voids,gold,truth,number_density,1,m^-3,", "row 8.*twice"),
        ("a.tif,voids,anna,expert,sd_diameter,1,nm,29", "30.0 and 29.0 minutes"),
        (",voids,anna,expert,sd_diameter,1,nm,", "image is empty"),
        ("a.tif,voids,anna", "row 8 has 3 cells, the header 8"),
    ],
)
def test_bad_rows_are_refused_with_their_number(tmp_path, line, says):
    with pytest.raises(InputRefused, match=rf"^panel.csv: E_PANEL: .*{says}"):
        read_panel(table(tmp_path, GOOD + line + "\n"))


@pytest.mark.parametrize("text", ["", "image,rater\n", HEADER.replace("unit", "unit,colour")])
def test_bad_headers_are_refused(tmp_path, text):
    with pytest.raises(InputRefused, match=r"E_PANEL.*needs the columns"):
        read_panel(table(tmp_path, text))


def test_files_that_are_no_tables(tmp_path):
    with pytest.raises(InputRefused, match="E_IO"):
        read_panel(tmp_path / "absent.csv")
    with pytest.raises(InputRefused, match=r"E_PANEL.*UTF-8"):
        read_panel(table(tmp_path, "µ", "latin-1"))
    with pytest.raises(InputRefused, match=r"E_PANEL.*not a CSV"):
        read_panel(table(tmp_path, HEADER + '"a'))


@given(text=st.text(max_size=60))
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes((HEADER + text).encode("utf-8", errors="surrogatepass"))
    with contextlib.suppress(InputRefused):
        assert read_panel(path).values["value"].ge(0).all()


def test_the_published_tables_as_a_panel():
    panel = published_panel()
    per_kind = panel.values["kind"].value_counts()
    # 14 cells; six experts for two of them, five for the others.
    assert (per_kind["truth"], per_kind["machine"], per_kind["expert"]) == (14, 14, 2 * 6 + 12 * 5)
    machine = panel.minutes[panel.minutes["kind"] == "machine"]
    assert (machine["minutes"] * 60).round(3).tolist() == [1.71, 1.95, 3.76, 4.69, 1.00, 1.03]
    assert not any(math.isnan(v) for v in panel.values["value"])
