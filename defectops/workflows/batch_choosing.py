"""What a batch is carried out with: models, measuring options, what is told of the images."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectops import settings
from defectops.dataset.manifest import ManifestRow, read_manifest
from defectops.defects import BUILT_IN, DefectType
from defectops.errors import InputRefused, SettingsRefused
from defectops.experiments.provenance import git_tags
from defectops.experiments.registry import BUNDLE
from defectops.imaging.conditioning import ConditioningOptions
from defectops.imaging.raster import MAX_PIXELS
from defectops.learning.inference import LoadedModel, as_model
from defectops.learning.views import ViewOptions
from defectops.measurement.quantities import MeasureOptions
from defectops.measurement.strength import Material
from defectops.workflows.champions import champion_and_model
from defectops.workflows.model_finding import find_model
from defectops.workflows.parameters import Parameters, load_parameters
from defectops.workflows.version_names import parse

if TYPE_CHECKING:
    from defectops.experiments.registry import Registry

ALL = "all"
_SPREAD = (0.0, 0.5)
# Fields of a request that change no value of an image, and those that each model has its own of.
_NO_SETTING = ("defects", "models", "manifest", "accept_out_of_range", "check")
_IN_MODELS = ("options", "mirrored_views")


@dataclass(frozen=True)
class BatchRequest:
    """What the user asks for; see ``defectops quantify --help`` for each.

    `options` replaces fields of `MeasureOptions` and its objects; `mirrored_views` is what section
    ``views`` says if it is None; `thickness` is the foil's and its standard uncertainty, nm;
    `check` is how many doubts are drawn.
    """

    defects: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    manifest: Path | None = None
    pixel_size_nm: float | None = None
    pixel_size_sd_nm: float | None = None
    uncalibrated: bool = False
    thickness: tuple[float, float | None] | None = None
    threshold_spread: float = 0.1
    mirrored_views: bool | None = None
    max_pixels: int = MAX_PIXELS
    accept_out_of_range: bool = False
    check: int = 20
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        low, high = _SPREAD
        sd = self.pixel_size_sd_nm
        problems = (
            (not self.defects and not self.models, "give --defect TYPE, --defect all or --model"),
            (
                self.uncalibrated and self.pixel_size_nm is not None,
                "--uncalibrated contradicts --pixel-size-nm; give one",
            ),
            (
                not low <= self.threshold_spread < high,
                f"--threshold-spread lies between 0 and 0.5, got {self.threshold_spread}",
            ),
            (
                sd is not None and not 0 <= sd < float("inf"),
                f"--pixel-size-sd-nm must be zero or positive, got {sd}",
            ),
        )
        for wrong, sentence in problems:
            if wrong:
                raise SettingsRefused("quantify", "E_USAGE", sentence)


@dataclass(frozen=True, eq=False)
class Segmenter:
    """One model at work: its name in the tables, and how what it finds is measured."""

    defect: DefectType
    model: LoadedModel
    name: str
    version: int | None
    sha256: str
    options: MeasureOptions
    material: Material
    views: ViewOptions

    @property
    def conditioning(self) -> ConditioningOptions:
        """What a micrograph goes through before this model sees it."""
        given = self.model.bundle.conditioning
        return settings.read(given, ConditioningOptions, "model: conditioning")

    def as_settings(self) -> dict[str, Any]:
        """Return whatever decides about its results, as plain values."""
        return {
            "model": self.name,
            "version": self.version,
            "sha256": self.sha256,
            "shape": self.defect.shape,
            "colour": self.defect.colour,
            "threshold": self.model.bundle.threshold,
            "options": asdict(self.options),
            "material": asdict(self.material),
            "mirrored_views": self.views.mirrored,
        }


@dataclass(frozen=True, eq=False)
class Bench:
    """Everything that is the same for each image of a batch.

    Parameters
    ----------
    request : BatchRequest
    segmenters : tuple of Segmenter
        One a type of defect.
    git_commit : str
        Of the project's checkout; ``none`` outside of one, with ``+changes`` if files differ.
    notes : tuple of str
        What the user should know of the choices.
    """

    request: BatchRequest
    segmenters: tuple[Segmenter, ...]
    git_commit: str
    notes: tuple[str, ...] = ()

    def as_settings(self) -> dict[str, Any]:
        """Return whatever decides about results, as plain values."""
        request = asdict(self.request)
        for name in (*_NO_SETTING, *_IN_MODELS):
            del request[name]
        return {
            "defectops": version("defectops"),
            **request,
            "models": {s.defect.key: s.as_settings() for s in self.segmenters},
        }


def choose(root: Path, request: BatchRequest, registry: Callable[[], Registry]) -> Bench:
    """Return models and options for a batch.

    Parameters
    ----------
    root : Path
        Of a project, whose champions, types, options and material are used; or any folder.
    request : BatchRequest
    registry : callable
        Opens the registry that models named by version come from; champions need none.

    Raises
    ------
    InputRefused
        A type without champion (``E_NO_BUNDLE``), an unknown type, a model that cannot be loaded.
    IntegrityFault
        The champion's bundle is not the one that was promoted.
    """
    parameters = Parameters({}, {})
    if (root / settings.PARAMS).exists():
        parameters = load_parameters(root)
    given = [_named_model(text, parameters, request, registry) for text in request.models]
    by_type = {s.defect.key: s for s in given}
    if len(by_type) < len(given):
        raise SettingsRefused("--model", "E_USAGE", "two models of one type of defect; give one")
    notes = []
    for key in _types(parameters, request):
        if key not in by_type:
            found = _champion(root, _type(parameters, key), parameters, request)
            if found is not None:
                by_type[key] = found
            elif ALL in request.defects and key not in request.defects:
                notes.append(f"{key} has no champion and is left out")
            else:
                raise _without_champion(key)
    if not by_type:
        raise _without_champion("any type")
    tags = git_tags(root)
    changes = "+changes" if tags["git.dirty"] == "true" else ""
    return Bench(request, tuple(by_type.values()), tags["git.commit"] + changes, tuple(notes))


def told_by(manifest: Path) -> dict[str, ManifestRow]:
    """Return the rows of a manifest by the absolute path of their image.

    An image lies beside the manifest, or in ``micrographs/`` beside it as in a data folder.
    """
    rows = {}
    for row in read_manifest(manifest):
        beside = manifest.parent / row.image
        inside = manifest.parent / "micrographs" / row.image
        path = inside if inside.is_file() and not beside.is_file() else beside
        rows[str(path.parent.resolve() / path.name)] = row
    return rows


def _types(parameters: Parameters, request: BatchRequest) -> Sequence[str]:
    """Return the types asked for, each once; a model alone needs none."""
    every = list(parameters.defects)
    asked: list[str] = []
    for key in request.defects:
        asked += every if key == ALL else [key]
    if ALL in request.defects and not every:
        raise SettingsRefused(
            "--defect", "E_USAGE", "all types are those of params.yaml, and there is none here"
        )
    return list(dict.fromkeys(asked))


def _type(parameters: Parameters, key: str) -> DefectType:
    known = {**BUILT_IN, **parameters.defects}
    if key not in known:
        raise settings.unknown_key("--defect", key, [ALL, *known])
    return known[key]


def _champion(
    root: Path, defect: DefectType, parameters: Parameters, request: BatchRequest
) -> Segmenter | None:
    found = champion_and_model(root, defect)
    if found is None:
        return None
    champion, model = found
    return _segmenter(defect, model, champion.version, str(champion.sha256), parameters, request)


def _named_model(
    text: str,
    parameters: Parameters,
    request: BatchRequest,
    registry: Callable[[], Registry],
) -> Segmenter:
    """Load a model that is named by version or by path."""
    meant = parse(text)
    if isinstance(meant, Path) and meant.is_dir():
        text = str(meant / BUNDLE)
    types = {**BUILT_IN, **parameters.defects}
    with tempfile.TemporaryDirectory() as folder:
        found = find_model(text, lambda: (types, registry()), Path(folder))
    model = as_model(found.bundle)
    number = None if found.version is None else found.version.number
    own = DefectType(**model.bundle.defect)  # type: ignore[arg-type] # checked when it was loaded
    if request.defects and ALL not in request.defects and own.key not in request.defects:
        raise SettingsRefused(
            "--model", "E_USAGE", f"{text} is a model of {own.key}, which --defect does not name"
        )
    defect = parameters.defects.get(own.key, own)
    return _segmenter(defect, model, number, found.sha256, parameters, request)


def _segmenter(
    defect: DefectType,
    model: LoadedModel,
    number: int | None,
    sha256: str,
    parameters: Parameters,
    request: BatchRequest,
) -> Segmenter:
    options, material, views = MeasureOptions(), Material(), ViewOptions()
    if defect.key in parameters.defects:
        options = parameters.options("quantify", defect.key, MeasureOptions)
        material = parameters.options("material", defect.key, Material)
        views = parameters.options("views", defect.key, ViewOptions)
    inner = {k: v for k, v in request.options.items() if hasattr(options.objects, k)}
    outer = {k: v for k, v in request.options.items() if k not in inner}
    options = replace(options, **outer, objects=replace(options.objects, **inner))
    if request.mirrored_views is not None:
        views = ViewOptions(request.mirrored_views)
    return Segmenter(defect, model, defect.model_name, number, sha256, options, material, views)


def _without_champion(what: str) -> InputRefused:
    return InputRefused(
        "quantify",
        "E_NO_BUNDLE",
        f"no champion of {what} in champions/; promote a model first, or give --model",
    )
