"""Networks in, detectors out: LightningModules with loss, optimiser and scoring; chosen by name or import path."""

from __future__ import annotations

from dataclasses import dataclass

from dfdet.errors import UserError, nearest


@dataclass(frozen=True)
class Card:
    """What ``dfdet models`` says of a detector, without importing it.

    Attributes:
        path: Import path of the LightningModule.
        summary: One line.
        input: What it sees.
        parameters: Trainable parameters with the defaults.
        paper: Where it comes from.
        config: The configuration that reproduces it.
    """

    path: str
    summary: str
    input: str
    parameters: int
    paper: str
    config: str


DETECTORS: dict[str, Card] = {
    "srm_cnn": Card(
        "dfdet.detectors.srm_cnn.SRMCNNDetector",
        "two convolutions on SRM noise residuals; front=rgb is its control",
        "1 frame, 128 px",
        281_537,
        "Hadi et al., Unmasking Deepfakes Based on Deep Learning and Noise Residuals",
        "configs/detector/srm_cnn.yaml",
    ),
    "meso4": Card(
        "dfdet.detectors.mesonet.Meso4Detector",
        "four convolutions, batch norm after ReLU",
        "1 frame, 256 px",
        27_977,
        "Afchar et al., MesoNet, WIFS 2018",
        "configs/detector/meso4.yaml",
    ),
    "mesoinception4": Card(
        "dfdet.detectors.mesonet.MesoInception4Detector",
        "Meso4 with dilated inception blocks in front",
        "1 frame, 256 px",
        28_615,
        "Afchar et al., MesoNet, WIFS 2018",
        "configs/detector/mesoinception4.yaml",
    ),
}


def import_path(name: str) -> str:
    """The import path of a detector: of a name in the table, or the dotted path itself.

    Raises:
        UserError: If the name is not in the table and is no dotted path, with the nearest match.
    """
    if name in DETECTORS:
        return DETECTORS[name].path
    if "." in name:
        return name
    raise UserError(f"no detector is named {name!r}", nearest(name, DETECTORS))
