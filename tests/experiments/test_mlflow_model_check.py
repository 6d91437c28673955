"""Model folders: ours pass, and everything that could make MLflow run or install code does not."""

import os

import pytest

from defectops.errors import ModelRefused
from defectops.experiments.mlflow_model import write_mlflow_model
from defectops.experiments.mlflow_model_check import check_mlflow_model, read_card


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "bundle").write_bytes(b"weights")
    return write_mlflow_model(tmp_path / "bundle", tmp_path / "model", card="# Card\n")


def refused(folder, code, said):
    with pytest.raises(ModelRefused, match=said) as caught:
        check_mlflow_model(folder)
    assert caught.value.code == code
    assert str(caught.value).startswith("model")
    assert "\n" not in str(caught.value)


def test_what_we_write_is_ours(folder):
    assert check_mlflow_model(folder) == folder / "model.safetensors"
    assert read_card(folder) == "# Card\n"
    (folder / "MODEL_CARD.md").unlink()
    (folder / "registered_model_meta").write_text("model_name: defectops-voids\n")
    assert check_mlflow_model(folder).read_bytes() == b"weights"
    assert read_card(folder) == ""


def test_other_versions_of_what_it_needs_are_fine(folder):
    text = (folder / "MLmodel").read_text()
    python = next(x for x in text.split("\n") if "python_version" in x).split(": ")[1]
    (folder / "MLmodel").write_text(text.replace(python, "3.14.1"))
    env = (folder / "python_env.yaml").read_text()
    (folder / "python_env.yaml").write_text(env.replace(python, "3.14.1"))
    (folder / "requirements.txt").write_text("torch==9.1\nnumpy==2.0.0rc1\n")
    assert check_mlflow_model(folder)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("defectops.workflows.serving", "evil_loader", "loader_module 'evil_loader' is not allow"),
        ("defectops.workflows.serving", '"evil"', "is not allowed, only defectops"),
        ("loader_module: defectops", "loader_module : os; x: defectops", "is not allowed"),
        ("    data:", "    code: code\n    data:", "line 3: '    code: code' is not allowed"),
        ("data: model.safetensors", "data: ../../x", "line 3"),
        ("flavors:", "flavors: !!python/object/apply:os.system [true]", "line 1"),
        (
            "  python_function:",
            "  sklearn:\n    pickled_model: m.pkl\n  python_function:",
            "line 2",
        ),
        ("signature:", "extra: *anchor\nsignature:", "is not allowed"),
        ("float32", "object", "is not allowed"),
    ],
)
def test_an_mlmodel_of_anybody_else_is_refused(old, new, said, folder):
    text = (folder / "MLmodel").read_text()
    assert old in text
    (folder / "MLmodel").write_text(text.replace(old, new, 1))
    refused(folder, "E_MODEL_UNSAFE", said)


@pytest.mark.parametrize(
    "line",
    ["--index-url http://evil", "evil==1.0", "torch", "torch==1 ; x", "torch @ file:///x", "-e ."],
)
def test_other_requirements_are_refused(line, folder):
    with (folder / "requirements.txt").open("a") as stream:
        stream.write(f"{line}\n")
    refused(folder, "E_MODEL_UNSAFE", "requirements.txt: E_MODEL_UNSAFE: the line")


def test_another_environment_is_refused(folder):
    with (folder / "python_env.yaml").open("a") as stream:
        stream.write("- evil\n")
    refused(folder, "E_MODEL_UNSAFE", "'- evil' is not allowed, '' is written there")


@pytest.mark.parametrize("name", ["code", "python_model.pkl", "conda.yaml", "a\nb", ".hidden"])
def test_anything_else_in_the_folder_is_refused(name, folder):
    (folder / name).mkdir()
    refused(folder, "E_MODEL_UNSAFE", "not allowed in a model folder")


@pytest.mark.parametrize("name", ["MLmodel", "model.safetensors", "requirements.txt"])
def test_links_are_refused_and_pipes_do_not_block(name, folder, tmp_path):
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    refused(folder, "E_MODEL_UNSAFE", "symbolic link")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    refused(folder, "E_MODEL_CORRUPT", "not a regular file")
    (folder / name).unlink()
    refused(folder, "E_MODEL_CORRUPT", "missing")


def test_what_cannot_be_read_is_refused(folder, tmp_path):
    (folder / "MLmodel").write_bytes(b"\xff\xfe")
    refused(folder, "E_MODEL_CORRUPT", "cannot be read")
    (folder / "MLmodel").write_bytes(b"a" * 100_001)
    refused(folder, "E_TOO_LARGE", "limit")
    refused(tmp_path / "model_that_is_not_there", "E_IO", "cannot be read")
