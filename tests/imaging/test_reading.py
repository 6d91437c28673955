"""Readers: good files come back exactly; bad ones are refused with the right code."""

import io
import json
import os
import struct
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from defectops.errors import (
    CalibrationRefused,
    InputRefused,
    LabelRefused,
    MicrographRefused,
)
from defectops.imaging.calibration import nm_per
from defectops.imaging.reading import (
    read_label,
    read_label_colours,
    read_label_values,
    read_micrograph,
)

H, W = 48, 64


def picture(dtype=np.uint16, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 200, (H, W)).astype(dtype)


def per_cm(nm):
    return {"resolution": (1e7 / nm, 1e7 / nm), "resolutionunit": "CENTIMETER"}


def imagej(nm=0.05, unit="nm"):
    return {"imagej": True, "resolution": (1 / nm, 1 / nm), "metadata": {"unit": unit}}


def write(path, pixels=None, **options):
    tifffile.imwrite(path, picture() if pixels is None else pixels, **{**per_cm(0.05), **options})
    return path


# TIFF by hand: tag -> (type, values); offsets are filled in.
SIZES = {1: "B", 3: "H", 4: "I", 5: "II", 9: "i", 10: "ii", 12: "d"}


def tiff(tags=(), data=None, drop=(), next_ifd=0):
    data = picture(np.uint8).tobytes() if data is None else data
    base = {
        256: (4, [W]),
        257: (4, [H]),
        258: (3, [8]),
        259: (3, [1]),
        262: (3, [1]),
        273: (4, [8]),
        277: (3, [1]),
        278: (4, [H]),
        279: (4, [len(data)]),
        282: (5, [(200_000_000, 1)]),
        283: (5, [(200_000_000, 1)]),
        296: (3, [3]),
    }
    base.update(dict(tags))
    for tag in drop:
        del base[tag]
    at = 8 + len(data) + len(data) % 2
    extra_at, extra, entries = at + 2 + 12 * len(base) + 4, b"", b""
    for tag, (kind, values) in sorted(base.items()):
        flat = [v for value in values for v in (value if isinstance(value, tuple) else (value,))]
        raw = struct.pack("<" + SIZES[kind] * len(values), *flat)
        place = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack("<I", extra_at + len(extra))
        extra += raw if len(raw) > 4 else b""
        entries += struct.pack("<HHI", tag, kind, len(values)) + place
    body = b"II*\0" + struct.pack("<I", at) + data + b"\0" * (len(data) % 2)
    following = at if next_ifd == "self" else next_ifd
    return body + struct.pack("<H", len(base)) + entries + struct.pack("<I", following) + extra


def saved(path, content):
    path.write_bytes(content)
    return path


def refused(path, code, error=InputRefused, **options):
    with pytest.raises(error) as caught:
        read_micrograph(path, **options)
    assert caught.value.code == code, str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


# ------------------------------------------------------------------ good files


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        (np.uint8, {}),
        (np.int16, {}),
        (np.uint16, {"byteorder": ">"}),
        (np.uint16, {"bigtiff": True, "tile": (16, 32)}),
        (np.uint16, {"rowsperstrip": 7}),
        (np.uint16, {"compression": "lzw"}),
        (np.uint16, {"compression": "zlib", "predictor": True, "rowsperstrip": 7}),
        (np.uint8, {"compression": "packbits"}),
        (np.uint16, {"compression": "zstd", "tile": (32, 16), "byteorder": ">"}),
        (np.uint32, {"compression": "lzma"}),
        (np.int32, {}),
        (np.float32, {"compression": "zlib", "predictor": True}),
        (np.float32, {"byteorder": ">"}),
    ],
)
def test_every_kind_of_tiff_comes_back_exactly(tmp_path, dtype, options):
    pixels = picture(dtype)
    found = read_micrograph(write(tmp_path / "a.tif", pixels, **options))
    assert found.pixels.dtype == pixels.dtype
    assert found.pixels.dtype.isnative
    np.testing.assert_array_equal(found.pixels, pixels)
    assert found.calibration.pixel_size_nm == pytest.approx(0.05, rel=1e-6)
    assert found.calibration.pixel_size_source == "tags"


def test_other_floats_become_float32(tmp_path):
    for dtype in (np.float16, np.float64):
        found = read_micrograph(write(tmp_path / "a.tif", picture(dtype)))
        assert found.pixels.dtype == np.float32
        np.testing.assert_array_equal(found.pixels, picture(np.float32))


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_rgb_with_equal_channels_is_grey(tmp_path, planar):
    grey = picture(np.uint8)
    stack = np.stack([grey] * 3, -1 if planar == "contig" else 0)
    path = write(tmp_path / "a.tif", stack, photometric="rgb", planarconfig=planar)
    found = read_micrograph(path)
    np.testing.assert_array_equal(found.pixels, grey)
    assert any("grey" in w for w in found.warnings)


