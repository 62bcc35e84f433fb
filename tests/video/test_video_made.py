"""Promises about reading video, kept on files made here: no sample media are needed."""

from __future__ import annotations

import pickle
import shutil
import zlib
from dataclasses import replace

import av
import cv2
import numpy as np
import pandas as pd
import pytest

from dfdet import manifest
from dfdet.video import DecordReader, ImageReader, Media, PyAVReader, ReadError, judge, open_reader, probe, stream
from dfdet.video.damage import DamageLog
from dfdet.video.stream import emitted


@pytest.fixture(scope="module")
def media(sound):
    return judge(sound, probe(sound))


def numbers(reader, path, indices, media, barcode):
    return [(index, barcode.number(rgb)) for index, rgb in reader.frames(path, indices, media)]


def test_probing_says_what_the_file_holds(media):
    assert (media.kind, media.status, media.reason, media.num_frames) == ("video", "ok", None, 60)
    assert (media.width, media.height, media.rotation) == (176, 144, 0)
    assert (media.codec, media.pix_fmt, media.has_audio, media.fps) == ("h264", "yuv420p", False, 25.0)
    assert media.keyframes == (0, 20, 40)
    assert media.frame_runs is None
    assert media.usable_runs() == ((0, 60),)
    assert np.array_equal(np.diff(media.times()), np.full(59, media.pts_step))


def test_only_wanted_frames_are_handed_over_in_order_and_upright(sound, barcode):
    seen = []
    probe(sound, lambda i: i % 7 == 0, lambda i, rgb: seen.append((i, barcode.number(rgb), rgb.shape)))
    assert seen == [(i, i, (144, 176, 3)) for i in range(0, 60, 7)]


def test_fingerprints_cover_the_ends_and_the_neighbourhood_of_the_second_and_last_keyframe(sound, media):
    crcs = {}
    probe(sound, None, lambda i, rgb: crcs.__setitem__(i, zlib.crc32(rgb.tobytes())))
    assert {0, 1, *range(17, 24), *range(37, 44), 58, 59} <= set(media.probe_frames)
    assert any(abs(i - 20) <= 5 for i in media.probe_frames)
    assert all(crcs[i] == crc for i, crc in zip(media.probe_frames, media.probe_crcs, strict=True))


@pytest.mark.parametrize("reader", [PyAVReader(), DecordReader()])
def test_frames_are_contiguous_uint8_whatever_the_width(reader, make_video):
    path = make_video("narrow.mp4", size=(178, 146))
    found = probe(path)
    for _, rgb in reader.frames(path, [0, 30], found):
        assert rgb.dtype == np.uint8
        assert rgb.shape == (146, 178, 3)
        assert rgb.flags.c_contiguous


def test_what_the_callback_raises_is_not_swallowed(sound):
    def fail(index, rgb):
        raise ArithmeticError("the caller's own")

    with pytest.raises(ArithmeticError):
        probe(sound, None, fail)


@pytest.mark.parametrize("reader", [PyAVReader(), DecordReader(), DecordReader(first_frame=True)])
@pytest.mark.parametrize(
    "indices", [[0], [59], [20, 21, 19], [41], [5, 5, 5], [58, 3, 39, 40], range(17, 45), range(60), []]
)
def test_each_wanted_frame_comes_once_in_ascending_order(reader, indices, sound, media, barcode):
    assert numbers(reader, sound, indices, media, barcode) == [(i, i) for i in sorted(set(indices))]


def test_a_sound_file_is_read_by_decord_and_an_open_gop_by_pyav(make_video, media, barcode):
    assert media.reader == "decord"
    path = make_video("open.mp4", params="open-gop=1:b-adapt=0")
    opened = judge(path, probe(path))
    assert opened.reader == "pyav"
    assert "open GOP" in opened.reader_reason
    for first in range(15, 45):
        assert numbers(PyAVReader(), path, [first, first + 1], opened, barcode) == [(i, i) for i in (first, first + 1)]


def test_444_of_an_old_x264_forces_decord_to_begin_at_frame_0_whatever_the_proof_says(make_video):
    path = make_video("new.mp4", pix_fmt="yuv444p")
    found = probe(path)
    assert judge(path, found).reader == "decord"
    old = replace(found, stream=replace(found.stream, x264_core=148))
    verdict = judge(path, old)
    assert verdict.reader == "decord0"
    assert open_reader("decord", verdict).first_frame


