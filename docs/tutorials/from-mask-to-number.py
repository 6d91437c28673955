"""From a mask to a number that can be defended: run it cell by cell, or with ``python``.

We draw a foil with voids whose true density we know, look at it as a microscope would, and then
forget the truth. What can be said from the mask alone, and would it have been right?
"""

# %% A foil with a truth
# Voids of 21 +- 4 nm lie at random in a foil of
# 136 nm, seen on 1024 x 1024 pixels of 0.365 nm.
import numpy as np

from defectops.measurement.budget import Alternative, Known, itemised
from defectops.measurement.objects import label_particles
from defectops.measurement.paired import model_quantities
from defectops.measurement.particle_quantities import observe_particles
from defectops.measurement.plausibility import Claims, check
from defectops.measurement.quantities import MeasureOptions
from defectops.measurement.strength import Material, constants_sd, hardening
from defectops.micrograph import Calibration

PIXEL_NM, THICKNESS_NM, DENSITY_M3, SIDE_PX = 0.365, 136.0, 1.7e21, 1024
SIDE_NM, MARGIN_NM = SIDE_PX * PIXEL_NM, 40.0
random = np.random.default_rng(20190905)

volume_m3 = (SIDE_NM + 2 * MARGIN_NM) ** 2 * (THICKNESS_NM + 2 * MARGIN_NM) * 1e-27
count = random.poisson(DENSITY_M3 * volume_m3)
place = random.uniform(-MARGIN_NM, SIDE_NM + MARGIN_NM, (count, 2))
depth = random.uniform(-MARGIN_NM, THICKNESS_NM + MARGIN_NM, count)
diameter = random.normal(21.0, 4.0, count).clip(8.0)

# A void whose centre lies outside the foil shows only the cap that the surface left of it.
outside = np.maximum(np.maximum(-depth, depth - THICKNESS_NM), 0.0)
shown = 2 * np.sqrt(np.maximum((diameter / 2) ** 2 - outside**2, 0.0))

rows, columns = (np.indices((SIDE_PX, SIDE_PX)) + 0.5) * PIXEL_NM
voids = np.zeros((SIDE_PX, SIDE_PX), bool)
for (row, column), d in zip(place, shown, strict=True):
    voids |= (rows - row) ** 2 + (columns - column) ** 2 < (d / 2) ** 2

# %% The naive number
# Count everything, divide by area times thickness: what is usually done.
foil = Calibration(PIXEL_NM, "option", THICKNESS_NM, 10.0)
naive = observe_particles(voids, foil, MeasureOptions(border="all", foil="t"))
plain = {q.quantity: q for q in itemised([naive]).quantities}
print(f"naive:    {plain['number_density'].value:.3g} m^-3")

# %% The unbiased number
# Voids cut by the edge of the picture and by the surfaces of the foil are counted for.
field = observe_particles(voids, foil)
material = Material()
known = Known(
    pixel_size_relative_sd=0.006 / PIXEL_NM,
    constants_relative_sd=constants_sd("voids", material),
)
found = itemised([field], known, lambda given: hardening(given, "voids", material))
value = {q.quantity: q for q in found.quantities}
for name in ("number_density", "mean_diameter", "barrier_hardening"):
    q = value[name]
    print(f"{name:18} {q.value:.3g} {q.unit}, 95 % from {q.low:.3g} to {q.high:.3g}")

# %% Where the uncertainty comes from
# Counting some 40 voids is the largest item: another picture helps, a better scale bar does not.
for item in found.components:
    if item.quantity == "number_density":
        print(f"  {item.component:12} {100 * item.relative_sd:5.1f} %   {item.method[:60]}")

# %% Would another pen have told another story?
# The same voids drawn one pixel wider, as a second labeller might.
wider = voids.copy()
for axis in (0, 1):
    for step in (-1, 1):
        wider |= np.roll(voids, step, axis)
other = Alternative("segmentation", "one pixel wider", [observe_particles(wider, foil)])
redrawn = itemised([field], Known(alternatives=[other]))
edge = {c.quantity: c for c in redrawn.components if c.component == "segmentation"}
print(f"pen:      {100 * edge['mean_diameter'].relative_sd:.1f} % on the mean diameter")

# %% Can it be true?
# A pixel size that is wrong by a factor near ten contradicts the thickness at once.
thin = Claims(
    pixel_size_nm=3.2,
    field_px=(SIDE_PX, SIDE_PX),
    count=float(len(field.objects)),
    number_density_m3=value["number_density"].value,
    diameter_nm=value["mean_diameter"].value,
)
finding = check(thin)[0]
print(f"{finding.verdict}: {finding.sentence}")

# %% The other question: how far is a model from the label?
# A model that misses every fifth void. Its error has an interval of its own, in which the chance
# of this one field cancels. The label outside it: the model differs, not the field.
labels = label_particles(voids)
missed = np.unique(labels[labels > 0])[::5]
predicted = observe_particles(np.where(np.isin(labels, missed), 0, labels), foil)
model = {q.quantity: q for q in model_quantities([field], [predicted])}["number_density"]
print(f"material: {value['number_density'].low:.3g} to {value['number_density'].high:.3g} m^-3")
print(
    f"model:    {model.low:.3g} to {model.high:.3g} m^-3; label {value['number_density'].value:.3g}"
)

# %% Would we have been right?
# The truth that we forgot lies inside the interval for the material.
truth = DENSITY_M3
inside = value["number_density"].low <= truth <= value["number_density"].high
print(f"truth {truth:.3g} m^-3 is {'inside' if inside else 'outside'} the interval")