def test_white_is_zero_is_inverted_with_a_warning(tmp_path):
    path = write(tmp_path / "a.tif", picture(np.uint8), photometric="miniswhite")
    found = read_micrograph(path)
    np.testing.assert_array_equal(found.pixels, 255 - picture(np.uint8))
    assert any("white-is-zero" in w for w in found.warnings)


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (picture(np.uint8), {}),
        (picture(np.uint16) * 300, {}),
    ],
)
def test_png_comes_back_exactly(tmp_path, pixels, options):
    Image.fromarray(pixels).save(tmp_path / "a.png", **options)
    found = read_micrograph(tmp_path / "a.png", pixel_size_nm=0.5)
    np.testing.assert_array_equal(found.pixels, pixels)
    assert (found.calibration.pixel_size_nm, found.calibration.pixel_size_source) == (0.5, "option")


def test_interlaced_png_comes_back_exactly(tmp_path):
    # Adam7, 8-bit grey, filter 0 on every row of every pass.
    pixels, body = picture(np.uint8), b""
    for y0, x0, dy, dx in (
        (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
        (1, 0, 2, 1),
    ):  # fmt: skip
        body += b"".join(b"\0" + row.tobytes() for row in pixels[y0::dy, x0::dx])
    path = saved(tmp_path / "a.png", png(body=zlib.compress(body), interlace=1))
    np.testing.assert_array_equal(read_micrograph(path, pixel_size_nm=1).pixels, pixels)


def test_jpeg_is_read_with_a_warning(tmp_path):
    Image.fromarray(picture(np.uint8)).save(tmp_path / "a.jpg")
    found = read_micrograph(tmp_path / "a.jpg", uncalibrated=True)
    assert found.pixels.shape == (H, W)
    assert any("lossy" in w for w in found.warnings)
    assert not found.calibration.calibrated


def test_npy_in_both_orders(tmp_path):
    for order in "CF":
        np.save(tmp_path / "a.npy", np.array(picture(">u2"), order=order))
        found = read_micrograph(tmp_path / "a.npy", pixel_size_nm=1)
        np.testing.assert_array_equal(found.pixels, picture())


def test_a_page_of_a_stack(tmp_path):
    stack = np.stack([picture(seed=i) for i in range(3)])
    path = write(tmp_path / "a.tif", stack, photometric="minisblack")
    np.testing.assert_array_equal(read_micrograph(path, page=2).pixels, stack[2])
    refused(path, "E_MULTIPAGE")
    refused(path, "E_MULTIPAGE", page=3)
    refused(path, "E_MULTIPAGE", page=-1)


def test_a_thumbnail_is_no_page(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as out:
        out.write(picture(), **per_cm(0.05))
        out.write(picture()[::2, ::2], subfiletype=1)
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tif").pixels, picture())


def test_content_decides_not_the_name(tmp_path):
    write(tmp_path / "a.tif")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.tif").read_bytes())
    assert read_micrograph(tmp_path / "a.png").calibration.pixel_size_nm == pytest.approx(0.05)


def test_many_pixels_at_the_highest_value_are_a_warning(tmp_path):
    pixels = picture(np.uint8)
    pixels[:5] = 255
    found = read_micrograph(write(tmp_path / "a.tif", pixels))
    assert any("highest value" in w for w in found.warnings)


# ------------------------------------------------------------------ pixel size


@pytest.mark.parametrize(
    ("unit", "nm"),
    [
        ("nm", 1), ("micron", 1e3), ("um", 1e3), ("µm", 1e3), ("μm", 1e3), ("\\u00B5m", 1e3),
        ("A", 0.1), ("Å", 0.1), ("Angstrom", 0.1), ("angstroms", 0.1), ("pm", 1e-3),
        ("cm", 1e7), ("mm", 1e6), ("m", 1e9), ("Nanometers", 1), ("inch", 2.54e7),
    ],
)  # fmt: skip
def test_units(unit, nm):
    assert nm_per(unit, "a.tif") == pytest.approx(nm)


@pytest.mark.parametrize("unit", ["1/nm", "1 / Å", "nm^-1", "nm-1", "nm⁻¹", "/nm", "1/A"])
def test_reciprocal_units_are_refused(unit):
    with pytest.raises(CalibrationRefused) as caught:
        nm_per(unit, "a.tif")
    assert caught.value.code == "E_PX_RECIPROCAL"


@pytest.mark.parametrize("unit", ["", "pixel", "pixels", "px"])
def test_pixels_are_no_length(unit):
    assert nm_per(unit, "a.tif") is None


@given(nm=st.floats(0.0025, 99))  # below, pixels per cm exceed 32 bits
@settings(max_examples=25, deadline=None)
def test_tags_give_the_pixel_size_back(nm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("px")
    for i, options in enumerate((per_cm(nm), imagej(nm), imagej(nm / 1e3, "micron"))):
        tifffile.imwrite(folder / f"{i}.tif", picture(), **options)
        found = read_micrograph(folder / f"{i}.tif").calibration
        assert found.pixel_size_nm == pytest.approx(nm, rel=1e-6)


def ome(tmp_path, pixels_attributes, inner="", name="a.ome.tif", head="", pixels=None):
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?>{head}'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" {pixels_attributes}>{inner}</Pixels></Image></OME>'
    )
    path = tmp_path / name
    pixels = picture() if pixels is None else pixels
    tifffile.imwrite(path, pixels, description=text.encode(), metadata=None)
    return path


@pytest.mark.parametrize(
    ("attributes", "nm"),
    [
        ('PhysicalSizeX="0.05" PhysicalSizeXUnit="nm"', 0.05),
        ('PhysicalSizeX="50" PhysicalSizeXUnit="pm" PhysicalSizeY="5e-05"', 0.05),
        ('PhysicalSizeX="5e-05" PhysicalSizeY="5e-05"', 0.05),  # micrometres by default
        ('PhysicalSizeX="0.5" PhysicalSizeXUnit="Å"', 0.05),
    ],
)  # fmt: skip
def test_ome_pixel_size(tmp_path, attributes, nm):
    found = read_micrograph(ome(tmp_path, attributes))
    assert found.calibration.pixel_size_nm == pytest.approx(nm)


def test_ome_never_opens_a_neighbour(tmp_path):
    attributes = 'PhysicalSizeX="0.05" PhysicalSizeXUnit="nm"'
    secret = write(tmp_path / "secret.tif", picture(seed=9))
    inner = '<TiffData IFD="0"><UUID FileName="{}">urn:uuid:1</UUID></TiffData>'
    away = ome(tmp_path, attributes, inner.format(f"../{tmp_path.name}/{secret.name}"))
    refused(away, "E_PATH")
    two = inner.format("a.ome.tif") + inner.format(secret.name)
    refused(ome(tmp_path, attributes, two), "E_MULTIPAGE")
    # One name only is the file itself, under the name that it had.
    found = read_micrograph(ome(tmp_path, attributes, inner.format(secret.name)))
    np.testing.assert_array_equal(found.pixels, picture())


def test_ome_entities_are_refused(tmp_path):
    head = '<!DOCTYPE OME [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    refused(ome(tmp_path, 'PhysicalSizeX="&b;"', head=head), "E_METADATA")
    refused(ome(tmp_path, 'PhysicalSizeX="1'), "E_METADATA")


def test_two_ome_images_of_different_scale_conflict(tmp_path):
    more = '</Pixels></Image><Image ID="Image:1"><Pixels PhysicalSizeX="7" PhysicalSizeXUnit="nm">'
    path = ome(tmp_path, 'PhysicalSizeX="5" PhysicalSizeXUnit="nm"', more)
    refused(path, "E_PX_CONFLICT")


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({282: (5, [(0, 1)]), 283: (5, [(0, 1)])}, "E_PX_INVALID"),
        ({282: (5, [(0, 0)]), 283: (5, [(0, 0)])}, "E_PX_INVALID"),
        ({282: (5, [(5, 0)]), 283: (5, [(5, 0)])}, "E_PX_INVALID"),
        ({282: (10, [(-2, 1)]), 283: (10, [(-2, 1)])}, "E_PX_INVALID"),
        ({282: (12, [float("nan")]), 283: (12, [float("nan")])}, "E_PX_INVALID"),
        ({282: (12, [float("inf")]), 283: (12, [float("inf")])}, "E_PX_INVALID"),
        ({282: (5, [(72, 1)]), 283: (5, [(72, 1)]), 296: (3, [2])}, "E_PX_INVALID"),
        ({282: (5, [(300, 1)]), 283: (5, [(300, 1)])}, "E_PX_INVALID"),
        ({296: (3, [9])}, "E_PX_INVALID"),
        ({296: (3, [1])}, "E_PX_MISSING"),
        ({283: (5, [(20_000_000, 1)])}, "E_PX_ANISO"),
    ],
)
def test_resolution_tags_that_are_no_calibration(tmp_path, tags, code):
    path = saved(tmp_path / "a.tif", tiff(tags))
    refused(path, code, CalibrationRefused)
    if code == "E_PX_ANISO":
        refused(path, code, pixel_size_nm=0.05)
    else:  # another source may speak instead
        found = read_micrograph(path, pixel_size_nm=0.05)
        assert found.calibration.pixel_size_source == "option"
        assert not read_micrograph(path, uncalibrated=True).calibration.calibrated
        assert bool(found.warnings) == (code == "E_PX_INVALID")


