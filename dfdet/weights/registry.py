"""Which weights were published, under which name they go here, and what their input is: facts, and no weights.

Names are ``<detector>.<whose>``, and timm's own for its ImageNet starts. Hashes, sizes and statistics were read in the
projects' code and files (reference weights.md); published figures are their authors', on their own splits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dfdet.errors import UserError, nearest

Numbers = tuple[float, float, float]
IMAGENET: tuple[Numbers, Numbers] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF: tuple[Numbers, Numbers] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
NONE: tuple[Numbers, Numbers] = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Published:
    """One published file.

    Attributes:
        name: What the commands call it.
        layout: How it is spelt; see :mod:`dfdet.weights.layouts`. It names the detector.
        corpus: What it was trained on.
        file: The file's name where it is published.
        url: Where it is fetched; "" where it cannot be by URL, and ``page`` says where it lies.
        sha256: Of the file, all 64 digits or the first few that its authors gave; "" where none are published.
        licence: Of the weights.
        convention: What the file's own output says.
        size: Side of the crop, pixels.
        statistics: Mean and standard deviation that the input is normalised with, of RGB in [0, 1].
        figures: What its authors measured.
        source: Where the figures stand.
        page: The project.
        data: Keys of ``data`` that cut the input as its authors did, as near as our crops come.
        start: It has no classifier of real and fake: something to start from.
    """

    name: str
    layout: str
    corpus: str
    file: str
    url: str
    sha256: str
    licence: str
    convention: str
    size: int
    statistics: tuple[Numbers, Numbers]
    figures: str
    source: str
    page: str
    data: dict[str, Any] = field(default_factory=dict)
    start: bool = False


def named(name: str) -> Published:
    """The entry of this name.

    Raises:
        UserError: There is none, with the nearest.
    """
    if name not in PUBLISHED:
        raise UserError(f"no published weights are called {name!r}", nearest(name, PUBLISHED) or "`dfdet weights list`")
    return PUBLISHED[name]


# MesoNet -----------------------------------------------------------------------------------------------------------

_MESO_HASHES = {
    "Meso4_DF": "036ed30d04ffd9c7506f825b97c86aa64915f5818931da96817b169aad790af5",
    "Meso4_F2F": "bcfda015d217b9f8d6557693edbdf9f4e79cfd22672541968dd0e2954462b5d7",
    "MesoInception_DF": "234586d40058e76ef8b6f27ca4b63c06e31c2a5a69c0d8ba6f30b1468ab7bafa",
    "MesoInception_F2F": "d4533ac8a3197dc35c47405d23d99e888c1d0135e267e03540c7451feaccff3f",
}
_MESO_FIGURES = {
    "Meso4_DF": "image accuracy .891, video .969",
    "Meso4_F2F": "image accuracy raw/c23/c40 .946/.924/.832",
    "MesoInception_DF": "image accuracy .917, video .984",
    "MesoInception_F2F": "image accuracy raw/c23/c40 .968/.934/.813",
}
# Their crop is rotated upright by landmarks; this is the same side without the rotation, for any face detector.
_MESO_DATA = {"crop": {"scale": 1.0}, "eval_clips": 32}


def _mesonet() -> Iterator[Published]:
    page = "https://github.com/DariusAf/MesoNet"
    for file, digest in _MESO_HASHES.items():
        net, _, corpus = file.partition("_")
        detector = {"Meso4": "meso4", "MesoInception": "mesoinception4"}[net]
        yield Published(
            name=f"{detector}.{corpus.lower()}",
            layout=f"mesonet.{detector}",
            corpus={"DF": "the authors' deepfakes", "F2F": "FaceForensics Face2Face"}[corpus],
            file=f"{file}.h5",
            url=f"{page}/raw/master/weights/{file}.h5",
            sha256=digest,
            licence="Apache-2.0",
            convention="one sigmoid, 1 = real (turned)",
            size=256,
            statistics=NONE,
            figures=_MESO_FIGURES[file],
            source="Afchar et al., MesoNet, WIFS 2018",
            page=page,
            data=_MESO_DATA,
        )


# icpr2020dfdc ------------------------------------------------------------------------------------------------------

_ISPL_HASHES = {
    "EfficientNetB4_DFDC": "c9f3663e2116d3356d056a0ce6453e0fc412a8df68ebd0902f07104d9129a09a",
    "EfficientNetB4_FFPP": "93aaad84946829e793d1a67ed7e0309b535e2f2395acb4f8d16b92c0616ba8d7",
    "EfficientNetB4ST_DFDC": "86f0a0701b18694dfb5e7837bd09fa8e48a5146c193227edccf59f1b038181c6",
    "EfficientNetB4ST_FFPP": "ccd016668071be5bf5fff68e446d055441739ec7113fb1a6eee998f08396ae92",
    "EfficientNetAutoAttB4_DFDC": "72ed969b2a395fffe11a0d5bf0a635e7260ba2588c28683630d97ff7153389fc",
    "EfficientNetAutoAttB4_FFPP": "b0c9e9522a7143cf119843e910234be5e30f77dc527b1b427cdffa5ce3bdbc25",
    "EfficientNetAutoAttB4ST_DFDC": "4df0ef7d2f380a5955affa78c35d0942ac1cd65229510353b252737775515a33",
    "EfficientNetAutoAttB4ST_FFPP": "ddb357503b9b902e1b925c2550415604c4252b9b9ecafeb7369dc58cc16e9edd",
    "Xception_DFDC": "e826cdb64d73ef491e6b8ff8fce0e1e1b7fc1d8e2715bc51a56280fff17596f9",
    "Xception_FFPP": "bb119e4913cb8f816cd28a03f81f4c603d6351bf8e3f8e3eb99eebc923aecd22",
}
# AUC of frames, AUC of videos, each trained and tested on its corpus.
_ISPL_FIGURES = {
    "EfficientNetB4_DFDC": (0.8766, 0.9473),
    "EfficientNetB4_FFPP": (0.9382, 0.9664),
    "EfficientNetB4ST_DFDC": (0.8658, 0.9414),
    "EfficientNetB4ST_FFPP": (0.9337, 0.9674),
    "EfficientNetAutoAttB4_DFDC": (0.8642, 0.9430),
    "EfficientNetAutoAttB4_FFPP": (0.9360, 0.9650),
    "EfficientNetAutoAttB4ST_DFDC": (0.8360, 0.9229),
    "EfficientNetAutoAttB4ST_FFPP": (0.9293, 0.9633),
    "Xception_DFDC": (0.8784, 0.9497),
    "Xception_FFPP": (0.9273, 0.9583),
}
_ISPL_DETECTORS = {
    "EfficientNetB4": "efficientnet_b4",
    "EfficientNetB4ST": "efficientnet_b4_st",
    "EfficientNetAutoAttB4": "efficientnet_b4_att",
    "EfficientNetAutoAttB4ST": "efficientnet_b4_att_st",
    "Xception": "xception",
}


def _icpr2020() -> Iterator[Published]:
    for key, digest in _ISPL_HASHES.items():
        net, _, corpus = key.partition("_")
        file = f"{key}_bestval-{digest}.pth"
        frames, videos = _ISPL_FIGURES[key]
        yield Published(
            name=f"{_ISPL_DETECTORS[net]}.icpr_{corpus.lower()}",
            layout=f"icpr2020.{_ISPL_DETECTORS[net]}",
            corpus={"DFDC": "DFDC", "FFPP": "FF++ c23"}[corpus],
            file=file,
            url=f"https://f002.backblazeb2.com/file/icpr2020/{file}",
            sha256=digest,
            licence="GPL-3.0 (the repository's)",
            convention="one logit, 1 = fake",
            size=224,
            statistics=IMAGENET,
            figures=f"AUC on its own corpus: frames {frames:.4f}, videos {videos:.4f}",
            source="Bonettini et al., ICPR 2020; notebooks of polimi-ispl/icpr2020dfdc",
            page="https://github.com/polimi-ispl/icpr2020dfdc",
            data={"crop": {"preset": "icpr"}, "eval_clips": 32},
        )


# DeepfakeBench -----------------------------------------------------------------------------------------------------

_BENCH = {
    "xception": ("xception", "xception_best.pth", (0.9637, 0.7365, 0.7077)),
    "efficientnetb4": ("efficientnet_b4", "effnb4_best.pth", (0.9567, 0.7487, 0.6955)),
    "meso4": ("meso4", "meso4_best.pth", (0.6077, 0.6091, 0.5560)),
    "meso4Inception": ("mesoinception4", "meso4Incep_best.pth", (0.7583, 0.6966, 0.6226)),
}


def _deepfakebench() -> Iterator[Published]:
    page = "https://github.com/SCLBD/DeepfakeBench"
    for detector, file, (own, celeb, dfdc) in _BENCH.values():
        yield Published(
            name=f"{detector}.deepfakebench",
            layout=f"deepfakebench.{detector}",
            corpus="FF++ c23",
            file=file,
            url=f"{page}/releases/download/v1.0.1/{file}",
            sha256="",
            licence="CC BY-NC 4.0",
            convention="two logits, 1 = fake",
            size=256,
            statistics=HALF,
            figures=f"frame AUC FF++ c23 {own:.4f}, Celeb-DF v2 {celeb:.4f}, DFDC {dfdc:.4f}",
            source="Yan et al., DeepfakeBench, NeurIPS 2023; README",
            page=page,
            # theirs is aligned by dlib's 81 landmarks, which we do not have; the same box and margin without
            data={"crop": {"preset": "ffpp"}, "eval_clips": 32},
        )


# ResNeXt-LSTM ------------------------------------------------------------------------------------------------------

_RESNEXT = {10: 84.21461, 20: 87.79160, 40: 89.34681, 60: 90.59097, 80: 91.49818, 100: 93.58794}
_DRIVE = "https://drive.google.com/drive/folders/1UX8jXUXyEjhLLZ38tcgOwGsZ6XFSLDJ-"


def _resnext_lstm() -> Iterator[Published]:
    for frames, accuracy in _RESNEXT.items():
        yield Published(
            name=f"resnext_lstm.{frames}",
            layout="jadhav.resnext_lstm",
            corpus="DFDC, FF++ and Celeb-DF, mixed",
            file=f"model_{int(accuracy)}_acc_{frames}_frames_final_data.pt",
            url="",
            sha256="",
            licence="GPL-3.0 (the repository's)",
            convention="two logits, 0 = fake (turned); BGR in; only the last frame counts",
            size=112,
            statistics=IMAGENET,
            figures=f"accuracy {accuracy / 100:.4f} at {frames} frames, no split by identity",
            source="README of abhijitjadhav1998/Deepfake_detection_using_deep_learning",
            page=_DRIVE,
            data={
                "clip": {"frames": frames, "sampling": "consecutive", "eval_frame": 0},
                "crop": {"preset": "dlib"},
                "eval_clips": 1,
            },
        )


# timm --------------------------------------------------------------------------------------------------------------

_TIMM_RELEASES = "https://github.com/rwightman/pytorch-image-models/releases/download"
# name: URL, statistics; the first digits of the hash stand in the file's name, as torch.hub has them
_TIMM = {
    "tf_efficientnet_b4.aa_in1k": (f"{_TIMM_RELEASES}/v0.1-weights/tf_efficientnet_b4_aa-818f208c.pth", IMAGENET),
    "tf_efficientnet_b4.ns_jft_in1k": (f"{_TIMM_RELEASES}/v0.1-weights/tf_efficientnet_b4_ns-d6313a46.pth", IMAGENET),
    "legacy_xception.tf_in1k": (f"{_TIMM_RELEASES}/v0.1-cadene/xception-43020ad28.pth", HALF),
    "resnext50_32x4d.tv_in1k": ("https://download.pytorch.org/models/resnext50_32x4d-7cdf4587.pth", IMAGENET),
    "resnext50_32x4d.a1h_in1k": (f"{_TIMM_RELEASES}/v0.1-rsb-weights/resnext50_32x4d_a1h-0146ab0a.pth", IMAGENET),
}
_TIMM_SIZES = {"tf_efficientnet_b4": 380, "legacy_xception": 299, "resnext50_32x4d": 224}


def _timm() -> Iterator[Published]:
    for name, (url, statistics) in _TIMM.items():
        architecture = name.split(".")[0]
        file = url.rsplit("/", 1)[1]
        yield Published(
            name=name,
            layout=f"timm.{architecture}",
            corpus="ImageNet",
            file=file,
            url=url,
            sha256=file.rsplit("-", 1)[1].removesuffix(".pth"),
            licence="BSD-3-Clause" if name.endswith(".tv_in1k") else "Apache-2.0",
            convention="no detector: a trunk to start from",
            size=_TIMM_SIZES[architecture],
            statistics=statistics,
            figures="",
            source="timm",
            page="https://github.com/huggingface/pytorch-image-models",
            start=True,
        )


PUBLISHED: dict[str, Published] = {
    each.name: each for group in (_mesonet(), _icpr2020(), _deepfakebench(), _resnext_lstm(), _timm()) for each in group
}
