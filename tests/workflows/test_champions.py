"""The champion that downstream stages load: by digest, or not at all."""

import pytest
import torch
from drawing import VOIDS

from defectops.errors import IntegrityFault, ModelRefused
from defectops.experiments.champions import Champion, places_of, read_champion, write_champion
from defectops.imaging.conditioning import ConditioningOptions
from defectops.learning.bundle import Bundle, save_bundle
from defectops.learning.networks import NetworkSpec, build
from defectops.workflows.champions import champion_and_model, load_champion

TINY = NetworkSpec(width=0.1)


def _bundle(path):
    torch.manual_seed(1)
    kind = {"key": "voids", "shape": "particle", "polarity": "bright", "colour": "#000000"}
    return save_bundle(path, Bundle(TINY, build(TINY, 1).state_dict(), kind, {}, 0.4))


def _promoted(root, sha256):
    places = places_of(root, VOIDS.key)
    write_champion(places, Champion(places.model, 1, "run", sha256, 0.4, "pass"))
    return places


def test_none_without_a_champion_file(tmp_path):
    assert load_champion(tmp_path, VOIDS) is None


def test_none_where_the_file_names_nobody(tmp_path):
    places = places_of(tmp_path, VOIDS.key)
    write_champion(places, Champion(places.model))
    assert load_champion(tmp_path, VOIDS) is None


def test_the_bundle_that_was_promoted_is_loaded(tmp_path):
    sha256 = _bundle(tmp_path / "champions/voids/model.safetensors")
    places = _promoted(tmp_path, sha256)
    assert load_champion(tmp_path, VOIDS).bundle.threshold == 0.4
    champion, model = champion_and_model(tmp_path, VOIDS)
    assert champion == read_champion(places)
    assert model.bundle.threshold == 0.4


def test_another_bundle_in_its_place_is_refused(tmp_path):
    _bundle(tmp_path / "champions/voids/model.safetensors")
    _promoted(tmp_path, "0" * 64)
    with pytest.raises(ModelRefused, match="E_MODEL_HASH"):
        load_champion(tmp_path, VOIDS)


def test_a_missing_bundle_says_how_to_get_it(tmp_path):
    _promoted(tmp_path, "0" * 64)
    with pytest.raises(
        IntegrityFault, match=r"E_NO_BUNDLE.*`dvc pull` or `dvc repro promote@voids`"
    ):
        load_champion(tmp_path, VOIDS)


def test_a_champion_of_other_conditioning_is_refused(tmp_path):
    sha256 = _bundle(tmp_path / "champions/voids/model.safetensors")
    _promoted(tmp_path, sha256)
    with pytest.raises(IntegrityFault, match=r"conditioned otherwise.*promote@voids"):
        load_champion(tmp_path, VOIDS, ConditioningOptions())
