"""Exported videos in; the JSON that DeepfakeBench's loader reads, and the places where it looks for frames, out.

Facts of SCLBD/DeepfakeBench (training/dataset/abstract_dataset.py, preprocessing/rearrange.py at 8a4a7bf):
``<dataset_json_folder>/<dataset>.json`` holds ``{dataset: {label: {split: {video: {"label", "frames"}}}}}``; datasets
of the FaceForensics++ family have the compression between split and video. Every label needs every split that is
read. Frames are sorted by the number in their name. A path that does not begin with a dot is taken for a key of a
Windows tree, so paths are relative to the folder where training is started. Masks and landmarks are looked for under
the same path with ``frames`` replaced; where they are absent zeros stand for them. Scores of a video are collected by
the name of the folder that holds its frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

from dfdet.export.selection import Picked

FRAMES = PurePosixPath("datasets/rgb")
JSON = PurePosixPath("preprocessing/dataset_json")
SPLITS = ("train", "val", "test")
FAMILY = "FaceForensics++"

_METHODS = {
    "Deepfakes": "FF-DF", "Face2Face": "FF-F2F", "FaceSwap": "FF-FS", "NeuralTextures": "FF-NT", "FaceShifter": "FF-FH",
}  # fmt: skip
# our corpus: their dataset, their words for real and fake
_OTHERS = {
    "dfd": ("DeepFakeDetection", "DFD_real", "DFD_fake"),
    "dfdc": ("DFDC", "DFDC_Real", "DFDC_Fake"),
    "dfdcp": ("DFDCP", "DFDCP_Real", "DFDCP_FakeA"),
    "celebdf1": ("Celeb-DF-v1", "CelebDFv1_real", "CelebDFv1_fake"),
    "celebdf2": ("Celeb-DF-v2", "CelebDFv2_real", "CelebDFv2_fake"),
    "deeperforensics": ("DeeperForensics-1.0", "DF_real", "DF_fake"),
    "uadfv": ("UADFV", "UADFV_Real", "UADFV_Fake"),
}
# what their label_dict knows
KNOWN_LABELS = frozenset(
    {"FF-real", "FF-SH", "DFDCP_FakeB", "roop_Real", "roop_Fake", *_METHODS.values()}
    | {word for _, *words in _OTHERS.values() for word in words}
)


def word_of(one: Picked) -> str:
    """Their word for a video's class."""
    corpus = one.row["corpus"]
    if corpus == "faceforensics":
        return _METHODS.get(one.row["method"], f"FF-{one.row['method']}") if one.label else "FF-real"
    real, fake = _OTHERS[corpus][1:] if corpus in _OTHERS else (f"{corpus}_Real", f"{corpus}_Fake")
    if corpus == "dfdcp" and one.label and one.row["method"] == "method_B":
        return "DFDCP_FakeB"
    return fake if one.label else real


def dataset_of(one: Picked) -> str:
    """Their name for a video's corpus."""
    if one.row["corpus"] == "faceforensics":
        return FAMILY
    return _OTHERS[one.row["corpus"]][0] if one.row["corpus"] in _OTHERS else str(one.row["corpus"])


def family(one: Picked) -> str:
    """Videos whose folders must have different names."""
    # the four methods name the same pairs alike; whoever trains on one of them needs the released names
    return f"{dataset_of(one)}/{word_of(one)}/{_level(one)}" if dataset_of(one) == FAMILY else dataset_of(one)


def _layered(dataset: str) -> bool:
    return dataset in (FAMILY, "DeepFakeDetection")


def _level(one: Picked) -> str:
    return str(one.row.get("compression") or "c23")


def folder(one: Picked, name: str) -> PurePosixPath:
    """Where the frames of a video go, relative to the export."""
    dataset, word = dataset_of(one), word_of(one)
    if not _layered(dataset):
        return FRAMES / dataset / word / "frames" / name
    released = {"FF-real": "original_sequences/youtube", "DFD_real": "original_sequences/actors"}
    place = released.get(word, f"manipulated_sequences/{one.row['method']}")
    return FRAMES / FAMILY / place / _level(one) / "frames" / name


def documents(done: Sequence[tuple[Picked, str, list[PurePosixPath]]]) -> dict[str, Any]:
    """The JSON files by dataset name.

    Args:
        done: Each video with its folder's name and its frames, relative to the export.
    """
    by_set: dict[str, list[tuple[Picked, str, list[PurePosixPath]]]] = {}
    for entry in done:
        by_set.setdefault(dataset_of(entry[0]), []).append(entry)
    found: dict[str, Any] = {}
    for dataset, entries in by_set.items():
        tree = _tree(dataset, entries)
        if dataset != FAMILY:
            found[dataset] = {dataset: tree}
            continue
        real = {word: part for word, part in tree.items() if word == "FF-real"}
        shifter = _METHODS["FaceShifter"]
        found[FAMILY] = {FAMILY: {word: part for word, part in tree.items() if word != shifter}}
        for word, part in tree.items():
            if word == shifter:
                found["FaceShifter"] = {"FaceShifter": {word: part, **real}}
            elif word not in real:
                found[word] = {word: {**real, word: part}}
    return found


def _tree(dataset: str, entries: Iterable[tuple[Picked, str, list[PurePosixPath]]]) -> dict[str, Any]:
    entries = list(entries)
    levels = sorted({_level(one) for one, _, _ in entries})
    tree: dict[str, Any] = {}
    for one, name, frames in entries:
        word = word_of(one)
        empty: dict[str, Any] = {s: {level: {} for level in levels} if _layered(dataset) else {} for s in SPLITS}
        # a corpus without a split is for testing
        place = tree.setdefault(word, empty)[one.row["split"] or "test"]
        if _layered(dataset):
            place = place[_level(one)]
        place[name] = {"label": word, "frames": [f"./{path}" for path in frames]}
    return tree
