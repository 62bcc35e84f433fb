"""The registry says of every published file what the reference says of it."""

from __future__ import annotations

import json

import pytest
import torch

from dfdet.data.crop_rule import CropOptions
from dfdet.weights.layouts import LAYOUTS
from dfdet.weights.registry import PUBLISHED, named

DETECTORS = [entry for entry in PUBLISHED.values() if not entry.start]


@pytest.fixture(scope="module")
def reference(sample_media):
    path = sample_media.parent / "reference" / "weights" / "checkpoints.json"
    if not path.is_file():
        pytest.skip(f"no list of published checkpoints at {path}")
    return json.loads(path.read_text())


def entry_of(name, facts):
    """The entry for one of the reference, by the file's name."""
    file = (facts.get("url") or facts.get("file") or name).rsplit("/", 1)[1]
    return next(entry for entry in PUBLISHED.values() if entry.file == file)


@pytest.mark.data
def test_all_24_files_stand_in_it_with_the_facts_of_the_reference(reference):
    assert len(reference) == len(DETECTORS) == 24
    seen = set()
    for name, facts in reference.items():
        entry = entry_of(name, facts)
        seen.add(entry.name)
        assert entry.sha256 == (facts["sha256"] or "")
        if facts.get("url"):
            assert entry.url == facts["url"]
        assert entry.size == facts["size"]
        assert entry.statistics == (tuple(facts["mean"]), tuple(facts["std"]))
        assert entry.licence.replace(" ", "-").startswith(facts["licence"].split(" ")[0])
        turned = facts["positive_class"].startswith("real")
        assert turned == ("turned" in entry.convention)
        if facts["layout"] == "deepfakebench" and facts["net"] in ("xception", "efficientnetb4"):
            assert LAYOUTS[entry.layout].fake == 1
        if "frames" in facts:
            assert entry.data["clip"]["frames"] == facts["frames"]
    assert seen == {entry.name for entry in DETECTORS}


@pytest.mark.data
def test_a_layout_has_as_many_keys_as_the_reference_counts(reference):
    unused = {"icpr2020.efficientnet_b4_st": 2, "icpr2020.efficientnet_b4_att_st": 2, "deepfakebench.xception": 7}
    counts = {entry_of(name, facts).layout: facts["keys"] for name, facts in reference.items() if "keys" in facts}
    assert len(counts) == 10
    for name, keys in counts.items():
        assert len(LAYOUTS[name].wanted()) == keys - unused.get(name, 0)


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_entry_is_whole(name):
    entry = named(name)
    layout = LAYOUTS[entry.layout]
    assert name == entry.name
    assert entry.start == layout.start
    assert entry.url.startswith("https://") or "drive.google.com" in entry.page
    assert all(digit in "0123456789abcdef" for digit in entry.sha256)
    assert entry.licence
    assert entry.source
    assert entry.start or (entry.figures and name.split(".")[0] in layout.detector.lower())
    CropOptions(**entry.data.get("crop", {})).spec(entry.size)
    assert set(entry.data) <= {"clip", "crop", "eval_clips"}


def test_shapes_are_known_without_making_weights():
    state = torch.get_rng_state()
    wanted = LAYOUTS["jadhav.resnext_lstm"].wanted()
    assert wanted["lstm.weight_hh_l0"] == (8192, 2048)
    assert "lstm.bias_hh_l0" not in wanted
    assert torch.equal(torch.get_rng_state(), state)