def test_without_decord_pyav_reads_everything(sound, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    verdict = judge(sound, probe(sound))
    assert (verdict.reader, verdict.reader_reason) == ("pyav", "decord is not installed")


def test_an_index_from_a_manifest_cannot_be_judged_again(media):
    with pytest.raises(ValueError, match="probe"):
        judge("x.mp4", Media.from_row({**media.to_row(), "reader": None}))


def test_a_file_cut_off_keeps_the_frames_that_decode(make_video, barcode, tmp_path):
    path = make_video("cut.mp4", params="")
    data = bytearray(path.read_bytes())
    # the middle third of the samples is lost; the tables behind them are not
    start, stop = data.index(b"mdat") + 8, data.rindex(b"moov") - 4
    third = (stop - start) // 3
    data[start + third : start + 2 * third] = bytes(third)
    hurt = tmp_path / "hurt.mp4"
    hurt.write_bytes(data)
    media = judge(hurt, probe(hurt))
    assert media.status == "partial"
    assert media.reader == "pyav"
    assert "do not decode" in media.reason
    usable = [i for a, b in media.frame_runs for i in range(a, b)]
    assert 0 < len(usable) < media.num_frames
    assert media.frame_runs[0][0] == 0
    whole = dict(PyAVReader().frames(path, range(60), judge(path, probe(path))))
    for _, rgb in PyAVReader().frames(hurt, usable, media):
        assert np.array_equal(rgb, whole[barcode.number(rgb)]), "a frame called usable is a damaged one"
    damaged = next(i for i in range(media.num_frames) if i not in usable)
    with pytest.raises(ReadError, match=f"frame {damaged} is damaged"):
        PyAVReader().frames(hurt, [damaged], media)


@pytest.mark.parametrize(
    ("name", "content", "status", "reason"),
    [
        ("zero.mp4", b"", "empty", "no bytes"),
        ("text.mp4", b"this is not a video" * 40, "unreadable", "Invalid data"),
        ("text.jpg", b"this is not a picture" * 40, "unreadable", ""),
        ("absent.mp4", None, "unreadable", "No such file"),
    ],
)
def test_a_bad_file_is_a_status_with_a_reason_and_no_reader(tmp_path, name, content, status, reason):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    media = judge(path, probe(path))
    assert (media.status, media.reader, media.num_frames) == (status, "none", 0)
    assert reason in media.reason
    assert "\n" not in media.reason
    assert str(tmp_path) not in media.reason
    with pytest.raises(ReadError, match="no reader"):
        open_reader("auto", media, path)


def test_a_directory_is_a_status_too(tmp_path):
    assert probe(tmp_path).status == "unreadable"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif"])
def test_a_picture_is_a_media_of_one_frame(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    cv2.imwrite(str(path), np.full((30, 50, 3), (200, 100, 20), np.uint8))
    seen = []
    media = judge(path, probe(path, None, lambda i, rgb: seen.append(rgb)))
    assert (media.kind, media.status, media.reader, media.num_frames) == ("image", "ok", "image", 1)
    assert (media.width, media.height) == (50, 30)
    [(index, rgb)] = open_reader("auto", media).frames(path, [0], media)
    assert index == 0
    assert np.array_equal(rgb, seen[0])
    assert np.abs(rgb.astype(int) - (20, 100, 200)).max() <= 8, "blue and red are not exchanged"


def test_a_picture_is_turned_by_its_exif_orientation(tmp_path):
    path = tmp_path / "portrait.jpg"
    cv2.imwrite(str(path), np.zeros((30, 50, 3), np.uint8))
    data = path.read_bytes()
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    segment = b"Exif\x00\x00" + tiff
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + data[2:])
    media = probe(path)
    assert (media.width, media.height) == (30, 50)
    assert next(ImageReader().frames(path, [0], media))[1].shape == (50, 30, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_half_a_picture_is_unreadable_not_half_grey(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8))
    data = path.read_bytes()
    for share in (0.4, 0.9):
        path.write_bytes(data[: int(len(data) * share)])
        media = probe(path)
        assert (media.kind, media.status, media.reader) == ("image", "unreadable", "none")
        assert "cut off" in media.reason


def test_a_picture_is_told_by_its_content_not_its_name(tmp_path, sound):
    path = tmp_path / "x.mp4"
    path.write_bytes(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    assert probe(path).kind == "image"
    path = tmp_path / "x.jpg"
    shutil.copy(sound, path)
    assert (probe(path).kind, probe(path).num_frames) == ("video", 60)


@pytest.mark.parametrize("reader", [PyAVReader(), DecordReader()])
@pytest.mark.parametrize("index", [-1, 60, 1000])
def test_a_frame_outside_the_file_is_refused_at_the_call(reader, index, sound, media):
    with pytest.raises(ReadError, match=rf"{sound}: frame {index} was asked for, the file has 60"):
        reader.frames(sound, [0, index], media)


@pytest.mark.parametrize("reader", [PyAVReader(), DecordReader()])
def test_another_file_under_the_name_is_refused(reader, make_video, media):
    with pytest.raises(ReadError, match="index"):
        list(reader.frames(make_video("shorter.mp4", frames=30), [50], media))
    with pytest.raises(ReadError, match="176x144"):
        list(reader.frames(make_video("larger.mp4", size=(320, 240)), [2], media))


@pytest.mark.parametrize("reader", [PyAVReader(), DecordReader()])
def test_a_file_that_went_away_is_a_read_error(reader, tmp_path, media):
    with pytest.raises(ReadError, match="gone"):
        list(reader.frames(tmp_path / "gone.mp4", [3], media))


def test_decord_is_refused_where_it_was_not_proven(media):
    other = Media.from_row({**media.to_row(), "reader": "pyav", "reader_reason": "open GOP"})
    with pytest.raises(ReadError, match=r"x\.mp4: decord is not right for it.*open GOP"):
        open_reader("decord", other, "x.mp4")
    assert isinstance(open_reader("auto", other), PyAVReader)
    assert isinstance(open_reader("pyav", media), PyAVReader)
    assert isinstance(open_reader("decord", media), DecordReader)
    with pytest.raises(ReadError, match="no verdict"):
        open_reader("auto", Media(num_frames=3))


def test_the_record_survives_the_manifest(tmp_path, media, make_video):
    unread = probe(tmp_path / "absent.mp4")
    uneven = Media(num_frames=3, frame_runs=((0, 1), (2, 3)), pts_start=5, pts=(5, 6, 9), reader="pyav")
    records = {"a": media, "b": unread, "c": uneven}
    rows = [{"corpus": "x", "video_id": k, "path": k, "label": 0, **m.to_row()} for k, m in records.items()]
    table = manifest.write(tmp_path / "x.parquet", pd.DataFrame(rows), None, {"root": "."}).table
    for _, row in table.iterrows():
        assert Media.from_row(row) == records[row["video_id"]]
    assert uneven.times().tolist() == [5, 6, 9]
    assert unread.times() is None


def test_a_read_error_passes_between_processes():
    error = pickle.loads(pickle.dumps(ReadError("a/b.mp4", "why\nnot")))
    assert (str(error), error.path, error.reason) == ("a/b.mp4: why not", "a/b.mp4", "why not")


def test_a_codec_without_a_decoder_is_a_reason(sound, tmp_path):
    path = tmp_path / "unknown.mp4"
    path.write_bytes(sound.read_bytes().replace(b"avc1", b"avXX"))
    found = probe(path)
    assert (found.status, found.reason) == ("unreadable", "FFmpeg has no decoder for its video stream")


def test_a_file_whose_codec_was_changed_after_indexing_is_a_reason(sound, media, tmp_path):
    path = tmp_path / "unknown.mp4"
    path.write_bytes(sound.read_bytes().replace(b"avc1", b"avXX"))
    with pytest.raises(ReadError, match="no decoder"):
        list(PyAVReader().frames(path, [0], media))


class Packets:
    """Stands for a container whose packets fail as libav would."""

    def __init__(self, error):
        self.size, self.error = 1, error

    def demux(self, stream):
        return iter([self])

    def decode(self):
        raise self.error


def test_a_packet_of_a_sound_file_that_fails_now_is_no_reason_to_miscount(sound, media, tmp_path):
    damaged = tmp_path / "damaged.mp4"
    data = bytearray(sound.read_bytes())
    place = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 3
    data[place : place + 1500] = bytes(1500)
    damaged.write_bytes(data)
    assert "do not decode" in probe(damaged).reason
    untimed = replace(media, pts_start=None, pts_step=None, pts=None)
    with pytest.raises(ReadError, match="did when the file was indexed"):
        list(PyAVReader().frames(damaged, [59], untimed))


def test_too_little_memory_is_not_called_damage_but_a_header_that_asks_for_too_much_is(monkeypatch):
    called = []

    def frames():
        packets = Packets(av.error.MemoryError(12, "Cannot allocate memory"))
        return list(emitted(packets, None, lambda packet: None, lambda: called.append(1)))

    assert frames() == []
    assert called == [1]
    monkeypatch.setattr(stream, "_PLENTY", 1 << 60)
    with pytest.raises(MemoryError):
        frames()


def test_a_file_whose_seeks_lead_elsewhere_is_decoded_from_its_start(sound):
    found = probe(sound)
    shifted = tuple(crc ^ (index > 30) for index, crc in zip(found.probe_frames, found.probe_crcs, strict=True))
    judged = judge(sound, replace(found, probe_crcs=shifted))
    assert (judged.reader, judged.timed) == ("pyav", False)
    assert "decoded from its start" in judged.reader_reason


def test_a_title_that_is_not_utf8_is_no_fault(make_video, tmp_path):
    path = tmp_path / "titled.mkv"
    with av.open(str(path), "w") as out, av.open(str(make_video("plain.mp4"))) as source:
        out.metadata["title"] = "Tetitle"
        chosen = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = chosen
                out.mux(packet)
    path.write_bytes(path.read_bytes().replace(b"Tetitle", b"T\xe9title"))
    assert probe(path).status == "ok"


def test_the_packet_before_a_hole_is_not_trusted_and_a_keyframe_ends_the_damage():
    log = DamageLog()
    for pts in range(12):
        log.packet(pts)
        if pts == 5:
            log.error()
        else:
            log.frame(pts, is_key=pts in (0, 8), is_corrupt=False, is_resized=False)
    shown = [pts for pts in range(12) if pts != 5]
    assert [pts for pts, good in zip(shown, log.usable(), strict=True) if good] == [0, 1, 2, 3, 8, 9, 10, 11]
