"""Promises about reading parts of frames: the bits of whole frames, cut, whatever the file, the place and the size."""

from __future__ import annotations

import csv
import os
from contextlib import contextmanager
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from dfdet.video import DecordReader, Media, PyAVReader, describe_choice, judge, open_reader, probe, pyav_reader
from dfdet.video.pixels import Pixels
from dfdet.video.stream import opened

DATA = Path(os.environ.get("DFDET_TEST_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))
SUITE = DATA.resolve() / "codec_suite"
TABLE = SUITE / "expected.csv"
DECODABLE = (
    [row["file"] for row in csv.DictReader(TABLE.open()) if row["expected"] != "error"] if TABLE.is_file() else []
)
PLANAR = ["yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"]


def windows(width: int, height: int, number: int, seed: int = 0) -> list[tuple[int, int, int, int]]:
    """Regions of every size and place, half of them at a border; the first is the last pixel, the second everything."""
    rng = np.random.default_rng(seed)
    found = [(width - 1, height - 1, 1, 1), (0, 0, width, height)]
    for _ in range(number):
        w, h = int(rng.integers(1, width + 1)), int(rng.integers(1, height + 1))
        x, y = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
        found.append((x if rng.random() < 0.7 else width - w, y if rng.random() < 0.7 else height - h, w, h))
    return found


def assert_cut(patch: np.ndarray, whole: np.ndarray, region: tuple[int, int, int, int]) -> None:
    x, y, w, h = region
    assert patch.dtype == np.uint8
    assert patch.flags.c_contiguous
    assert np.array_equal(patch, whole[y : y + h, x : x + w]), f"region {region}"


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("pix_fmt", PLANAR)
def test_noise_is_converted_alike_in_part_and_in_whole(pix_fmt, rotation):
    rng = np.random.default_rng(1)
    for colorspace, color_range in ((2, 0), (1, 1), (1, 2), (5, 2), (9, 1)):
        frame = av.VideoFrame(322, 182, pix_fmt)
        frame.colorspace, frame.color_range = colorspace, color_range
        for plane in frame.planes:
            plane.update(rng.integers(0, 256, plane.buffer_size, np.uint8))
        pixels = Pixels(rotation)
        whole = pixels.whole(frame)
        assert np.array_equal(whole, np.rot90(frame.to_ndarray(format="rgb24"), rotation // 90))
        # one region at a time: together they would cover the frame, and be cut from it
        for region in windows(whole.shape[1], whole.shape[0], 40):
            assert_cut(pixels.patches(frame, [region])[0], whole, region)


def read_both(path: Path, media: Media, seed: int = 0) -> None:
    usable = [i for a, b in media.usable_runs() for i in range(a, b)]
    chosen = sorted({usable[0], usable[len(usable) // 2], usable[-1]})
    whole = dict(PyAVReader().frames(path, chosen, media))
    small = [(w // 7, h // 5, max(1, w // 3), max(1, h // 3)) for w, h in [(media.width, media.height)]]
    for number, region in enumerate([*small, *windows(media.width, media.height, 6, seed)]):
        wanted = {index: [region] for index in chosen[number % len(chosen) :][:1]}
        for index, [patch] in PyAVReader().patches(path, wanted, media):
            assert_cut(patch, whole[index], region)
    several = {index: [*small, *small, (0, 0, 1, 1)] for index in reversed(chosen)}
    read = list(PyAVReader().patches(path, several, media))
    assert [index for index, _ in read] == chosen
    for index, patches in read:
        assert len(patches) == 3
        for patch, region in zip(patches, several[index], strict=True):
            assert_cut(patch, whole[index], region)


@pytest.mark.data
@pytest.mark.parametrize("name", DECODABLE)
def test_parts_of_every_file_of_the_suite_are_parts_of_its_frames(name, sample_media):
    read_both(SUITE / name, probe(SUITE / name))


MADE = {
    "limited 709": {"params": "colorprim=bt709:transfer=bt709:colormatrix=bt709"},
    "full range": {"params": "fullrange=on:colormatrix=bt709", "pix_fmt": "yuvj420p"},
    "chroma sited": {"params": "chromaloc=3"},
    "interlaced": {"params": "tff=1"},
    "4:2:2": {"pix_fmt": "yuv422p"},
    "4:4:4": {"pix_fmt": "yuv444p"},
    "10 bit": {"pix_fmt": "yuv420p10le"},
    "odd 4:4:4": {"pix_fmt": "yuv444p", "size": (177, 145)},
    "no multiple of 16": {"size": (178, 146)},
}


@pytest.mark.parametrize("kind", MADE)
def test_parts_of_made_files_are_parts_of_their_frames(kind, make_video):
    path = make_video("made.mp4", frames=8, gop=8, **MADE[kind])
    with opened(path) as (container, stream):
        frame = next(container.decode(stream))
    assert frame.interlaced_frame == (kind == "interlaced")
    for seed in range(3):
        read_both(path, probe(path), seed)


@pytest.mark.data
@pytest.mark.parametrize("name", ["h264_rot90.mp4", "h264_rot180.mp4", "h264_rot270.mp4"])
def test_the_parts_of_a_turned_file_are_those_of_its_upright_frames(name, sample_media):
    path = SUITE / name
    if not path.is_file():
        pytest.skip(f"the suite has no {name}")
    media = probe(path)
    assert media.rotation
    [(_, whole)] = PyAVReader().frames(path, [3], media)
    for region in windows(media.width, media.height, 30):
        [(_, [patch])] = PyAVReader().patches(path, {3: [region]}, media)
        assert_cut(patch, whole, region)


def test_decord_cuts_the_same_parts(sound):
    media = probe(sound)
    wanted = {index: windows(media.width, media.height, 5, index) for index in (50, 3, 21)}
    exact = list(PyAVReader().patches(sound, wanted, media))
    read = list(DecordReader().patches(sound, wanted, media))
    assert [index for index, _ in exact] == [index for index, _ in read] == [3, 21, 50]
    for (_, ours), (_, theirs) in zip(exact, read, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_still_picture_is_cut_too(tmp_path):
    path = tmp_path / "x.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (31, 51, 3), np.uint8))
    media = probe(path)
    reader = open_reader("auto", media)
    [(_, whole)] = reader.frames(path, [0], media)
    regions = windows(51, 31, 10)
    [(index, patches)] = reader.patches(path, {0: regions}, media)
    assert index == 0
    for patch, region in zip(patches, regions, strict=True):
        assert_cut(patch, whole, region)


@pytest.mark.parametrize("reader", [PyAVReader(), DecordReader()])
@pytest.mark.parametrize("region", [(-1, 0, 5, 5), (0, 0, 0, 5), (170, 0, 7, 5), (0, 140, 5, 5), (0, 0, 177, 144)])
def test_a_region_outside_the_frame_is_refused_at_the_call(reader, region, sound):
    with pytest.raises(ValueError, match=r"region .* of frame 7 is not inside 176x144"):
        reader.patches(sound, {3: [(0, 0, 2, 2)], 7: [(0, 0, 4, 4), region]}, probe(sound))


def test_a_visit_that_leaps_over_keyframes_reads_the_right_frames(make_video, barcode):
    for params in ("", "open-gop=1:b-adapt=0", "b-pyramid=strict", "intra-refresh=1"):
        path = make_video("leaps.mp4", frames=90, gop=10, params=params)
        media = probe(path)
        for wanted in ([0, 89], [3, 9, 10, 40, 41, 42, 88], [14, 15, 16, 35, 77, 78], list(range(5, 90, 13))):
            regions = {index: [(0, 0, 176, 16)] for index in wanted}
            for index, [patch] in PyAVReader().patches(path, regions, media):
                assert barcode.number(patch) == index, params


class Container:
    """An opened container whose packets note their times when they are decoded."""

    def __init__(self, inner, sent):
        self.inner, self.sent, self.seek = inner, sent, inner.seek

    def demux(self, stream):
        return (Packet(packet, self.sent) for packet in self.inner.demux(stream))


class Packet:
    def __init__(self, inner, sent):
        self.inner, self.sent, self.pts = inner, sent, inner.pts

    def decode(self):
        self.sent.append(self.pts)
        return self.inner.decode()


def test_packets_behind_the_last_wanted_frame_and_between_far_keyframes_are_not_decoded(make_video, monkeypatch):
    path = make_video("long.mp4", frames=120, gop=12)
    media = probe(path)
    sent = []

    @contextmanager
    def noting(path, quick=False):
        with opened(path, quick) as (container, stream):
            yield Container(container, sent), stream

    monkeypatch.setattr(pyav_reader, "opened", noting)
    assert [index for index, _ in PyAVReader().frames(path, [13, 14, 110], media)] == [13, 14, 110]
    assert {media.index_at(pts) for pts in sent} <= {0, *range(12, 18), *range(108, 114)}


@pytest.mark.data
def test_a_444_of_an_old_x264_is_right_behind_a_keyframe_at_the_first_attempt(sample_media, monkeypatch):
    path = SUITE / "h264_444_x264core148.mp4"
    whole = {}
    media = probe(path, None, whole.__setitem__)
    monkeypatch.setattr(pyav_reader, "_counted", lambda *_: pytest.fail("the file was decoded again from its start"))
    for key in media.keyframes[1:]:
        for index, [patch] in PyAVReader().patches(path, {i: [(9, 5, 60, 40)] for i in (key, key + 2, key + 9)}, media):
            assert_cut(patch, whole[index], (9, 5, 60, 40))


def test_auto_is_pyav_for_every_video_and_says_so(sound, tmp_path):
    media = judge(sound, probe(sound))
    assert media.reader == "decord"
    assert isinstance(open_reader("auto", media), PyAVReader)
    assert [describe_choice(choice, media) for choice in ("auto", "pyav", "decord")] == ["pyav", "pyav", "decord"]
    other = Media.from_row({**media.to_row(), "reader": "pyav"})
    assert [describe_choice(choice, other) for choice in ("auto", "pyav", "decord")] == ["pyav", "pyav", "none"]
    first = Media.from_row({**media.to_row(), "reader": "decord0"})
    assert describe_choice("decord", first) == "decord0"
    path = tmp_path / "x.png"
    cv2.imwrite(str(path), np.zeros((4, 4, 3), np.uint8))
    assert describe_choice("decord", probe(path)) == "image"
    assert describe_choice("auto", probe(tmp_path / "absent.mp4")) == "none"
