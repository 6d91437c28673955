"""Archives: what is good comes out whole; what is not leaves nothing behind."""

import gzip
import io
import stat
import tarfile
import warnings
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defectops.errors import ArchiveRefused
from defectops.imaging.archives import Limits, is_archive, unpack

FILE, LINK, HARD = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def tar(path, *members, mode="w"):
    with tarfile.open(path, mode) as out:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind in (LINK, HARD):
                info.linkname = content
            data = b"" if info.linkname else content
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return path


def zipped(path, *members):
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        warnings.simplefilter("ignore")  # zipfile warns of names that come twice
        for name, data in members:
            out.writestr(name, data)
    return path


def special(name, mode):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def refused(path, code, limits=None):
    into = path.parent / "out" / "here"
    with pytest.raises(ArchiveRefused) as caught:
        unpack(path, into, limits)
    assert caught.value.code == code, str(caught.value)
    assert caught.value.subject == path.name
    assert not into.exists()
    left = list(into.parent.iterdir()) if into.parent.exists() else []
    assert not left


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar(tmp_path, mode):
    path = tar(
        tmp_path / "a.bin",
        ("d", tarfile.DIRTYPE, b""),
        ("d/b.tif", FILE, b"hello"),
        ("./c", FILE, b""),
        mode=mode,
    )
    assert unpack(path, tmp_path / "out") == [tmp_path / "out" / "c", tmp_path / "out" / "d/b.tif"]
    assert (tmp_path / "out" / "d" / "b.tif").read_bytes() == b"hello"


def test_zip_into_an_empty_folder(tmp_path):
    path = zipped(tmp_path / "a.zip", ("d/", b""), ("d/b.tif", b"hello"))
    (tmp_path / "out").mkdir()
    assert unpack(path, tmp_path / "out") == [tmp_path / "out" / "d" / "b.tif"]
    assert not list(tmp_path.glob(".unpack-*"))


def test_an_archive_of_nothing_is_an_empty_folder(tmp_path):
    assert unpack(zipped(tmp_path / "a.zip"), tmp_path / "out") == []
    assert (tmp_path / "out").is_dir()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    path = zipped(tmp_path / "a.zip", ("b", b"new"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b").write_text("old")
    with pytest.raises(ArchiveRefused, match="not empty"):
        unpack(path, tmp_path / "out")
    assert (tmp_path / "out" / "b").read_text() == "old"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("../a", "E_PATH"),
        ("a/../../b", "E_PATH"),
        ("/a", "E_PATH"),
        ("C:/a", "E_PATH"),
        ("..\\a", "E_PATH"),
        ("a\nb", "E_PATH"),
        ("a" * 250, "E_PATH"),
        ("a/" * 30 + "b", "E_PATH"),
    ],
)
def test_names_that_leave_the_folder(tmp_path, name, code):
    refused(zipped(tmp_path / "a.zip", ("good", b"x"), (name, b"x")), code)
    refused(tar(tmp_path / "a.tar", ("good", FILE, b"x"), (name, FILE, b"x")), code)


@pytest.mark.parametrize(
    ("kind", "data", "code"),
    [
        (LINK, "/etc", "E_PATH"),
        (LINK, "good", "E_PATH"),
        (HARD, "../x", "E_PATH"),
        (tarfile.CHRTYPE, b"", "E_ARCHIVE"),
        (tarfile.BLKTYPE, b"", "E_ARCHIVE"),
        (tarfile.FIFOTYPE, b"", "E_ARCHIVE"),
    ],
)
def test_tar_members_that_are_no_files(tmp_path, kind, data, code):
    refused(tar(tmp_path / "a.tar", ("good", FILE, b"x"), ("odd", kind, data)), code)


@pytest.mark.parametrize(
    ("mode", "code"),
    [(stat.S_IFLNK | 0o777, "E_PATH"), (stat.S_IFIFO, "E_ARCHIVE"), (stat.S_IFCHR, "E_ARCHIVE")],
)
def test_zip_members_that_are_no_files(tmp_path, mode, code):
    refused(zipped(tmp_path / "a.zip", (special("odd", mode), b"/etc/passwd")), code)