@pytest.mark.parametrize("unit", ["1/nm", "furlong"])
def test_imagej_units_that_are_no_length(tmp_path, unit):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture(), **imagej(unit=unit))
    refused(path, "E_PX_RECIPROCAL" if "/" in unit else "E_PX_INVALID")


def test_imagej_in_inches_is_an_editors_default(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", picture(), **imagej(1 / 72, "inch"))
    refused(tmp_path / "a.tif", "E_PX_INVALID")


def test_imagej_description_against_the_tag(tmp_path):
    # 0.05 nm by the description, 50 nm by the tag (200000 per cm): one of them is wrong.
    text = "ImageJ=1.53t\nunit=nm\n"
    tifffile.imwrite(
        tmp_path / "a.tif",
        picture(),
        description=text,
        metadata=None,
        resolution=(2e5, 2e5),
        resolutionunit="CENTIMETER",
    )
    refused(tmp_path / "a.tif", "E_PX_INVALID", uncalibrated=False)  # 5e-6 nm is not plausible
    tifffile.imwrite(
        tmp_path / "b.tif",
        picture(),
        description="ImageJ=1.53t\nunit=micron\n",
        metadata=None,
        resolution=(2e5, 2e5),
        resolutionunit="CENTIMETER",
    )
    refused(tmp_path / "b.tif", "E_PX_CONFLICT")


def test_physical_size_in_png(tmp_path):
    chunk = (b"pHYs", struct.pack(">IIB", 2_000_000_000, 2_000_000_000, 1))
    found = read_micrograph(saved(tmp_path / "a.png", png(extra=[chunk])))
    assert found.calibration.pixel_size_nm == pytest.approx(0.5)
    dpi = (b"pHYs", struct.pack(">IIB", 2835, 2835, 1))
    refused(saved(tmp_path / "b.png", png(extra=[dpi])), "E_PX_INVALID")
    ratio = (b"pHYs", struct.pack(">IIB", 1, 1, 0))
    refused(saved(tmp_path / "c.png", png(extra=[ratio])), "E_PX_MISSING")


def test_sidecar_speaks_for_a_silent_file(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture(), metadata=None)
    sidecar = {"pixel_size_nm": 0.365, "thickness_nm": 45, "thickness_sd_nm": 0, "operator": "x"}
    (tmp_path / "a.json").write_text("\ufeff" + json.dumps(sidecar), encoding="utf-8")
    found = read_micrograph(path).calibration
    assert (found.pixel_size_nm, found.pixel_size_source) == (0.365, "sidecar")
    assert (found.thickness_nm, found.thickness_sd_nm) == (45, 0)
    refused(path, "E_PX_MISSING", sidecar=False)


@pytest.mark.parametrize(
    "text",
    [
        "[0.05]", '"0.05"', "0.05", "null", "{", '{"pixel_size_nm": NaN}',
        '{"pixel_size_nm": Infinity}', '{"pixel_size_nm": 1e999}', '{"pixel_size_nm": -0.05}',
        '{"pixel_size_nm": 0}', '{"pixel_size_nm": true}', '{"pixel_size_nm": null}',
        '{"pixel_size_nm": [0.05]}', '{"pixel_size_nm": "0.05"}', '{"pixel_size_nm": 1e6}',
        '{"pixel_size_nm": 1%s}' % ("0" * 400), '{"pixel_size_nm": 0.05, "pixel_size_nm": 0.5}',
        '{"pixel_size": 0.05}', '{"pixel_size_um": 5e-5}', "[" * 100_000,
        '{"pixel_size_nm": 0.05, "thickness_nm": "45"}',
        '{"pixel_size_nm": 0.05, "ignore_tags": 1}',
    ],
)  # fmt: skip
def test_a_sidecar_is_typed_strictly(tmp_path, text):
    tifffile.imwrite(tmp_path / "a.tif", picture(), metadata=None)
    (tmp_path / "a.json").write_text(text)
    error = refused(tmp_path / "a.tif", "E_PX_INVALID", CalibrationRefused)
    assert error.subject == "a.json"
    assert "pixel size" in error.message


def test_a_sidecar_in_utf16_or_empty_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", picture(), metadata=None)
    (tmp_path / "a.json").write_text('{"pixel_size_nm": 0.05}', encoding="utf-16")
    refused(tmp_path / "a.tif", "E_PX_INVALID")
    (tmp_path / "a.json").write_bytes(b"")
    refused(tmp_path / "a.tif", "E_EMPTY")


def test_anothers_json_is_left_alone(tmp_path):
    (tmp_path / "a.json").write_text('{"shapes": [], "imagePath": "a.tif"}')
    assert read_micrograph(write(tmp_path / "a.tif")).calibration.pixel_size_source == "tags"


def test_sources_must_agree_within_one_percent(tmp_path):
    path = write(tmp_path / "a.tif")
    refused(path, "E_PX_CONFLICT", pixel_size_nm=0.06)
    found = read_micrograph(path, pixel_size_nm=0.0502).calibration
    assert (found.pixel_size_nm, found.pixel_size_source) == (0.0502, "option")
    (tmp_path / "a.json").write_text('{"pixel_size_nm": 0.5}')
    refused(path, "E_PX_CONFLICT")
    (tmp_path / "a.json").write_text('{"pixel_size_nm": 0.5, "ignore_tags": true}')
    wrong_tags = read_micrograph(path)
    assert wrong_tags.calibration.pixel_size_nm == 0.5
    assert any("ignored" in w for w in wrong_tags.warnings)


def test_uncalibrated_does_not_hide_a_known_pixel_size(tmp_path):
    found = read_micrograph(write(tmp_path / "a.tif"), uncalibrated=True)
    assert found.calibration.calibrated


@pytest.mark.parametrize("nm", [0, -1, float("nan"), float("inf"), 1e6])
def test_an_impossible_option_is_refused(tmp_path, nm):
    tifffile.imwrite(tmp_path / "a.tif", picture(), metadata=None)
    refused(tmp_path / "a.tif", "E_PX_INVALID", pixel_size_nm=nm)


# ------------------------------------------------------------------ bad pictures


def png(body=None, *, bits=8, colour=0, interlace=0, extra=(), flip_crc=False, size=(W, H)):
    def chunk(kind, data, bad=0):
        checksum = zlib.crc32(kind + data) ^ bad
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    if body is None:
        body = zlib.compress(b"".join(b"\0" + r.tobytes() for r in picture(np.uint8)))
    head = struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, interlace)
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    out += b"".join(chunk(*e) for e in extra)
    return out + chunk(b"IDAT", body, int(flip_crc)) + chunk(b"IEND", b"")


