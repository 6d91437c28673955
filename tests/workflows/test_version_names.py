"""Names of versions: every spelling means the same one, and what is meant is never guessed."""

from pathlib import Path

import pytest

from defectops.defects import register
from defectops.errors import InputRefused
from defectops.experiments.registry import RecordingRegistry
from defectops.workflows.version_names import parse, resolve

DEFECTS = register({"voids": {}, "dislocations": {}})


@pytest.fixture
def registry(tmp_path):
    made = RecordingRegistry()
    for content in (b"first", b"second"):
        path = tmp_path / "model"
        path.write_bytes(content)
        made.submit("defectops-voids", path, "run", {}, {})
    made.set_alias("defectops-voids", "champion", 2)
    return made


@pytest.mark.parametrize(
    "text",
    [
        "voids/2",
        "defectops-voids/2",
        "models:/defectops-voids/2",
        "models:/voids/2",
        "voids@champion",
        "models:/defectops-voids@champion",
    ],
)
def test_all_spellings_mean_one_version(text, registry):
    defect, version = resolve(parse(text), DEFECTS, registry)
    assert (defect.key, version.number) == ("voids", 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("voids/3", "defectops-voids/3: E_VERSION: no such version"),
        ("voids@candidate", "no version of defectops-voids is 'candidate'"),
        ("vods/1", "did you mean 'voids'"),
        ("loops/1", "known: voids, dislocations"),
        ("dislocations/1", "no such version"),
    ],
)
def test_what_is_not_there_is_refused(text, said, registry):
    with pytest.raises(InputRefused, match=said) as caught:
        resolve(parse(text), DEFECTS, registry)
    assert caught.value.code == "E_VERSION"


def test_the_rest_is_a_path_if_something_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("voids").mkdir()
    for name in ("7", "model.safetensors"):
        Path("voids", name).write_bytes(b"")
    Path("link").symlink_to("nowhere")
    for text in ("./voids/7", "voids/model.safetensors", "voids", "link", str(tmp_path)):
        assert parse(text) == Path(text)
    assert parse("voids/7").number == 7


@pytest.mark.parametrize("text", ["", "voids/", "voids/-1", "voids/7/8", "no.safetensors", "a\nb"])
def test_neither_a_version_nor_a_file(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputRefused, match="E_VERSION: neither"):
        parse(text)
