"""A bundle as a folder that MLflow can load and serve, without pickle and without inference.

MLflow's own ``log_model`` pickles Python objects or runs the model in a subprocess to guess its
requirements. Here the folder is written as text beside the bundle: ``MLmodel`` names the module
that loads it, the versions it was made with are listed, the signature is stated.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from defectops.atomic import write_text

BUNDLE = "model.safetensors"
CARD = "MODEL_CARD.md"
MLMODEL, PYTHON_ENV, REQUIREMENTS = "MLmodel", "python_env.yaml", "requirements.txt"
LOADER = "defectops.workflows.serving"
PACKAGES = ("defectops", "mlflow", "numpy", "safetensors", "scikit-image", "scipy", "torch")

# One micrograph of any size, intensities as recorded; out comes the probability of the defect.
_PLANE = json.dumps(
    [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, -1]}}],
    separators=(", ", ": "),
)


def write_mlflow_model(
    bundle: Path,
    into: Path,
    loader: str = LOADER,
    packages: Iterable[str] = PACKAGES,
    card: str = "",
) -> Path:
    """Write the folder of an MLflow model around a bundle.

    Parameters
    ----------
    bundle : Path
        The safetensors file; copied as ``model.safetensors``.
    into : Path
        An empty or new folder. The same bundle and versions give the same bytes.
    loader : str
        Importable module with ``_load_pyfunc(path)``; its result's ``predict`` takes one
        micrograph, float32 of shape (H, W), and returns probabilities, float32 of shape (H, W).
    packages : iterable of str
        Distributions that the model needs; pinned to the installed versions.
    card : str
        Model card, written as ``MODEL_CARD.md``; no file if empty.

    Returns
    -------
    Path
        `into`.
    """
    into.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(bundle, into / BUNDLE)
    python = platform.python_version()
    pins = [f"{name}=={pin}" for name, pin in installed(packages).items()]
    write_text(into / REQUIREMENTS, "".join(f"{pin}\n" for pin in pins))
    write_text(into / PYTHON_ENV, python_env_text(python))
    mlflow = installed(["mlflow"]).get("mlflow", "")
    write_text(into / MLMODEL, mlmodel_text(loader, python, mlflow))
    if card:
        write_text(into / CARD, card)
    return into


def installed(packages: Iterable[str]) -> dict[str, str]:
    """Return the public version of each distribution that is installed, in the given order.

    The local part (``+cpu``) is left out: a package index knows no such version.
    """
    found = {}
    for name in packages:
        try:
            found[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            continue
    return found


def mlmodel_text(loader: str, python: str, mlflow: str) -> str:
    """Return the content of ``MLmodel`` for a loader and versions of Python and MLflow."""
    return (
        "flavors:\n"
        "  python_function:\n"
        f"    data: {BUNDLE}\n"
        "    env:\n"
        f"      virtualenv: {PYTHON_ENV}\n"
        f"    loader_module: {loader}\n"
        f"    python_version: {python}\n"
        f"mlflow_version: {mlflow}\n"
        "signature:\n"
        f"  inputs: '{_PLANE}'\n"
        f"  outputs: '{_PLANE}'\n"
    )


def python_env_text(python: str) -> str:
    """Return the content of ``python_env.yaml`` for a version of Python."""
    return f"python: {python}\ndependencies:\n- -r {REQUIREMENTS}\n"
