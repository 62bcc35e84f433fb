"""Every file under configs/ parses; those of experiments and detectors make a detector that takes a step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from dfdet.data.batch import ClipBatch
from dfdet.training.parser import DetectorCLI, config_home
from dfdet.training.setup import prepare

HOME = config_home()
ALL = sorted(p.relative_to(HOME).as_posix() for p in HOME.rglob("*.yaml"))
WHOLE = [name for name in ALL if name.startswith(("experiment/", "detector/"))]


def random_batch(frames: int, size: int) -> ClipBatch:
    count = 2
    return ClipBatch(
        video=torch.randint(0, 256, (count, frames, 3, size, size), dtype=torch.uint8),
        mask=torch.ones(count, frames, dtype=torch.bool),
        label=torch.tensor([0, 1]),
        weight=torch.ones(count),
        item=torch.arange(count),
        track=torch.zeros(count, dtype=torch.int64),
        clip=torch.zeros(count, dtype=torch.int64),
        frames=torch.zeros(count, frames, dtype=torch.int64),
        pad=torch.zeros(count),
        errors=[],
    )


def arguments(name: str) -> list[str]:
    """A detector is put in front where the configuration names none."""
    named = "model" in (yaml.safe_load((HOME / name).read_text()) or {})
    return [*([] if named else ["--model", "srm_cnn"]), "--config", name]


@pytest.mark.parametrize("name", ALL)
def test_it_parses_says_what_it_is_and_has_no_key_that_does_nothing(name):
    text = (HOME / name).read_text()
    assert text.startswith("# ")
    cli = DetectorCLI(arguments(name))
    dumped = yaml.safe_load(cli.dump())

    def held(part: object, whole: object) -> bool:
        if isinstance(part, dict) and isinstance(whole, dict):
            return all(key in whole and held(value, whole[key]) for key, value in part.items())
        return True

    assert held({k: v for k, v in yaml.safe_load(text).items() if k != "model"}, dumped)


@pytest.mark.parametrize("name", WHOLE)
def test_it_makes_a_detector_and_data_that_fit_and_take_a_step(name, monkeypatch):
    torch.manual_seed(0)
    pretrained = "pretrained" in (HOME / name).read_text()
    more = ["--model.pretrained", "false"] if pretrained else []
    model, data = prepare(DetectorCLI([*arguments(name), *more]))
    monkeypatch.setattr(model, "log", lambda *_, **__: None)
    assert data.size
    loss = model.train().training_step(random_batch(data.clip.frames, data.size), 0)
    loss = loss["loss"] if isinstance(loss, dict) else loss
    assert np.isfinite(float(loss.detach()))
    found = model.configure_optimizers()
    optimizer = found["optimizer"] if isinstance(found, dict) else found
    before = [p.detach().clone() for p in model.parameters() if p.requires_grad]
    loss.backward()
    optimizer.step()
    after = [p.detach() for p in model.parameters() if p.requires_grad]
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_configuration_names_detector_and_data(name):
    values = yaml.safe_load((HOME / name).read_text())
    assert "model" in values
    assert Path(name).stem
