"""What a training is told: a preset, the defaults of params.yaml, and what one defect overrides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from defectops.dataset.patches import PatchOptions
from defectops.errors import SettingsRefused
from defectops.learning.networks import NetworkSpec
from defectops.learning.training import TrainingOptions
from defectops.settings import read, unknown_key

# `quick` is sized for two CPU cores; `paper` is the protocol of Roberts et al. 2019
# (DOI 10.1038/s41598-019-49105-0): 192 patches of 512 x 512 from 48 augmented pairs, batch 16,
# 100 epochs, a decay after ten epochs without a gain, the end at the sixth.
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "epochs": 20,
        "learning_rate": 3e-3,
        "learning_rate_factor": 0.5,
        "plateau_epochs": 6,
        "warm_up_steps": 20,
        "final_decay_epochs": 12,
        "positive_weight": 3.0,
        "positive_weight_decay": 0.9,
        "patch_px": 192,
        "batch": 4,
        "patches_per_epoch": 160,
    },
    "paper": {
        "epochs": 100,
        "learning_rate": 1e-3,
        "learning_rate_factor": 0.5,
        "plateau_epochs": 10,
        "max_decays": 6,
        "dropout": 0.2,
        "positive_weight": 8.0,
        "positive_weight_decay": 0.97,
        "patch_px": 512,
        "batch": 16,
        "augmentation": "exact",
    },
}


@dataclass(frozen=True)
class TrainSettings:
    """A training in full.

    Parameters
    ----------
    preset : str
        Name of the preset the rest was built on.
    threads : int
        CPU threads; 0 takes all. Part of the settings because results depend on it in the last
        bits.
    network, training, patches
        Options of the three modules that a training joins.
    """

    preset: str
    threads: int
    network: NetworkSpec
    training: TrainingOptions
    patches: PatchOptions

    def flat(self) -> dict[str, Any]:
        """Return every setting by its name in params.yaml."""
        rest = asdict(self.network) | asdict(self.training) | asdict(self.patches)
        return {"preset": self.preset, "threads": self.threads, **rest}


def read_train_settings(given: Mapping[str, Any], where: str) -> TrainSettings:
    """Read ``train.default`` overridden by ``train.<defect>`` on top of a preset.

    Parameters
    ----------
    given : mapping
        The section, merged; see `defectops.workflows.parameters`.
    where : str
        Named in errors, for example ``params.yaml: train.voids``.

    Raises
    ------
    SettingsRefused
        Unknown preset or key, or a value out of range.
    """
    given = dict(given)
    preset = given.pop("preset", "quick")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise SettingsRefused(
            where, "E_CONFIG", f"preset must be one of {', '.join(PRESETS)}, got {preset!r}"
        )
    merged = {**PRESETS[preset], **given}
    threads = merged.pop("threads", 0)
    if type(threads) is not int or not 0 <= threads <= 1024:
        raise SettingsRefused(where, "E_CONFIG", f"threads must be 0 to 1024, got {threads!r}")
    owners = (NetworkSpec, TrainingOptions, PatchOptions)
    names = {f.name: owner for owner in owners for f in fields(owner)}
    for key in merged:
        if key not in names:
            raise unknown_key(where, str(key), ["preset", "threads", *names])

    def of(owner: type) -> dict[str, Any]:
        return {k: v for k, v in merged.items() if names[k] is owner}

    return TrainSettings(
        preset=preset,
        threads=threads,
        network=read(of(NetworkSpec), NetworkSpec, where),
        training=read(of(TrainingOptions), TrainingOptions, where),
        patches=read(of(PatchOptions), PatchOptions, where),
    )