def good_tiff(**options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, picture(), **{**per_cm(0.05), **options})
    return bytearray(stream.getvalue())


def data_of(content):
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages[0]
        return page.dataoffsets[-1], page.databytecounts[-1]


def damaged(compression, how):
    content = good_tiff(compression=compression)
    start, count = data_of(content)
    if how == "flip":
        content[start + count // 2] ^= 4
    elif how == "zeros":
        content[start + count // 2 : start + count] = bytes(count - count // 2)
    else:
        del content[start + count // 2 :]
    return bytes(content)


def jpeg(mode="L", cut=None, **options):
    stream = io.BytesIO()
    image = Image.fromarray(picture(np.uint8)).convert(mode)
    image.save(stream, "JPEG", **options)
    return stream.getvalue()[:cut]


def gif():
    stream = io.BytesIO()
    Image.fromarray(picture(np.uint8)).save(stream, "GIF")
    return stream.getvalue()


def palette_png():
    stream = io.BytesIO()
    Image.fromarray(picture(np.uint8)).quantize(16).save(stream, "PNG")
    return stream.getvalue()


def rgba(**options):
    grey = picture(np.uint8)
    pixels = np.stack([grey, grey, grey, grey], -1)
    return bytes(_tiff_of(pixels, photometric="rgb", extrasamples=["unassalpha"], **options))


def _tiff_of(pixels, **options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **{**per_cm(0.05), **options})
    return stream.getvalue()


def at(pixels, value):
    pixels[3, 4] = value
    return pixels


TWO_STRIPS = {278: (4, [24]), 273: (4, [8, 8 + 24 * W]), 279: (4, [24 * W, 24 * W])}

BAD_PICTURES = {
    # not a picture
    "gif": (gif, "E_UNREADABLE"),
    "three bytes": (lambda: b"II*", "E_UNREADABLE"),
    "only the magic": (lambda: b"II*\0", "E_TRUNCATED"),
    "bigtiff header cut": (lambda: b"II+\0\x08\0\0\0\x10", "E_TRUNCATED"),
    "no page": (lambda: b"II*\0" + bytes(20), "E_UNREADABLE"),
    # structure
    "loop of pages": (lambda: tiff(next_ifd="self"), "E_CORRUPT"),
    "next page beyond the end": (lambda: tiff(next_ifd=10**9), "E_TRUNCATED"),
    "65535 tags": (lambda: tiff()[:8] + b"\xff\xff" + bytes(99), "E_TRUNCATED"),
    "zero width": (lambda: tiff({256: (4, [0])}), "E_CORRUPT"),
    "no width": (lambda: tiff(drop=[256]), "E_CORRUPT"),
    "1000 samples": (lambda: tiff({277: (3, [1000])}), "E_CHANNELS"),
    "zero samples": (lambda: tiff({277: (3, [0])}), "E_CORRUPT"),
    "tiles of nothing": (
        lambda: tiff({322: (4, [0]), 323: (4, [0]), 324: (4, [8]), 325: (4, [9])}),
        "E_CORRUPT",
    ),
    "giant tiles": (
        lambda: tiff({322: (4, [2**31]), 323: (4, [2**31]), 324: (4, [8]), 325: (4, [9])}),
        "E_TOO_LARGE",
    ),
    "claim out of nothing": (
        lambda: tiff({256: (4, [16000]), 257: (4, [16000]), 259: (3, [8]), 278: (4, [16000])}),
        "E_TOO_LARGE",
    ),
    "no strips": (lambda: tiff(drop=[273]), "E_TRUNCATED"),
    "strip at zero": (lambda: tiff({273: (4, [0])}), "E_TRUNCATED"),
    "strip of nothing": (lambda: tiff({259: (3, [8]), 279: (4, [0])}), "E_TOO_LARGE"),
    "second strip of nothing": (
        lambda: tiff({**TWO_STRIPS, 259: (3, [8]), 279: (4, [24 * W, 0])}),
        "E_TRUNCATED",
    ),
    "strips too few": (lambda: tiff({278: (4, [8])}), "E_TRUNCATED"),
    "strip offsets as fractions": (lambda: tiff({273: (5, [(8, 1)])}), "E_CORRUPT"),
    "width as a float": (lambda: tiff({256: (12, [float("nan")])}), "E_CORRUPT"),
    "strips of no rows": (lambda: tiff({278: (4, [0])}), "E_CORRUPT"),
    "strip beyond the end": (
        lambda: tiff({**TWO_STRIPS, 273: (4, [8, 10**9])}),
        "E_TRUNCATED",
    ),
    "ccitt": (lambda: tiff({259: (3, [4])}), "E_UNREADABLE"),
    "unknown compression": (lambda: tiff({259: (3, [12345])}), "E_UNREADABLE"),
    "not deflate at all": (lambda: tiff({259: (3, [8])}), "E_CORRUPT"),
    "predictor unknown": (
        lambda: tiff(
            {259: (3, [8]), 317: (3, [99]), 279: (4, [len(zlib.compress(bytes(H * W)))])},
            zlib.compress(bytes(H * W)),
        ),
        "E_CORRUPT",
    ),
    # codecs
    "deflate flip": (lambda: damaged("zlib", "flip"), "E_CORRUPT"),
    "deflate zeros": (lambda: damaged("zlib", "zeros"), "E_CORRUPT"),
    "lzw zeros": (lambda: damaged("lzw", "zeros"), "E_CORRUPT"),
    "lzw cut": (lambda: damaged("lzw", "cut"), "E_TRUNCATED"),
    "zstd zeros": (lambda: damaged("zstd", "zeros"), "E_CORRUPT"),
    # samples
    "bool": (lambda: _tiff_of(picture() > 99), "E_DTYPE"),
    "complex": (lambda: _tiff_of(picture(np.complex64)), "E_DTYPE"),
    "int64": (lambda: _tiff_of(picture(np.int64)), "E_DTYPE"),
    "format void": (lambda: tiff({339: (3, [4])}), "E_DTYPE"),
    "12 bit": (lambda: tiff({258: (3, [12])}), "E_DTYPE"),
    "float64 overflow": (lambda: _tiff_of(at(picture(np.float64), 1e300)), "E_NONFINITE"),
    "infinity": (lambda: _tiff_of(at(picture(np.float32), -np.inf)), "E_NONFINITE"),
    "all nan": (lambda: _tiff_of(np.full((H, W), np.nan, np.float32)), "E_NONFINITE"),
    "constant float": (lambda: _tiff_of(np.full((H, W), 0.5, np.float32)), "E_CONSTANT"),
    "31 rows": (lambda: _tiff_of(picture()[:31]), "E_TOO_SMALL"),
    # channels
    "rgba with alpha": (rgba, "E_CHANNELS"),
    "planar rgb": (
        lambda: _tiff_of(
            np.stack([picture(np.uint8, s) for s in range(3)]),
            photometric="rgb",
            planarconfig="separate",
        ),
        "E_CHANNELS",
    ),
    "cmyk tiff": (
        lambda: _tiff_of(np.stack([picture(np.uint8)] * 4, -1), photometric="separated"),
        "E_CHANNELS",
    ),
    "cmyk jpeg": (lambda: jpeg("CMYK"), "E_CHANNELS"),
    "palette png": (palette_png, "E_PALETTE"),
    # stacks
    "imagej stack without pages": (
        lambda: _tiff_of(picture(), description="ImageJ=1.53\nimages=7\n", metadata=None),
        "E_MULTIPAGE",
    ),
    "truncated stack": (
        lambda: _tiff_of(
            picture(), description='{"shape": [5, 48, 64], "truncate": true}', metadata=None
        ),
        "E_MULTIPAGE",
    ),
    "npy stack": (lambda: _npy(np.zeros((5, H, W))), "E_MULTIPAGE"),
    "npy line": (lambda: _npy(np.zeros(99)), "E_MULTIPAGE"),
    # metadata
    "huge description": (
        lambda: _tiff_of(picture(), description="x" * 9_000_000, metadata=None),
        "E_METADATA",
    ),
    # png
    "png bad checksum": (lambda: png(flip_crc=True), "E_CORRUPT"),
    "png cut": (lambda: png()[:-100], "E_TRUNCATED"),
    "png without end": (lambda: png()[:-12], "E_TRUNCATED"),
    "png short data": (lambda: png(zlib.compress(bytes(100))), "E_CORRUPT"),
    "png not deflate": (lambda: png(b"x" * 100), "E_CORRUPT"),
    "png claims too much": (lambda: png(size=(2**31 - 1, 2**31 - 1)), "E_TOO_LARGE"),
    "png bomb": (lambda: png(size=(16000, 16000)), "E_TOO_LARGE"),
    "png zero": (lambda: png(size=(0, H)), "E_CORRUPT"),
    "png 3 bit": (lambda: png(bits=3), "E_CORRUPT"),
    "apng": (lambda: png(extra=[(b"acTL", bytes(8))]), "E_MULTIPAGE"),
    # jpeg
    "jpeg cut": (lambda: jpeg(cut=900), "E_CORRUPT"),
    "jpeg header only": (lambda: jpeg(cut=30), "E_CORRUPT"),
    "jpeg progressive cut": (lambda: jpeg(cut=1500, progressive=True), "E_CORRUPT"),
    # npy
    "npy cut": (lambda: _npy(picture())[:-10], "E_TRUNCATED"),
    "npy claim": (
        lambda: _npy(picture()).replace(b"(48, 64)", b"(4800000, 64)")[:300],
        "E_TOO_LARGE",
    ),
    "npy structured": (lambda: _npy(np.zeros((H, W), "u1,u2")), "E_DTYPE"),
    "npy text": (lambda: _npy(np.full((H, W), "a")), "E_DTYPE"),
    "npy bool": (lambda: _npy(picture() > 99), "E_DTYPE"),
    "npy complex": (lambda: _npy(picture(np.complex128)), "E_DTYPE"),
    "npy nan": (lambda: _npy(at(picture(np.float64), np.nan)), "E_NONFINITE"),
    "npy bad header": (lambda: _npy(picture()).replace(b"'descr'", b"'desc!'"), "E_CORRUPT"),
    "npy code in header": (
        lambda: _npy(picture()).replace(b"'<u2'", b"eval(1)"),
        "E_CORRUPT",
    ),
    "npy header of an open string": (
        lambda: _npy(picture()).replace(b"'fortran_order'", b"(fortran_order'"),
        "E_CORRUPT",
    ),
    "npy version 9": (lambda: b"\x93NUMPY\x09\0" + bytes(200), "E_UNREADABLE"),
}


def _npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_bad_pictures_are_refused(tmp_path, name):
    make, code = BAD_PICTURES[name]
    path = saved(tmp_path / "bad.tif", make())
    error = refused(path, code, MicrographRefused, uncalibrated=True)
    assert error.subject == "bad.tif"


def test_a_uniform_alpha_over_grey_is_dropped(tmp_path):
    grey = picture(np.uint8)
    pixels = np.stack([grey, grey, grey, np.full_like(grey, 255)], -1)
    path = write(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_micrograph(path).pixels, grey)


def test_max_pixels_is_a_limit_of_the_callers(tmp_path):
    path = write(tmp_path / "a.tif")
    refused(path, "E_TOO_LARGE", max_pixels=H * W - 1)
    assert read_micrograph(path, max_pixels=H * W).pixels.shape == (H, W)


def test_special_files_are_refused_without_hanging(tmp_path):
    (tmp_path / "loop.tif").symlink_to("loop.tif")
    os.mkfifo(tmp_path / "pipe.tif")
    (tmp_path / "zero.tif").symlink_to("/dev/zero")
    (tmp_path / "dir.tif").mkdir()
    for name in ("loop", "pipe", "zero", "dir", "missing"):
        refused(tmp_path / f"{name}.tif", "E_IO")
    refused(tmp_path / "a\0b.tif", "E_IO")
    refused(tmp_path / ("x" * 300), "E_IO")
    os.mkfifo(tmp_path / "a.json")
    refused(write(tmp_path / "a.tif"), "E_IO")


def test_strange_names_stay_on_one_line(tmp_path):
    name = "a\nERROR fake \u202e.tif"
    (tmp_path / name).write_bytes(b"")
    assert "\n" not in str(refused(tmp_path / name, "E_EMPTY"))
    assert read_micrograph(write(tmp_path / "дефект 欠陷.tif")).name == "дефект 欠陷.tif"


def test_microscope_formats_name_the_extra(tmp_path):
    path = saved(tmp_path / "a.dm4", struct.pack(">IQI", 4, 84, 1) + bytes(100))
    error = refused(path, "E_UNREADABLE")
    assert "defectops[microscope]" in error.message
    refused(saved(tmp_path / "b.dm4", struct.pack(">IQI", 4, 900, 1) + bytes(99)), "E_TRUNCATED")
    refused(saved(tmp_path / "c.dm3", struct.pack(">IIII", 9, 0, 0, 0) + bytes(9)), "E_UNREADABLE")


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_random_damage_is_refused_or_leaves_a_picture(data, tmp_path_factory):
    makers = [
        lambda: bytes(good_tiff()),
        lambda: bytes(good_tiff(compression="zlib", tile=(16, 16))),
        lambda: bytes(good_tiff(compression="lzw", bigtiff=True)),
        lambda: bytes(_tiff_of(picture(), **imagej())),
        png,
        jpeg,
        lambda: _npy(picture()),
    ]
    content = bytearray(data.draw(st.sampled_from(makers))())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "word"]))
        if kind == "flip":
            content[place] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "word":
            content[place : place + 4] = data.draw(st.binary(min_size=4, max_size=4))
        else:
            content = content[: max(1, place)]
    path = saved(tmp_path_factory.mktemp("fuzz") / "f.tif", bytes(content))
    try:
        found = read_micrograph(path, uncalibrated=True)
    except InputRefused as error:
        assert "\n" not in str(error)  # noqa: PT017 - a refusal is one of two good ends
    else:
        assert found.pixels.ndim == 2
        assert found.pixels.size * 2000 <= 2**34


