"""What a crop promises: which pixels, the same for a whole clip, inside the frame wherever that is possible."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from dfdet.data.crop import ARCFACE, apply, apply_region, plan
from dfdet.data.crop_rule import PRESETS, CropSpec, crop_spec
from dfdet.errors import UserError


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def picture(width, height, seed=0):
    """A smooth colour picture given by a formula in relative coordinates, so that it exists at every size."""
    y, x = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
    waves = [np.sin((3 + c + seed) * x * 4) * np.cos((5 - c) * y * 4) for c in range(3)]
    return (127.5 + 120 * np.stack(waves, -1)).round().astype(np.uint8)


def noise(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def crop(spec, frame, cx, cy, h, points=None, window=None):
    made = plan(spec, [cx], [cy], [h], points, frame.shape[1], frame.shape[0], window)
    return apply(made, 0, frame), made


def face(cx, cy, h, roll=0.0, turn=1.0):
    """Five landmarks of a face of height h, rolled by degrees; turn < 1 brings the eyes together as a profile does."""
    flat = np.array([[-0.165, -0.12], [0.165, -0.12], [0, 0.07], [-0.13, 0.24], [0.13, 0.24]]) * [turn, 1]
    return (h * rolled(flat, roll) + [cx, cy])[None]


def rolled(points, degrees):
    a = np.deg2rad(degrees)
    return points @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])


def test_a_native_crop_is_the_frame_s_own_pixels():
    frame = noise(320, 240)
    out, made = crop(CropSpec(mode="native", size=64, scale=1.0), frame, 160, 120, 100)
    assert np.array_equal(out, frame[88:152, 128:192])
    assert made.flags == {"pad": 0.0, "aligned": 0.0}


@pytest.mark.parametrize(("window", "x", "y"), [((0, 0), 110, 70), ((1, 1), 146, 106), ((0.5, 0), 128, 70)])
def test_the_window_moves_a_native_crop_within_the_face(window, x, y):
    frame = noise(320, 240)
    out, _ = crop(CropSpec(mode="native", size=64, scale=1.0), frame, 160, 120, 100, window=window)
    assert np.array_equal(out, frame[y : y + 64, x : x + 64])


def test_a_native_window_larger_than_the_face_is_centred_on_it_wherever_the_window_was_drawn():
    frame = noise(320, 240)
    crops = [
        crop(CropSpec(mode="native", size=64, scale=1.0), frame, 160, 120, 40, window=w)[0] for w in [(0, 1), None]
    ]
    assert np.array_equal(crops[0], frame[88:152, 128:192])
    assert np.array_equal(crops[0], crops[1])


def test_a_square_of_the_wanted_size_is_copied_not_resampled():
    frame = noise(320, 240)
    out, made = crop(CropSpec(scale=1.3, size=130), frame, 150, 120, 100)
    assert np.array_equal(out, frame[55:185, 85:215])
    assert made.region(0) == (85, 55, 130, 130)


def test_the_whole_picture_comes_back_resized_for_a_box_that_is_the_picture():
    frame = picture(96, 96)
    out, _ = crop(CropSpec(scale=1.0, size=48), frame, 48, 48, 96)
    pillow = np.asarray(Image.fromarray(frame).resize((48, 48), Image.Resampling.BILINEAR))
    assert np.abs(out.astype(int) - pillow).max() <= 1
    up, _ = crop(CropSpec(scale=1.0, size=200), frame, 48, 48, 96)
    assert np.array_equal(up, cv2.resize(frame, (200, 200), interpolation=cv2.INTER_CUBIC))


def test_at_the_border_the_square_is_shifted_inside_and_nothing_is_padded(rng):
    for _ in range(200):
        h = rng.uniform(20, 180)
        made = plan(CropSpec(scale=1.3), [rng.uniform(-40, 360)], [rng.uniform(-40, 280)], [h], None, 320, 240)
        x, y, side = made.squares[0]
        assert 0 <= x <= 320 - side
        assert 0 <= y <= 240 - side
        assert made.pad == 0


def test_only_a_square_that_does_not_fit_is_padded_and_its_share_is_told():
    frame = noise(320, 240)
    out, made = crop(CropSpec(scale=1.0, size=300), frame, 160, 120, 300)
    assert made.pad == pytest.approx(60 / 300)
    assert np.array_equal(out[30:270], frame[:, 10:310])
    assert not out[:30].any()
    assert not out[270:].any()
    mirrored, _ = crop(CropSpec(scale=1.0, size=300, pad="reflect"), frame, 160, 120, 300)
    assert np.array_equal(mirrored[:30], frame[30:0:-1, 10:310])
    # near the border as little is padded as can be: the frame is covered along that axis
    assert crop(CropSpec(scale=1.0, size=300), frame, 160, 20, 300)[1].pad == pytest.approx(60 / 300)


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "mesonet"])
def test_a_still_picture_gives_identical_crops_though_its_boxes_jitter(preset, rng):
    frame = noise(320, 240)
    boxes = rng.normal(0, 3, (3, 16)) + np.array([[160], [120], [90]])
    made = plan(crop_spec(preset), *boxes, None, 320, 240)
    crops = [apply(made, t, frame) for t in range(16)]
    assert all(np.array_equal(crops[0], other) for other in crops)
    side = made.squares[0, 2]
    assert side == pytest.approx(PRESETS[preset].scale * np.percentile(boxes[2], 90), abs=0.5)


def test_smoothed_squares_follow_the_face_with_one_side():
    made = plan(CropSpec(scale=1.0, box="smoothed"), [100, 110, 120], [90, 90, 90], [50, 60, 58], None, 320, 240)
    assert made.squares[:, 0].tolist() == [70, 80, 90]
    assert made.squares[:, 2].tolist() == [60, 60, 60]


def test_shift_y_moves_the_crop_down_in_face_heights():
    made = plan(CropSpec(scale=1.0, shift_y=0.1), [160], [120], [100], None, 320, 240)
    assert made.squares[0].tolist() == [110, 80, 100]


@pytest.mark.parametrize("spec", [CropSpec(), CropSpec(align="similarity"), crop_spec("mesonet")])
def test_the_same_face_at_two_frame_sizes_gives_nearly_equal_crops(spec):
    out = []
    for zoom in (1, 2):
        frame = picture(320 * zoom, 240 * zoom)
        cx, cy, h = 150 * zoom, 110 * zoom, 100 * zoom
        out.append(crop(spec, frame, cx, cy, h, face(cx, cy, h, roll=12))[0].astype(int))
    assert np.abs(out[0] - out[1]).mean() < 1.0
    assert np.abs(out[0] - out[1]).max() <= 6


def mark(points, width=640, height=480):
    """A black frame with a soft white dot at every landmark."""
    y, x = np.mgrid[:height, :width] + 0.5
    dots = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / 18) for px, py in points[0])
    return np.repeat((255 * np.clip(dots, 0, 1)).astype(np.uint8)[..., None], 3, -1)


def centre_of_light(image, near, radius=9):
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    weight = image[..., 0] * ((x - near[0]) ** 2 + (y - near[1]) ** 2 < radius**2)
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("roll", [0, 25, -70, 180])
@pytest.mark.parametrize("h", [60, 160, 300])
def test_similarity_puts_the_landmarks_where_the_template_says(roll, h):
    template = (ARCFACE - 0.5) / 1.3 + 0.5
    a = np.deg2rad(roll)
    points = ((template - 0.5) @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) * 1.3 * h + [320, 240])[
        None
    ]
    out, made = crop(CropSpec(align="similarity", size=256), mark(points), 320, 240, h, points)
    assert made.flags["aligned"] == 1
    for eye in range(2):
        assert centre_of_light(out, template[eye] * 256) == pytest.approx(template[eye] * 256, abs=0.6)


def test_one_matrix_a_clip_so_that_jittering_landmarks_do_not_rotate_it(rng):
    points = np.repeat(face(160, 120, 90), 8, axis=0) + rng.normal(0, 2, (8, 5, 2))
    points[3] = np.nan
    made = plan(CropSpec(align="similarity"), [160] * 8, [120] * 8, [90] * 8, points, 320, 240)
    frame = noise(320, 240)
    assert np.array_equal(apply(made, 0, frame), apply(made, 3, frame))


@pytest.mark.parametrize("points", [face(160, 120, 90, turn=0.4), np.full((1, 5, 2), np.nan)])
def test_alignment_falls_back_to_the_box_in_profile_and_without_landmarks(points):
    aligned = plan(CropSpec(align="similarity"), [160], [120], [90], points, 320, 240)
    plain = plan(CropSpec(), [160], [120], [90], None, 320, 240)
    assert aligned.flags["aligned"] == 0
    assert np.array_equal(aligned.squares, plain.squares)


def test_mesonet_s_crop_is_upright_centred_on_the_nose_and_2_86_eye_mouth_distances_wide():
    points = face(320, 240, 150, roll=30)
    out, made = crop(crop_spec("mesonet", size=256), mark(points), 320, 240, 150, points)
    side = 1.3 * 2.2 * 0.36 * 150
    eyes = [centre_of_light(out, (128 + s * 0.165 * 150 * 256 / side, 128 - 0.19 * 150 * 256 / side)) for s in (-1, 1)]
    assert eyes[0][1] == pytest.approx(eyes[1][1], abs=0.7)
    assert eyes[1][0] - eyes[0][0] == pytest.approx(0.33 * 150 * 256 / side, abs=0.7)
    assert centre_of_light(out, (128, 128)) == pytest.approx([128, 128], abs=0.5)
    assert made.pad == 0


@pytest.mark.parametrize("rule", [{"align": "similarity", "pad": "reflect"}, {"preset": "mesonet"}, {"scale": 2.5}])
@pytest.mark.parametrize("place", [(60, 50), (160, 120), (300, 230), (-30, 120), (340, 270)])
def test_the_region_is_all_that_a_crop_needs_of_its_frame(rule, place):
    frame = noise(320, 240)
    out, made = crop(crop_spec(**rule), frame, *place, 110, face(*place, 110, roll=20))
    x, y, width, height = made.region(0)
    assert np.array_equal(apply_region(made, 0, frame[y : y + height, x : x + width]), out)
    if made.matrix is not None:
        pixels = np.c_[made.matrix[:, :2], made.matrix[:, 2] + made.matrix[:, :2] @ [0.5, 0.5] - 0.5]
        how = {"flags": cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REFLECT_101}
        whole = cv2.warpAffine(frame, pixels, (224, 224), **how)
        assert np.abs(whole.astype(int) - out).max() <= 2


def test_shrinking_by_alignment_does_not_alias():
    y, x = np.mgrid[:960, :1280]
    board = np.repeat((((x + y) % 2) * 255).astype(np.uint8)[..., None], 3, -1)
    out, _ = crop(CropSpec(align="similarity", size=64), board, 640, 480, 400, face(640, 480, 400, roll=7))
    assert np.abs(out.astype(int) - 127).max() < 16


def test_mistakes_are_one_line_with_a_remedy():
    with pytest.raises(UserError, match="did you mean 'icpr'"):
        crop_spec("icrp")
    with pytest.raises(UserError, match="did you mean 'shift_y'"):
        crop_spec("ffpp", shifty=1)
    with pytest.raises(UserError, match="did you mean 'reflect'"):
        crop_spec(pad="reflekt")
    with pytest.raises(UserError, match="choose one of the two"):
        crop_spec("mesonet", mode="native")
    with pytest.raises(UserError, match="needs landmarks"):
        plan(crop_spec("mesonet"), [10], [10], [10], None, 64, 64)
    with pytest.raises(ValueError, match="finite"):
        plan(crop_spec(), [np.nan], [10], [10], None, 64, 64)
    with pytest.raises(ValueError, match="meets a plan"):
        apply(plan(crop_spec(), [10], [10], [10], None, 64, 64), 0, noise(32, 32))