@pytest.mark.parametrize("names", [("a", "a"), ("a.TIF", "A.tif"), ("é", "e\u0301"), ("a", "a/b")])
def test_names_that_collide(tmp_path, names):
    refused(zipped(tmp_path / "a.zip", *((n, b"x") for n in names)), "E_DUPLICATE")
    refused(tar(tmp_path / "a.tar", *((n, FILE, b"x") for n in names)), "E_DUPLICATE")


def test_limits_hold_before_anything_is_written(tmp_path):
    path = zipped(tmp_path / "a.zip", *((str(i), b"x" * 100) for i in range(5)))
    refused(path, "E_TOO_LARGE", Limits(members=4))
    refused(path, "E_TOO_LARGE", Limits(nbytes=499))
    assert len(unpack(path, tmp_path / "out2", Limits(members=5, nbytes=500))) == 5


@pytest.mark.slow
def test_bombs(tmp_path):
    zeros = bytes(100 * 2**20)
    refused(zipped(tmp_path / "a.zip", ("a", zeros)), "E_TOO_LARGE")
    refused(tar(tmp_path / "a.tgz", ("a", FILE, zeros), mode="w:gz"), "E_TOO_LARGE")


def test_a_giant_header_is_not_read(tmp_path):
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 50_000_000
    content = info.tobuf(format=tarfile.USTAR_FORMAT) + bytes(1_000_000)
    path = tmp_path / "a.tgz"
    path.write_bytes(gzip.compress(content))
    refused(path, "E_TOO_LARGE")


def test_a_member_longer_than_it_says(tmp_path):
    path = zipped(tmp_path / "a.zip", ("a", b"x" * 5000))
    content = bytearray(path.read_bytes())
    at = content.find(b"PK\1\2")
    content[at + 24 : at + 28] = (100).to_bytes(4, "little")
    path.write_bytes(content)
    # zipfile stops at the size that the directory gives, and its checksum is of more.
    refused(path, "E_ARCHIVE")


def test_encrypted_and_overlapping_members(tmp_path):
    path = zipped(tmp_path / "a.zip", ("a", b"hello"))
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.find(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    refused(path, "E_ARCHIVE")

    path = zipped(tmp_path / "b.zip", ("a", b"x" * 1000), ("b", b"x" * 1000))
    content = bytearray(path.read_bytes())
    second = content.rfind(b"PK\1\2")
    content[second + 42 : second + 46] = bytes(4)  # both point at the first member
    path.write_bytes(content)
    refused(path, "E_ARCHIVE")


def test_damage(tmp_path):
    path = zipped(tmp_path / "a.zip", ("a", bytes(range(256)) * 20))
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[60] ^= 255
    for name, damaged in (("flip", flipped), ("cut", content[:-60]), ("head", content[:20])):
        (tmp_path / f"{name}.zip").write_bytes(bytes(damaged))
        refused(tmp_path / f"{name}.zip", "E_ARCHIVE")
    content = tar(tmp_path / "b.tgz", ("a", FILE, b"x" * 5000), mode="w:gz").read_bytes()
    (tmp_path / "c.tgz").write_bytes(content[:-20])
    refused(tmp_path / "c.tgz", "E_ARCHIVE")
    (tmp_path / "d.tar").write_bytes(b"hello world")
    refused(tmp_path / "d.tar", "E_UNREADABLE")
    (tmp_path / "e.zip").write_bytes(b"")
    refused(tmp_path / "e.zip", "E_EMPTY")


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_random_damage_never_leaves_the_folder(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    make = data.draw(st.sampled_from([zipped, lambda p, *m: tar(p, *((n, FILE, d) for n, d in m))]))
    content = bytearray(make(folder / "a", ("b/c.txt", b"hello" * 9), ("d", b"x")).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    (folder / "a").write_bytes(content)
    try:
        written = unpack(folder / "a", folder / "in" / "side")
    except ArchiveRefused:
        assert not (folder / "in" / "side").exists()
    else:
        assert all(p.resolve().is_relative_to(folder / "in" / "side") for p in written)
    assert {p.name for p in folder.iterdir()} <= {"a", "in"}


@pytest.mark.parametrize(
    ("name", "expected"), [("a.zip", True), ("a.TAR.GZ", True), ("a.tif", False), ("zip", False)]
)
def test_names_of_archives(tmp_path, name, expected):
    assert is_archive(tmp_path / name) == expected
