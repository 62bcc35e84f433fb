"""Both detectors find real faces, in the pixels of the full-size frame, and agree on where they are."""

from __future__ import annotations

import json

import av
import cv2
import numpy as np
import pytest

from dfdet.errors import UserError
from dfdet.faces.boxes import as_array, from_dlib, iou, resized
from dfdet.faces.detector import DETECTORS, DetectorSettings, choose, open_detector, retry_settings
from dfdet.faces.dlib_hog import DEFAULT_SCORE as DLIB_SCORE
from dfdet.faces.pose import yaw
from dfdet.faces.yunet import DEFAULT_SCORE as YUNET_SCORE


def frames(path, indices):
    wanted = set(indices)
    with av.open(str(path)) as container:
        for i, frame in enumerate(container.decode(video=0)):
            if i in wanted:
                yield frame.to_ndarray(format="rgb24")
            if i >= max(wanted):
                return


@pytest.fixture(scope="module")
def model(sample_media):
    return sample_media / "models" / "face_detection_yunet_2023mar.onnx"


@pytest.fixture(scope="module")
def yunet(model):
    return open_detector(choose("yunet", model))


@pytest.fixture(scope="module")
def video_frames(sample_media):
    path = sample_media / "faceforensics/original_sequences/youtube/c23/videos/519.mp4"
    return list(frames(path, range(0, 50, 10)))


@pytest.fixture(scope="module")
def crops(sample_media):
    files = sorted((sample_media / "dfdc_faces" / "real").glob("*.jpg"))[:20]
    return [cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB) for file in files]


@pytest.mark.data
def test_yunet_finds_the_face_of_every_frame_with_points_inside_its_box(yunet, video_frames):
    for rgb in video_frames:
        (face,) = yunet.detect(rgb)
        assert face.score > 0.9
        assert face.points.shape == (5, 2)
        assert face.points.dtype == np.float32
        inside = (face.points > (face.x, face.y)) & (face.points < (face.x + face.w, face.y + face.h))
        assert inside.all()
        right_eye, left_eye, _, right_mouth, left_mouth = face.points
        assert right_eye[0] < left_eye[0], "the subject's right eye lies left in the image"
        assert right_mouth[1] > right_eye[1]
        assert left_mouth[1] > left_eye[1]


@pytest.mark.data
def test_yunet_finds_the_face_in_crops_of_dfdc(yunet, crops):
    assert all(yunet.detect(rgb) for rgb in crops)


@pytest.mark.data
def test_nothing_is_found_in_an_empty_frame(yunet):
    assert yunet.detect(np.full((240, 320, 3), 127, np.uint8)) == []
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    assert yunet.detect(noise) == []
    assert open_detector(choose("dlib")).detect(noise) == []


@pytest.mark.data
def test_a_detector_takes_rgb_and_hands_bgr_to_opencv(model, crops):
    detector = open_detector(DetectorSettings("yunet", size=224, model=str(model)))
    plain = cv2.FaceDetectorYN.create(str(model), "", (224, 224), 0.6, 0.3, 5000)
    for rgb in crops[:5]:
        expected = plain.detect(np.ascontiguousarray(rgb[..., ::-1]))[1][0]
        face = detector.detect(rgb)[0]
        assert face.score == expected[14]
        assert (face.x, face.y, face.w, face.h) == pytest.approx(expected[:4])
    ours = np.mean([detector.detect(rgb)[0].score for rgb in crops])
    swapped = np.mean([detector.detect(np.ascontiguousarray(rgb[..., ::-1]))[0].score for rgb in crops])
    assert ours > swapped


@pytest.mark.parametrize("name", ["yunet", "dlib"])
@pytest.mark.data
def test_boxes_are_pixels_of_the_full_size_frame(model, video_frames, name):
    detector = open_detector(choose(name, model if name == "yunet" else None))
    rgb = video_frames[0]  # 640 x 480
    doubled = cv2.resize(rgb, (1280, 960), interpolation=cv2.INTER_LINEAR)
    small, large = as_array(detector.detect(rgb)), as_array(detector.detect(doubled))
    assert iou(small * 2, large)[0, 0] > 0.9


