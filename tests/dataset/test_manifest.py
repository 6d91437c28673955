"""The manifest is strict: what it cannot mean exactly, it refuses with the row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectops.dataset.manifest import (
    COLUMNS,
    UNNAMED_DEFECT,
    ManifestRow,
    check_files,
    number_or_none,
    read_manifest,
    write_manifest,
)
from defectops.errors import ManifestRefused


@pytest.fixture
def table(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "manifest.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def refused(path, code, words):
    with pytest.raises(ManifestRefused) as caught:
        read_manifest(path)
    assert caught.value.code == code
    assert words in str(caught.value)


def test_only_the_image_is_required(table):
    assert read_manifest(table("image\na.png\n")) == [ManifestRow("a.png")]


def test_all_columns(table):
    text = (
        "image,label_voids,label_dislocations,ignore,specimen,condition,side,pixel_size_nm,"
        "pixel_size_source,thickness_nm,thickness_sd_nm,licence,source\n"
        "a.png,labels/voids/a.png,,ignore/voids/a.png,S1,10 dpa,dev,0.365,tags,136,0,MIT,here\n"
        'b.tif,,,,,"a, b",,,uncalibrated,,,,\n'
    )
    assert read_manifest(table(text, "utf-8-sig")) == [
        ManifestRow(
            image="a.png",
            labels={"voids": "labels/voids/a.png"},
            ignore=("ignore/voids/a.png",),
            specimen="S1",
            condition="10 dpa",
            side="dev",
            pixel_size_nm=0.365,
            pixel_size_source="tags",
            thickness_nm=136.0,
            thickness_sd_nm=0.0,
            licence="MIT",
            source="here",
        ),
        ManifestRow(image="b.tif", condition="a, b", pixel_size_source="uncalibrated"),
    ]


def test_label_and_split_are_read_as_what_they_mean(table):
    (row,) = read_manifest(table("image,label,split\na.tif,masks/a.tif,train\n"))
    assert row.side == "train"
    assert row.labels == {UNNAMED_DEFECT: "masks/a.tif"}


@pytest.mark.parametrize(
    "name",
    [
        "../../secret.tif",
        "a/../../b.tif",
        "/etc/passwd",
        "C:a.tif",
        "..\\\\a.tif",
        "a\x00.tif",
        "http://host/a.tif",
        "a//b.tif",
        "./a.tif",
    ],
)
@pytest.mark.parametrize("column", ["image", "label_voids", "label", "ignore", "mask"])
def test_paths_outside_win_over_every_other_fault(table, name, column):
    cells = {"image": "ok.tif", "side": "nonsense", column: name}
    refused(table(f"{','.join(cells)}\n{','.join(cells.values())}\n"), "E_PATH", "row 2")


def test_a_link_that_leads_outside_is_refused(table, tmp_path):
    data = tmp_path / "data"
    (data / "micrographs").mkdir(parents=True)
    (data / "micrographs" / "a.png").symlink_to(tmp_path / "secret.png")
    (data / "micrographs" / "loop.png").symlink_to("loop.png")
    for name in ("a.png", "loop.png"):
        with pytest.raises(ManifestRefused, match=r"E_PATH"):
            read_manifest(table(f"image\n{name}\n"), data)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("", "E_MANIFEST", "empty"),
        ("image\n", "E_MANIFEST", "names no image"),
        ("label_voids\na.png\n", "E_MANIFEST", "'image' is missing"),
        ("image,label_voids\n,labels/voids/a.png\n", "E_MANIFEST", "empty"),
        ("image;side\na.png;train\n", "E_MANIFEST", "commas"),
        ("image,pixelsize_nm\na.png,1\n", "E_MANIFEST", "did you mean 'pixel_size_nm'"),
        ("image,label_Voids\na.png,x\n", "E_MANIFEST", "unknown column"),
        ("image,image\na.png,b.png\n", "E_MANIFEST", "twice"),
        ("image,side,split\na.png,dev,dev\n", "E_MANIFEST", "twice"),
        ("image,side\na.png,val\n", "E_MANIFEST", "'val' is not one of train, dev"),
        ("image,side\na.png\n", "E_MANIFEST", "1 cells under 2"),
        ("image\na.png,b\n", "E_MANIFEST", "2 cells under 1"),
        ('image\n"a.png\n', "E_MANIFEST", "cannot be read"),
        ("image\na.png\nb.png\na.png\n", "E_DUPLICATE", "row 4"),
        ("image\na.png\na.tif\n", "E_DUPLICATE", "'a.png' in row 2"),
        ("image\na.png\nA.PNG\n", "E_DUPLICATE", "row 3"),
        ("image\n\u00e9.png\ne\u0301.png\n", "E_DUPLICATE", "row 3"),
        ('image,pixel_size_nm\na.png,"0,365"\n', "E_PX_INVALID", "write 0.365"),
        ("image,pixel_size_nm\na.png,0.365 nm\n", "E_PX_INVALID", "without a unit"),
        ("image,pixel_size_nm\na.png,nan\n", "E_PX_INVALID", "not a number"),
        ("image,pixel_size_nm\na.png,1e999\n", "E_PX_INVALID", "not a number"),
        ("image,pixel_size_nm\na.png,0\n", "E_PX_INVALID", "positive"),
        ("image,pixel_size_nm\na.png,-1\n", "E_PX_INVALID", "positive"),
        ("image,thickness_nm\na.png,0\n", "E_MANIFEST", "positive"),
        ("image,pixel_size_nm\na.png,\n", "E_PX_MISSING", "uncalibrated"),
        ("image,pixel_size_nm,pixel_size_source\na.png,,tags\n", "E_PX_MISSING", "a.png"),
        ("image,pixel_size_nm,pixel_size_source\na.png,1,uncalibrated\n", "E_PX_CONFLICT", "1.0"),
    ],
)
def test_what_cannot_be_meant_is_refused(table, text, code, words):
    refused(table(text), code, words)


def test_rows_are_numbered_as_a_spreadsheet_shows_them(table):
    refused(table('image,condition\na.png,"two\nlines"\n\nb.png\n'), "E_MANIFEST", "row 5")


def test_another_encoding_is_refused(table):
    refused(table("image\nä.png\n", "utf-16"), "E_MANIFEST", "UTF-8")


def test_a_missing_manifest_is_refused(tmp_path):
    refused(tmp_path / "manifest.csv", "E_IO", "not a regular file")


text = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=8)
size = st.floats(1e-6, 1e6)
rows = st.lists(
    st.builds(
        ManifestRow,
        image=st.integers(0, 9999).map("im {}.tif".format),
        labels=st.dictionaries(
            st.sampled_from(["voids", "dislocations", "my_type2"]), st.just("labels/x/a.png")
        ),
        ignore=st.sampled_from([(), ("ignore/voids/a.png",), ("ignore/a/b.png", "ignore/c/d")]),
        specimen=text,
        condition=text,
        side=st.sampled_from(["train", "dev", "test", "gate", "auto"]),
        pixel_size_nm=size,
        pixel_size_source=st.just("tags"),
        thickness_nm=st.none() | size,
        thickness_sd_nm=st.none() | size,
        licence=text,
        source=text,
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda r: r.image,
)


@given(rows)
def test_written_rows_are_read_back_equal_and_bytes_are_stable(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("manifest")
    write_manifest(folder / "one.csv", rows)
    write_manifest(folder / "two.csv", rows)

    assert read_manifest(folder / "one.csv") == rows
    assert (folder / "one.csv").read_bytes() == (folder / "two.csv").read_bytes()


def test_uncalibrated_and_unknown_sizes_survive_writing(tmp_path):
    path = tmp_path / "manifest.csv"
    unknown = [ManifestRow("a.png", {"voids": "labels/voids/a.png"})]
    write_manifest(path, unknown)
    assert read_manifest(path) == unknown
    assert "pixel_size" not in path.read_text()

    mixed = [*unknown, ManifestRow("b.png", pixel_size_source="uncalibrated")]
    with pytest.raises(ManifestRefused, match="E_PX_MISSING"):
        write_manifest(path, mixed)
    with pytest.raises(ManifestRefused, match="no image"):
        write_manifest(path, [])


def test_the_header_names_all_columns(tmp_path):
    write_manifest(
        tmp_path / "m.csv",
        [ManifestRow("a.png", {"voids": "x", "b": "y"}, pixel_size_source="uncalibrated")],
    )
    header = (tmp_path / "m.csv").read_text().splitlines()[0].split(",")
    assert header == ["image", "label_b", "label_voids", *COLUMNS[1:]]


def test_files_must_lie_where_the_stages_look(tmp_path):
    for name in ("micrographs/a.png", "labels/voids/a.png", "masks/a.png", "ignore/voids/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    good = {"voids": "labels/voids/a.png"}
    manifest = tmp_path / "manifest.csv"
    check_files(manifest, [ManifestRow("a.png", good, ("ignore/voids/a.png",))], tmp_path)
    for row, code in (
        (ManifestRow("b.png", good), "E_IMAGE_MISSING"),
        (ManifestRow("a.png", {"voids": "labels/voids/b.png"}), "E_LABEL_MISSING"),
        (ManifestRow("a.png", {"voids": "masks/a.png"}), "E_MANIFEST"),
        (ManifestRow("a.png", good, ("ignore/lines/a.png",)), "E_MANIFEST"),
        (ManifestRow("a.png", good, ("ignore/voids/b.png",)), "E_LABEL_MISSING"),
    ):
        with pytest.raises(ManifestRefused, match=f"row 2: {code}"):
            check_files(manifest, [row], tmp_path)


def test_the_ignore_mask_of_a_defect_is_found():
    row = ManifestRow("a.png", ignore=("ignore/voids/a.png", "ignore/lines/a.png"))
    assert row.ignore_for("lines") == "ignore/lines/a.png"
    assert row.ignore_for("precipitates") is None


@pytest.mark.parametrize(("text", "value"), [("", None), ("1", 1.0), (" .5 ", 0.5), ("1e-3", 1e-3)])
def test_numbers(text, value):
    assert number_or_none(text) == value
