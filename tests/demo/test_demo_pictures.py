"""The demo's pictures: faces that detectors find, and forgeries that show in the residual and in nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import cv2
import dlib
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dfdet import seeds
from dfdet.demo import motion
from dfdet.demo.corpus import DemoCorpus, make
from dfdet.demo.film import render, shoot
from dfdet.demo.forge import Forger
from dfdet.demo.head import Pose, draw_identity
from dfdet.demo.plan import CRFS, Footage, Settings, plan
from dfdet.demo.render import Head, Light, face_box
from dfdet.demo.scene import Camera

SETTINGS = Settings(12, 10, 0.85, 1, 2, 320, 240)
HIGH_PASS = np.array([[-1, 2, -1], [2, -4, 2], [-1, 2, -1]], dtype=np.float32) / 4


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> DemoCorpus:
    return make(tmp_path_factory.mktemp("pictures") / "demo", identities=12, frames=10, seed=1, workers=2)


@pytest.fixture(scope="module")
def head() -> Head:
    return Head(draw_identity(0, "id000"), 0, 52)


def decode(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def footage_named(case: str, settings: Settings = SETTINGS) -> Footage:
    return next(footage for footage in plan(settings) if footage.case == case and "test/" in footage.item)


def enlarged(frame: np.ndarray) -> np.ndarray:
    return cv2.resize(frame, None, fx=640 / frame.shape[1], fy=640 / frame.shape[1], interpolation=cv2.INTER_LINEAR)


def sampled(corpus: DemoCorpus) -> list[np.ndarray]:
    ordinary = [video for video in corpus.videos if "awkward" not in video.path]
    return [enlarged(decode(corpus.folder / video.path)[index % 10]) for index, video in enumerate(ordinary)]


def test_dlib_finds_the_head_in_ordinary_videos(corpus):
    detector = dlib.get_frontal_face_detector()
    found = [len(detector(frame, 0)) for frame in sampled(corpus)]
    assert np.mean(np.array(found) == 1) >= 0.95


def test_yunet_finds_the_head_in_ordinary_videos(corpus, sample_media):
    model = sample_media / "models" / "face_detection_yunet_2023mar.onnx"
    detector = cv2.FaceDetectorYN.create(str(model), "", (640, 480), 0.6)
    found = [detector.detect(np.ascontiguousarray(frame[..., ::-1]))[1] for frame in sampled(corpus)]
    assert np.mean([faces is not None and len(faces) == 1 for faces in found]) >= 0.95


@pytest.mark.parametrize(("case", "least", "most"), [("two_heads", 2, 2), ("no_head", 0, 0), ("poster", 2, 2)])
def test_awkward_videos_show_as_many_heads_as_their_name_says(corpus, case, least, most):
    detector = dlib.get_frontal_face_detector()
    frames = decode(corpus.folder / "test" / "real" / f"awkward_{case}.mp4")[::3]
    found = [len(detector(enlarged(frame), 0)) for frame in frames]
    assert least <= np.median(found) <= most


def test_a_late_head_is_absent_at_first_and_there_at_last(corpus):
    detector = dlib.get_frontal_face_detector()
    frames = decode(corpus.folder / "test" / "real" / "awkward_late_head.mp4")
    assert not detector(enlarged(frames[0]), 0)
    assert detector(enlarged(frames[-1]), 0)


def test_a_poster_stands_still_beside_a_head_that_moves():
    shot = shoot(footage_named("poster"), SETTINGS)[0].shot
    first, last = shot.frame(0), shot.frame(shot.frames - 1)
    np.testing.assert_array_equal(first[20:150, 12:100], last[20:150, 12:100])
    assert np.abs(first - last)[:, 160:].max() > 50


def test_a_hard_cut_changes_the_whole_picture_between_two_frames(corpus):
    frames = np.array(decode(corpus.folder / "test" / "real" / "awkward_hard_cut.mp4"), dtype=np.float32)
    steps = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    assert steps.argmax() == 4
    assert steps[4] > 4 * np.delete(steps, 4).max()


def test_only_one_of_two_heads_is_forged():
    for real, fake in render(footage_named("two_heads"), SETTINGS):
        assert fake is not None
        changed = np.abs(real - fake).max(axis=2) > 0
        assert changed[:, :150].any()
        assert not changed[:, 170:].any()


@pytest.mark.parametrize("method", ["swap", "reenact"])
def test_a_forgery_changes_the_face_and_not_a_pixel_elsewhere(method):
    footage = next(f for f in plan(SETTINGS) if f.fake and f.fake.method == method and f.case == "ordinary")
    poses = shoot(footage, SETTINGS)[0].shot.actors[0].poses
    for pose, (real, fake) in zip(poses, render(footage, SETTINGS), strict=True):
        assert fake is not None
        outside = np.ones(real.shape[:2], dtype=bool)
        outside[face_box(pose, (320, 240)).window] = False
        np.testing.assert_array_equal(real[outside], fake[outside])
        assert np.abs(real - fake).max() > 10


def residual_share(footage: Footage, frames: list[np.ndarray]) -> float:
    """High-pass energy in the middle of the face over that of the whole frame, mean over frames."""
    poses = shoot(footage, SETTINGS)[0].shot.actors[0].poses
    shares = []
    for pose, frame in zip(poses[::3], frames[::3], strict=True):
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
        residual = np.abs(cv2.filter2D(grey, -1, HIGH_PASS))
        y, x = np.mgrid[:240, :320]
        inside = ((x - pose.x) / 0.6) ** 2 + ((y - pose.y - 0.2 * pose.scale) / 0.75) ** 2 < pose.scale**2
        shares.append(residual[inside].mean() / residual.mean())
    return float(np.mean(shares))


def swap_statistics(corpus: DemoCorpus) -> dict[str, np.ndarray]:
    """One value a video of every footage that was swapped: rows are footages, columns (real, fake)."""
    table: dict[str, list[list[float]]] = {"residual": [], "bytes": [], "brightness": [], "frames": [], "crf": []}
    for footage in plan(SETTINGS):
        if footage.case == "ordinary" and footage.fake is not None and footage.fake.method == "swap":
            paths = [corpus.folder / video.path for video in footage.videos]
            pictures = [decode(path) for path in paths]
            table["residual"].append([residual_share(footage, frames) for frames in pictures])
            table["bytes"].append([path.stat().st_size for path in paths])
            table["brightness"].append([float(np.mean(frames)) for frames in pictures])
            table["frames"].append([len(frames) for frames in pictures])
            table["crf"].append([footage.crf, footage.crf])
    return {key: np.array(values, dtype=float) for key, values in table.items()}


def auroc(values: np.ndarray) -> float:
    return float(roc_auc_score([0, 1] * len(values), values.ravel()))


def test_a_swap_shows_in_the_residual_of_the_face_and_nowhere_else(corpus):
    table = swap_statistics(corpus)
    smoother = table["residual"][:, 1] < table["residual"][:, 0]
    assert smoother.mean() >= 0.9, "against its own footage"
    for crf in CRFS:
        among = table["residual"][table["crf"][:, 0] == crf]
        assert auroc(-among) >= 0.6, f"against other footage at crf {crf}"
    for key in ("bytes", "brightness", "frames"):
        assert 0.35 <= auroc(table[key]) <= 0.65, key


def test_strength_goes_from_hardly_there_to_plain(head):
    """The weaker a forgery, the nearer its noise and detail come to the footage's."""
    pose, light = Pose(160, 112, 52), Light()
    donor = Head(draw_identity(0, "id001"), 0, 52)
    rng = seeds.generator(0, 0, "strength", "test")
    camera = Camera(4.0, rng)
    target = camera.expose(np.full((240, 320, 3), 120, np.float32), camera.field((240, 320)))
    energies = []
    for strength in (0.05, 0.5, 1.0):
        forged = Forger(donor, light, camera, strength, rng).swap(target, pose)[90:150, 135:185].mean(axis=2)
        energies.append(float(np.abs(cv2.filter2D(forged, -1, HIGH_PASS)).mean()))
    assert energies[0] > energies[1] > energies[2]


