"""FaceForensics++ as its download script lays it out (and DeepFakeDetection, on request) -> manifest rows.

Layout, below the root; ``raw`` may be called ``c0``::

    original_sequences/youtube/{raw|c23|c40}/videos/071.mp4                   1000 real
    manipulated_sequences/{Deepfakes,Face2Face,FaceSwap,FaceShifter,NeuralTextures}/{raw|c23|c40}/videos/071_054.mp4
                                                                              1000 fake each: target 071, donor 054
    original_sequences/actors/{...}/videos/01__exit_phone_room.mp4            363 real (DeepFakeDetection, 28 actors)
    manipulated_sequences/DeepFakeDetection/{...}/videos/01_02__exit_phone_room__YVGY8LOK.mp4       3068 fake
    splits/{train,val,test}.json        360, 70, 70 unordered pairs: github.com/ondyari/FaceForensics, dataset/splits
    conversion_dict.json                optional, same place: which originals were cut from one upload

Masks, models and ``downloaded_videos`` are passed over. DeepFakeDetection has no released split; its rows have corpus
``dfd``. Seven uploads of YouTube lie in two official splits; with ``conversion_dict.json`` they show as groups in two
splits. Access by form; terms: kaldir.vc.in.tum.de/faceforensics_tos.pdf.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from dfdet.corpora.lists import read_csv, read_json, split_word
from dfdet.corpora.rows import Reading, Row, finish, walk, without_extension
from dfdet.errors import UserError, nearest

METHODS = ("Deepfakes", "Face2Face", "FaceShifter", "FaceSwap", "NeuralTextures")
DFD = "DeepFakeDetection"
COMPRESSIONS = ("raw", "c23", "c40", "all")
LICENCE = "FaceForensics Terms of Use (form): kaldir.vc.in.tum.de/faceforensics_tos.pdf"
LISTS = ("train", "val", "test")
SOURCE_OF_LISTS = "github.com/ondyari/FaceForensics, dataset/splits"
REMEDY = f"take it again from {SOURCE_OF_LISTS}"

_LEVEL = r"(?P<level>raw|c0|c23|c40)/videos/"
_REAL = re.compile(rf"original_sequences/youtube/{_LEVEL}(?P<target>\d{{3}})\.mp4")
_FAKE = re.compile(rf"manipulated_sequences/(?P<method>\w+)/{_LEVEL}(?P<target>\d{{3}})_(?P<donor>\d{{3}})\.mp4")
_ACTOR = re.compile(rf"original_sequences/actors/{_LEVEL}(?P<target>\d{{2}})__(?P<scene>[a-z_]+)\.mp4")
_DFD = re.compile(
    rf"manipulated_sequences/(?P<method>{DFD})/{_LEVEL}"
    r"(?P<target>\d{2})_(?P<donor>\d{2})__(?P<scene>[a-z_]+?)__(?P<take>[0-9A-Z]{8})\.mp4"
)
_RELEASED_NAME = re.compile(r"(?:.*/)?(?:\d{3}(?:_\d{3})?|\d{2}(?:_\d{2})?__[a-z_]+(?:__[0-9A-Z]{8})?)\.mp4")
_BESIDE = re.compile(r"downloaded_videos/|manipulated_sequences/\w+/(?:masks|models)/")

# by path (a CSV), or by the one or two ids in a name (the released lists)
Splits = Mapping[str | frozenset[str], str | None]


def read(
    root: Path, *, compression: str = "c23", methods: list[str] | None = None, splits: Path | None = None
) -> Reading:
    """Lists FaceForensics++.

    Args:
        root: The folder that holds ``original_sequences`` and ``manipulated_sequences``.
        compression: raw, c23 or c40; all takes every level that is there.
        methods: Which manipulations: all five of FaceForensics++ by default. DeepFakeDetection only when named here.
        splits: The folder of train.json, val.json and test.json, or a CSV with the columns path and split.
            By default ``ROOT/splits``.

    Raises:
        UserError: If an option is unknown, the lists of splits are not there, or nothing lies where it should.
    """
    level = {"c0": "raw"}.get(compression, compression)
    if level not in COMPRESSIONS:
        raise UserError(f"compression {compression!r} is not known", f"known: {', '.join(COMPRESSIONS)}")
    paths, skipped = walk(root)
    wanted = _wanted(methods, paths)
    rows, outside = [], []
    for path in paths:
        row = _row(path)
        reason = _reason_to_skip(path, row, level, wanted)
        if reason:
            skipped[reason] += 1
            if reason.startswith("outside"):
                outside.append(path)
        elif row is not None:
            rows.append(row)
    if not rows:
        raise _nothing(root, compression, wanted, paths)
    notes = _set_splits(rows, root, splits)
    _set_origins(rows, [root, root / "splits", *([splits] if splits else [])])
    notes += _absent(rows, wanted, compression)
    if outside:
        notes.append(
            f"{len(outside)} file(s) named as in the release lie outside its folders, where nothing states method and"
            f" compression; passed over: {outside[0]}{' ...' if len(outside) > 1 else ''}."
        )
    return finish(rows, "faceforensics", root, notes=notes, skipped=skipped, content_of=_content_of)


def _wanted(methods: list[str] | None, paths: list[str]) -> tuple[str, ...]:
    if methods is None:
        return METHODS
    there = {match["method"] for match in map(_FAKE.fullmatch, paths) if match}
    for method in methods:
        if method not in {*METHODS, DFD, *there}:
            raise UserError(f"method {method!r} is not in FaceForensics++", nearest(method, {*METHODS, DFD, *there}))
    return tuple(dict.fromkeys(methods))


def _content_of(video_id: str) -> str:
    """``original_sequences/youtube/c23/videos/071`` -> ``youtube/071``: one content at any compression."""
    parts = video_id.split("/")
    return f"{parts[1]}/{parts[-1]}"


def _row(path: str) -> Row | None:
    match = _REAL.fullmatch(path) or _ACTOR.fullmatch(path) or _DFD.fullmatch(path) or _FAKE.fullmatch(path)
    if match is None:
        return None
    found = match.groupdict()
    dfd = "scene" in found
    people = "dfd" if dfd else "ffpp"
    row: Row = {
        "corpus": "dfd" if dfd else "faceforensics",
        "path": path,
        "content_id": _content_of(without_extension(path)),
        "label": 1 if "method" in found else 0,
        "method": found.get("method", "real"),
        "compression": {"c0": "raw"}.get(found["level"], found["level"]),
        "identity": f"{people}:{found['target']}",
        "licence": LICENCE,
    }
    if dfd:
        row["scene"] = found["scene"]
    if "method" in found:
        name = f"{found['target']}__{found['scene']}" if dfd else found["target"]
        row["source_identity"] = f"{people}:{found['donor']}"
        row["original"] = f"original_sequences/{'actors' if dfd else 'youtube'}/{found['level']}/videos/{name}"
    return row


def _reason_to_skip(path: str, row: Row | None, level: str, wanted: tuple[str, ...]) -> str:
    if row is None:
        if _BESIDE.match(path):
            return "masks, models and downloaded videos"
        return "outside the official folders" if _RELEASED_NAME.fullmatch(path) else "not a file of the release"
    if row["corpus"] == "dfd" and DFD not in wanted:
        return f"{DFD} (name it in methods to have it)"
    if row["corpus"] != "dfd" and row["label"] == 0 and not set(wanted) - {DFD}:
        return "originals of methods not asked for"
    if row["label"] == 1 and row["method"] not in wanted:
        return "methods not asked for"
    return "" if level in ("all", row["compression"]) else "other compressions"


def _nothing(root: Path, compression: str, wanted: tuple[str, ...], paths: list[str]) -> UserError:
    here = sorted({f"{row['method']} at {row['compression']}" for row in map(_row, paths) if row is not None})
    if here:
        return UserError(
            f"{root} holds nothing of {', '.join(wanted)} at {compression}",
            f"there is {', '.join(here)}: choose by compression and methods",
        )
    below = {p[: m.start()] for p in paths if (m := re.search(r"(?<=/)(?:original|manipulated)_sequences/", p))}
    if below:
        return UserError(f"{root} is not the root of FaceForensics++", f"give {root / min(below)}")
    return UserError(
        f"{root} holds no video of FaceForensics++",
        "expected original_sequences/youtube/c23/videos/NNN.mp4 and manipulated_sequences/<method>/...",
    )


def _set_splits(rows: list[Row], root: Path, splits: Path | None) -> list[str]:
    """Sets ``split`` in place; returns what there is to say about it."""
    place = Path(splits) if splits is not None else root / "splits"
    by_path = place.is_file()
    notes = []
    if any(row["corpus"] == "dfd" for row in rows) and not by_path:
        notes.append(f"{DFD} has no released split: its videos have none.")
    listed = [row for row in rows if by_path or row["corpus"] != "dfd"]
    if not listed:
        return notes
    table: Splits = _splits_by_path(place) if by_path else _splits_by_pair(place)
    unlisted = 0
    for row in listed:
        key = row["path"] if by_path else frozenset(re.findall(r"\d{3}", row["content_id"].rpartition("/")[2]))
        unlisted += key not in table
        row["split"] = table.get(key)
    if unlisted:
        notes.append(f"{unlisted} video(s) are not in the lists of {place}: they have no split.")
    return notes


def _splits_by_pair(folder: Path) -> Splits:
    table: dict[str | frozenset[str], str | None] = {}
    for split in LISTS:
        file = folder / f"{split}.json"
        if not file.is_file():
            raise UserError(
                f"the list of splits {file} is not there",
                f"take train.json, val.json and test.json from {SOURCE_OF_LISTS}, and name their folder by splits",
            )
        for pair in read_json(file, list, REMEDY):
            if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) for name in pair)):
                raise UserError(f"{file} holds {pair!r}, no pair of ids", REMEDY)
            for key in ({pair[0]}, {pair[1]}, set(pair)):
                if table.setdefault(frozenset(key), split) != split:
                    earlier = table[frozenset(key)]
                    raise UserError(f"{file}: {'_'.join(sorted(key))} stands in {earlier} too", "keep it in one list")
    return table


def _splits_by_path(file: Path) -> Splits:
    rows = read_csv(file, ("path", "split"))
    return {row["path"]: split_word(row["split"], f"{file}, {row['path']}") for row in rows}


def _set_origins(rows: list[Row], places: list[Path]) -> None:
    """The upload that an original was cut from, where the list of uploads is there."""
    file = next((p / "conversion_dict.json" for p in places if (p / "conversion_dict.json").is_file()), None)
    if file is None:
        return
    uploads = {name: str(value).rpartition(" ")[0] for name, value in read_json(file, dict, REMEDY).items()}
    for row in rows:
        if row["corpus"] == "faceforensics":
            row["origin"] = uploads.get(row["identity"].partition(":")[2])


def _absent(rows: list[Row], wanted: tuple[str, ...], compression: str) -> list[str]:
    there = Counter(row["method"] for row in rows)
    where = "at any compression" if compression == "all" else f"at {compression}"
    lacking = [method for method in wanted if not there[method]]
    notes = [f"Nothing of {', '.join(lacking)} {where}."] if lacking else []
    return notes if there["real"] else [*notes, f"No original {where}: there are fakes only."]
