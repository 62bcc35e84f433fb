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
        parameters: Trainable parameters with the defaults; None for an estimator of scikit-learn.
        paper: Where it comes from.
        config: The configuration that reproduces it.
    """

    path: str
    summary: str
    input: str
    parameters: int | None
    paper: str
    config: str


_HADI = "Hadi et al., Unmasking Deepfakes Based on Deep Learning and Noise Residuals"
_MESONET = "Afchar et al., MesoNet, WIFS 2018"
_LI = "Li et al., DeepFake Detection in Deep Learning"
_LIKITH = "Likith et al., Development of deepfakes detection model using deep learning framework"
_LAB = "Bernardi et al., DeepFakes Detection Lab, report"
ICPR = "Bonettini et al., Video Face Manipulation Detection Through Ensemble of CNNs, ICPR 2020"

DETECTORS: dict[str, Card] = {
    "srm_cnn": Card(
        "dfdet.detectors.srm_cnn.SRMCNNDetector",
        "two convolutions on SRM noise residuals; front=rgb is its control, fused sees both",
        "1 frame, 128 px",
        281_537,
        _HADI,
        "configs/detector/srm_cnn.yaml",
    ),
    "meso4": Card(
        "dfdet.detectors.mesonet.Meso4Detector",
        "four convolutions, batch norm after ReLU",
        "1 frame, 256 px",
        27_977,
        _MESONET,
        "configs/detector/meso4.yaml",
    ),
    "mesoinception4": Card(
        "dfdet.detectors.mesonet.MesoInception4Detector",
        "Meso4 with dilated inception blocks in front",
        "1 frame, 256 px",
        28_615,
        _MESONET,
        "configs/detector/mesoinception4.yaml",
    ),
    "meso4_150": Card(
        "dfdet.detectors.mesonet.MesoCNNDetector",
        "Meso-CNN: Meso4 at 150 pixels with less dropout, each video judged by its frame 150",
        "1 frame, 150 px",
        17_993,
        _LI,
        "configs/detector/meso4_150.yaml",
    ),
    "noise3d": Card(
        "dfdet.detectors.noise.Noise3DDetector",
        "3-D convolutions on face minus its Gaussian blur",
        "20 frames, 100 px",
        12_689,
        _LI,
        "configs/detector/noise3d.yaml",
    ),
    "noise_gru": Card(
        "dfdet.detectors.noise.NoiseGRUDetector",
        "GRU on the mean noise of each frame",
        "20 frames, 100 px",
        3_393,
        _LI,
        "configs/detector/noise_gru.yaml",
    ),
    "noise_gbm": Card(
        "dfdet.classical.noise.NoiseGBMDetector",
        "gradient boosting on statistics of the noise; scikit-learn",
        "20 frames, 100 px",
        None,
        _LI,
        "configs/detector/noise_gbm.yaml",
    ),
    "resnext_lstm": Card(
        "dfdet.detectors.resnext_lstm.ResNeXtLSTMDetector",
        "ResNeXt-50 on every frame, an LSTM over the clip; legacy computes what the published code does",
        "10 frames, 112 px",
        56_552_769,
        _LIKITH,
        "configs/detector/resnext_lstm.yaml",
    ),
    "block_dct": Card(
        "dfdet.classical.block_dct.BlockDCTDetector",
        "DCT of blocks and of their histograms, an MLP or boosting behind; scikit-learn",
        "1 frame, 224 px, not resampled",
        None,
        _LAB,
        "configs/detector/block_dct.yaml",
    ),
    "ela": Card(
        "dfdet.classical.ela.ELADetector",
        "principal components of error levels, an SVM or others behind; scikit-learn",
        "1 frame, 128 px",
        None,
        _LAB,
        "configs/detector/ela.yaml",
    ),
    "ela_cnn": Card(
        "dfdet.detectors.ela.ELACNNDetector",
        "a small CNN on error levels: the negative control",
        "1 frame, 128 px",
        29_519_777,
        _LAB,
        "configs/detector/ela_cnn.yaml",
    ),
    "siamese": Card(
        "dfdet.detectors.siamese.SiameseDetector",
        "pairs of real and fake, then a probe on the frozen embedding, or fine-tuning",
        "1 frame, 128 px",
        20_402,
        _LAB,
        "configs/detector/siamese.yaml",
    ),
    "efficientnet_b4": Card(
        "dfdet.detectors.backbone.EfficientNetB4Detector",
        "EfficientNet-B4 with one logit",
        "1 frame, 224 px",
        17_550_409,
        ICPR,
        "configs/detector/efficientnet_b4.yaml",
    ),
    "efficientnet_b4_att": Card(
        "dfdet.detectors.backbone.EfficientNetB4AttDetector",
        "EfficientNet-B4 with an attention map after MBConv 9",
        "1 frame, 224 px",
        17_550_466,
        ICPR,
        "configs/detector/efficientnet_b4_att.yaml",
    ),
    "efficientnet_b4_st": Card(
        "dfdet.detectors.metric.EfficientNetB4STDetector",
        "EfficientNet-B4 by triplets, then a head on the frozen trunk",
        "1 frame, 224 px",
        17_548_616,
        ICPR,
        "configs/detector/efficientnet_b4_st.yaml",
    ),
    "efficientnet_b4_att_st": Card(
        "dfdet.detectors.metric.EfficientNetB4AttSTDetector",
        "the same with the attention map",
        "1 frame, 224 px",
        17_548_673,
        ICPR,
        "configs/detector/efficientnet_b4_att_st.yaml",
    ),
    "xception": Card(
        "dfdet.detectors.backbone.XceptionDetector",
        "Xception with one logit",
        "1 frame, 224 px",
        20_809_001,
        ICPR,
        "configs/detector/xception.yaml",
    ),
    "xception_att": Card(
        "dfdet.detectors.backbone.XceptionAttDetector",
        "Xception with an attention map after block 2, which is our choice",
        "1 frame, 224 px",
        20_809_258,
        ICPR,
        "configs/detector/xception_att.yaml",
    ),
    "xception_st": Card(
        "dfdet.detectors.metric.XceptionSTDetector",
        "Xception by triplets, then a head on the frozen trunk",
        "1 frame, 224 px",
        20_806_952,
        ICPR,
        "configs/detector/xception_st.yaml",
    ),
    "xception_att_st": Card(
        "dfdet.detectors.metric.XceptionAttSTDetector",
        "the same with the attention map",
        "1 frame, 224 px",
        20_807_209,
        ICPR,
        "configs/detector/xception_att_st.yaml",
    ),
    "timm": Card(
        "dfdet.detectors.backbone.BackboneDetector",
        "any network of timm by --model.backbone; its norms, LoRA or the head alone by --model.tune",
        "1 frame, 224 px",
        27_820_897,
        "Wightman, PyTorch Image Models",
        "configs/detector/timm.yaml",
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