@pytest.mark.data
def test_dlib_and_yunet_agree_once_mapped_to_the_common_box(yunet, video_frames):
    # 17 clips, 687 faces: IoU mean .79, 1st percentile .59; dlib's sizes come in steps of 6/5
    dlib = open_detector(choose("dlib"))
    overlaps, heights = [], []
    for rgb in video_frames:
        a, b = dlib.detect(rgb), yunet.detect(rgb)
        assert len(a) == len(b) == 1
        assert a[0].points is None
        overlaps.append(iou(as_array(a), as_array(b))[0, 0])
        heights.append(a[0].h / b[0].h)
    assert min(overlaps) > 0.58
    assert np.mean(overlaps) > 0.7
    assert np.mean(heights) == pytest.approx(1, abs=0.12)


def test_dlibs_square_becomes_the_common_box():
    face = from_dlib(100, 100, 83, 1.5)
    assert (face.w, face.h) == pytest.approx((73.5, 100))
    assert (face.x + face.w / 2, face.y + face.h / 2) == pytest.approx((141.5, 141.5 - 6))


def test_a_frame_is_brought_to_its_long_side_in_both_directions():
    small, sx, sy = resized(np.zeros((1080, 1920, 3), np.uint8), 640)
    assert (small.shape, sx, sy) == ((360, 640, 3), 3, 3)
    large, sx, sy = resized(np.zeros((320, 160, 3), np.uint8), 640)
    assert (large.shape, sx, sy) == ((640, 320, 3), 0.5, 0.5)
    assert resized(np.zeros((4, 4000, 3), np.uint8), 640)[0].shape == (1, 640, 3)
    with pytest.raises(ValueError, match="uint8"):
        resized(np.zeros((8, 8, 3), np.float32), 640)


def test_overlap_of_boxes():
    a = np.array([[0, 0, 2, 2]])
    b = np.array([[1, 0, 2, 2], [0, 0, 2, 2], [5, 5, 1, 1]])
    assert iou(a, b)[0] == pytest.approx([1 / 3, 1, 0])
    assert iou(a, np.zeros((0, 4))).shape == (1, 0)


@pytest.mark.data
def test_the_identity_is_json_and_names_what_decides_the_boxes(model):
    settings = choose("yunet", model)
    identity = settings.identity()
    assert json.loads(json.dumps(identity)) == identity
    assert identity["model_sha256"].startswith("8f2383e4")
    assert identity["score"] == YUNET_SCORE == DETECTORS["yunet"].score
    assert str(model) not in json.dumps(identity), "where a file lies decides nothing"
    assert identity != DetectorSettings("yunet", size=320, model=str(model)).identity()
    dlib = choose("dlib").identity()
    assert (dlib["name"], dlib["score"], dlib["model_sha256"]) == ("dlib", DLIB_SCORE, None)
    assert DETECTORS["dlib"].score == DLIB_SCORE


@pytest.mark.data
def test_the_second_try_is_larger_and_less_strict_and_there_is_no_third(model):
    first = DetectorSettings("yunet", model=str(model))
    second = retry_settings(first)
    assert (second.size, second.threshold, second.model) == (1280, 0.5, str(model))
    assert retry_settings(second) is None
    assert retry_settings(retry_settings(DetectorSettings("dlib"))) is None


def test_a_wrong_detector_or_size_is_the_users_mistake():
    with pytest.raises(UserError, match="did you mean 'yunet'"):
        DetectorSettings("yunnet")
    with pytest.raises(UserError, match="size"):
        DetectorSettings("dlib", size=10)


def test_a_file_that_is_no_model_is_refused(tmp_path, capsys):
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(b"not a network")
    settings = choose("yunet", wrong)
    assert "none of the known YuNet models" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"cannot load .*wrong\.onnx"):
        open_detector(settings)


def test_yaw_is_zero_ahead_follows_the_nose_and_ignores_roll():
    ahead = np.array([[-1, 0], [1, 0], [0, 1], [-0.8, 2], [0.8, 2]], np.float64)
    turned = ahead + np.array([[0, 0], [0, 0], [0.4, 0], [0, 0], [0, 0]])  # a fifth of the eye distance
    assert yaw(ahead) == pytest.approx(0)
    assert yaw(turned) == pytest.approx(25)
    angle = np.radians(30)
    roll = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    assert yaw(40 * turned @ roll + 100) == pytest.approx(25)
    assert yaw(np.stack([ahead, turned])) == pytest.approx([0, 25])
    assert np.isnan(yaw(np.zeros((5, 2))))


@pytest.mark.data
def test_the_mirror_image_looks_the_other_way(yunet, video_frames):
    rgb = video_frames[0]
    mirrored = np.ascontiguousarray(rgb[:, ::-1])
    here, there = (float(yaw(yunet.detect(image)[0].points)) for image in (rgb, mirrored))
    assert here == pytest.approx(-there, abs=4)