def test_a_head_out_of_the_picture_is_neither_drawn_nor_forged(head):
    target = np.full((120, 160, 3), 90, np.float32)
    away = Pose(500, 60, 26)
    forger = Forger(head, Light(), Camera(3, seeds.generator(0, 0, 0, "c")), 1.0, seeds.generator(0, 0, 0, "f"))
    np.testing.assert_array_equal(forger.swap(target, away), target)
    np.testing.assert_array_equal(forger.reenact(target, away, 1.0), target)


def test_yaw_moves_the_nose_and_pitch_lowers_it(head):
    """The tip of the nose is the nearest point: positive yaw takes it to the right, positive pitch down."""
    box = face_box(Pose(100, 100, 52), (200, 200))

    def mouth_centre(**turn: float) -> np.ndarray:
        mask = head.face(replace(Pose(100, 100, 52), **turn), Light(), box).mouth
        return np.array(np.nonzero(mask > 0.9)).mean(axis=1)

    straight = mouth_centre()
    assert mouth_centre(yaw=0.3)[1] > straight[1] + 5
    assert mouth_centre(yaw=-0.3)[1] < straight[1] - 5
    assert mouth_centre(pitch=0.2)[0] > straight[0] + 3


def test_light_from_the_left_brightens_the_left(head):
    box = face_box(Pose(100, 100, 52), (200, 200))
    left = head.face(Pose(100, 100, 52), Light((-0.8, -0.3, 0.8)), box).rgb
    right = head.face(Pose(100, 100, 52), Light((0.8, -0.3, 0.8)), box).rgb
    middle = left.shape[1] // 2
    assert left[60:110, 20:middle].mean() > right[60:110, 20:middle].mean()


def test_motion_is_smooth_and_within_what_the_renderer_can_do():
    track = motion.poses(0, "x", 500, motion.Stage(160, 110, 52))
    turns = np.array([(pose.yaw, pose.pitch, pose.roll) for pose in track])
    assert np.abs(turns).max() < np.deg2rad(32)
    assert np.abs(np.diff(turns, axis=0)).max() < np.deg2rad(3)
    assert all(0 <= pose.mouth <= 1 and 0 <= pose.blink <= 1 for pose in track)
    assert max(pose.blink for pose in track) == 1


def test_a_reenacted_mouth_says_something_else():
    track = motion.poses(0, "x", 100, motion.Stage(160, 110, 52))
    new = motion.other_mouth(0, "x", track)
    assert np.mean([abs(pose.mouth - opening) for pose, opening in zip(track, new, strict=True)]) > 0.2
