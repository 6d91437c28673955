"""One image of a batch measured again from its label image, to compare with its tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from defectops.errors import IntegrityFault
from defectops.imaging.reading import read_label_values
from defectops.measurement.budget import itemised
from defectops.measurement.consequences import consequences
from defectops.measurement.line_fields import observe_lines
from defectops.measurement.objects import ObjectOptions, label_particles
from defectops.measurement.particle_quantities import observe_particles
from defectops.measurement.quantities import MeasureOptions
from defectops.measurement.strength import Material
from defectops.workflows.batch_rows import calibration_of
from defectops.workflows.preparing import read_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from defectops.measurement.pooling import Measurement
    from defectops.measurement.quantities import Quantity
    from defectops.micrograph import Array

_ANY_SIZE = 2**40


class RecordedImage(Protocol):
    """What a batch wrote down about one image."""

    @property
    def path(self) -> Path:
        """Where the picture was."""

    @property
    def record(self) -> Mapping[str, Any]:
        """As `batch_measuring.ImageResult` has it."""

    @property
    def files(self) -> Mapping[str, str]:
        """SHA-256 of what was written, by path in the output folder."""


class Recorded(Protocol):
    """What a batch wrote down about itself."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """As `batch_choosing.Bench.as_settings`."""

    def image(self, name: str) -> RecordedImage:
        """Return one image by its name in the tables."""


@dataclass(frozen=True)
class Choices:
    """How one type was measured in a batch.

    Parameters
    ----------
    defect : str
    shape : {"line", "particle"}
    options : MeasureOptions
    material : Material
    model : mapping
        ``model, version, sha256, threshold`` and more.
    """

    defect: str
    shape: Literal["line", "particle"]
    options: MeasureOptions
    material: Material
    model: Mapping[str, Any]

    def quantities(self, fields: Sequence[Measurement]) -> list[Quantity]:
        """Draw the quantities of measured fields, as the batch did; intervals are narrower."""
        found = itemised(
            list(fields), None, lambda given: consequences(given, self.defect, self.material)
        )
        return found.quantities


def choices_of(settings: Mapping[str, Any], defect: str) -> Choices:
    """Return how a type was measured, from the settings of a batch.

    Raises
    ------
    IntegrityFault
        The batch had no such type.
    """
    model = settings["models"].get(defect)
    if model is None:
        raise IntegrityFault(
            "tables", "E_TRACE", f"they name the type {defect!r}, which this batch did not measure"
        )
    told = dict(model["options"])
    options = MeasureOptions(**{**told, "objects": ObjectOptions(**told["objects"])})
    return Choices(defect, model["shape"], options, Material(**model["material"]), model)


@dataclass(frozen=True, eq=False)
class TracedImage:
    """One image and type of a batch.

    Parameters
    ----------
    out : Path
        The output folder.
    image : RecordedImage
    choices : Choices
    """

    out: Path
    image: RecordedImage
    choices: Choices

    @property
    def record(self) -> Mapping[str, Any]:
        """What was recorded of the image."""
        return self.image.record

    @property
    def label_file(self) -> str:
        """Path of its label image in the output folder."""
        end = f"_{self.choices.defect}.tif"
        known = (n for n in self.image.files if n.startswith("labels/") and n.endswith(end))
        return next(known, "labels/")

    @cached_property
    def labels(self) -> Array:
        """The label image, int32, shape (H, W).

        Raises
        ------
        LabelRefused
            It cannot be read.
        """
        values = read_label_values(self.out / self.label_file, max_pixels=_ANY_SIZE)
        return np.asarray(values, dtype=np.int32)

    @cached_property
    def measured(self) -> Measurement:
        """What the label image shows, measured as the batch measured the prediction.

        Raises
        ------
        LabelRefused
            The label image or the mask of ignored pixels cannot be used.
        """
        ignore = self._ignore()
        scale = calibration_of(self.record)
        if self.choices.shape == "line":
            return observe_lines(self.labels > 0, scale, self.choices.options, ignore)
        mask = self.labels > 0
        apart = label_particles(mask, self.choices.options.objects)
        # Particles of which most is ignored are not in the image: then others keep their numbers.
        plane = mask if np.array_equal(apart, self.labels) else self.labels
        return observe_particles(plane, scale, self.choices.options, ignore)

    def forget_pixels(self) -> None:
        """Let the label image go once it is measured; of many images all would not fit."""
        vars(self).pop("labels", None)

    @property
    def ignore_path(self) -> Path | None:
        """Where the mask of ignored pixels was; None if there was none."""
        place = self.record["masks"].get(self.choices.defect)
        return None if place is None else self.image.path.parent / place

    def _ignore(self) -> Array | None:
        path = self.ignore_path
        return None if path is None else read_mask(path, tuple(self.record["shape"]))