# ------------------------------------------------------------------ labels


def mask(high=255, dtype=np.uint8):
    found = np.zeros((H, W), dtype)
    found[5:9, 3:30] = high
    return found


@pytest.mark.parametrize(
    "label", [mask(1), mask(255), mask(0), mask(1, np.float32), mask(True, bool), mask(1, np.int32)]
)
def test_binary_labels(tmp_path, label):
    tifffile.imwrite(tmp_path / "a.tif", label)
    found = read_label(tmp_path / "a.tif")
    assert found.dtype == bool
    np.testing.assert_array_equal(found, label != 0)


def test_png_labels_of_one_bit_and_palette(tmp_path):
    Image.fromarray(mask(True, bool)).save(tmp_path / "bit.png")
    np.testing.assert_array_equal(read_label(tmp_path / "bit.png"), mask() > 0)
    image = Image.fromarray(mask(1)).convert("P")
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putdata(mask(1).ravel().tolist())
    image.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_label_values(tmp_path / "palette.png"), mask(1))


def test_white_is_zero_does_not_turn_a_label_inside_out(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", mask(), photometric="miniswhite")
    np.testing.assert_array_equal(read_label(tmp_path / "a.tif"), mask() > 0)


def test_grey_rgb_label(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([mask()] * 3, -1), photometric="rgb")
    np.testing.assert_array_equal(read_label(tmp_path / "a.tif"), mask() > 0)


def label_error(path):
    with pytest.raises(LabelRefused) as caught:
        read_label(path)
    return caught.value.code


@pytest.mark.parametrize(
    ("label", "options", "code"),
    [
        (mask(1) * np.arange(W, dtype=np.uint8), {}, "E_LABEL_VALUES"),
        (at(mask(1), 2), {}, "E_LABEL_VALUES"),
        (at(mask(255), 1), {}, "E_LABEL_VALUES"),
        (at(mask(1, np.float32), np.nan), {}, "E_LABEL_VALUES"),
        (mask(-1, np.int8), {}, "E_LABEL_VALUES"),
        (mask(128), {}, "E_LABEL_VALUES"),
        (np.stack([mask(), mask(0), mask(0)], -1), {"photometric": "rgb"}, "E_LABEL_CHANNELS"),
        (np.stack([mask(), mask()]), {"photometric": "minisblack"}, "E_MULTIPAGE"),
    ],
)  # fmt: skip
def test_labels_that_are_not_binary(tmp_path, label, options, code):
    tifffile.imwrite(tmp_path / "a.tif", label, **options)
    assert label_error(tmp_path / "a.tif") == code


def test_a_rotated_label_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", mask(), extratags=[(274, 3, 1, 6, True)])
    assert label_error(tmp_path / "a.tif") == "E_ORIENTATION"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(mask()).save(tmp_path / "a.png", exif=exif)
    assert label_error(tmp_path / "a.png") == "E_ORIENTATION"


def test_a_labels_resolution_tags_do_not_matter(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", mask(), resolution=(1, 99), metadata=None)
    assert read_label(tmp_path / "a.tif").any()


def test_colour_coded_labels(tmp_path):
    pixels = np.stack([mask(), mask(0), mask(7)], -1)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label_colours(tmp_path / "a.png"), pixels)
    clear = np.dstack([pixels, mask(9)])
    Image.fromarray(clear).save(tmp_path / "c.png")
    np.testing.assert_array_equal(read_label_colours(tmp_path / "c.png"), clear)
    Image.fromarray(mask()).save(tmp_path / "b.png")
    with pytest.raises(LabelRefused, match="E_LABEL_CHANNELS"):
        read_label_colours(tmp_path / "b.png")
