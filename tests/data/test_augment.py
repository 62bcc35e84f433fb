"""What an augmentation promises: one draw a clip, a function of the key alone, and the clip's shape."""

from __future__ import annotations

import hashlib
import multiprocessing
import pickle
import subprocess
import sys

import numpy as np
import pytest

from dfdet import seeds
from dfdet.data.augment import PRESETS, Augment
from dfdet.errors import UserError

ALTERING = [name for name in PRESETS if name != "none"]


@pytest.fixture(scope="module")
def clip():
    """Four identical frames with structure, colour and noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    frame = np.stack([x * 3 + 20, y * 3 + 10, (x + y) + 60], -1) + rng.normal(0, 8, (64, 64, 3))
    return np.repeat(frame.clip(0, 255).astype(np.uint8)[None], 4, axis=0)


def digest(clips):
    return hashlib.sha256(b"".join(clip.tobytes() for clip in clips)).hexdigest()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("per_frame_noise", [False, True])
def test_every_preset_keeps_shape_and_type(preset, per_frame_noise, clip):
    augment = Augment(preset, per_frame_noise)
    for key in range(12):
        out = augment(np.ascontiguousarray(clip[:, :48]), key)
        assert out.shape == (4, 48, 64, 3)
        assert out.dtype == np.uint8
        assert out.flags.c_contiguous


@pytest.mark.parametrize("preset", PRESETS)
def test_one_draw_holds_for_all_frames(preset, clip):
    augment = Augment(preset)
    for key in range(24):
        out = augment(clip, key)
        assert all(np.array_equal(out[0], frame) for frame in out[1:])


@pytest.mark.parametrize("preset", ALTERING)
def test_a_draw_is_a_function_of_the_key_alone(preset, clip):
    augment = Augment(preset)
    forward = [augment(clip, key) for key in range(16)]
    backward = [augment(clip, key) for key in reversed(range(16))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forward, backward, strict=True))
    assert len({out.tobytes() for out in forward}) >= (2 if preset == "flip" else 8)


def test_keys_that_differ_in_their_high_bits_alone_draw_differently(clip):
    augment = Augment("mesonet")
    assert not np.array_equal(augment(clip, 5), augment(clip, 5 + (1 << 100)))


def test_two_epochs_draw_differently(clip):
    augment = Augment("icpr")
    epochs = [[augment(clip, seeds.key(1, epoch, f"video{i}", "augment")) for i in range(8)] for epoch in range(2)]
    differ = [not np.array_equal(a, b) for a, b in zip(*epochs, strict=True)]
    assert sum(differ) >= 6


def test_steps_of_one_list_happen_independently_of_each_other(clip):
    # set_random_seed(), which gives every step the same stream, makes this 0 or 1
    steps = [{"class": "HorizontalFlip", "p": 0.5}, {"class": "VerticalFlip", "p": 0.5}]
    seen = {Augment(steps)(clip, key).tobytes() for key in range(40)}
    assert len(seen) == 4


def work(job):
    augment, clip, key = job
    return augment(clip, key)


def test_workers_and_fresh_processes_draw_what_the_main_process_draws(clip):
    keys = [seeds.key(7, 0, i, "augment") for i in range(8)]
    augment = Augment("icpr", per_frame_noise=True)
    here = digest([augment(clip, key) for key in keys])
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert digest(pool.map(work, [(augment, clip, key) for key in keys], chunksize=1)) == here
    code = (
        "import hashlib, pickle, sys; from dfdet.data.augment import Augment\n"
        "clip, keys = pickle.load(sys.stdin.buffer); augment = Augment('icpr', per_frame_noise=True)\n"
        "clips = [augment(clip, key) for key in keys[::-1]][::-1]\n"
        "print(hashlib.sha256(b''.join(each.tobytes() for each in clips)).hexdigest())"
    )
    fresh = [
        subprocess.run([sys.executable, "-c", code], input=pickle.dumps((clip, keys)), capture_output=True, check=True)
        for _ in range(2)
    ]
    assert {run.stdout.decode().strip() for run in fresh} == {here}


@pytest.mark.parametrize(
    ("name", "arguments"), [("GaussNoise", {"std_range": [0.05, 0.05]}), ("ISONoise", {}), ("ShotNoise", {})]
)
def test_per_frame_noise_draws_a_fresh_field_of_the_same_strength(name, arguments, clip):
    step = {"class": name, "p": 1.0, **arguments}
    still, moving = Augment([step])(clip, 3), Augment([step], per_frame_noise=True)(clip, 3)
    noise = moving.astype(float) - clip
    assert np.array_equal(still[0], moving[0])
    assert not np.array_equal(moving[0], moving[1])
    assert noise.std((1, 2, 3)) == pytest.approx(noise[0].std(), rel=0.15)
    unlike = [np.corrcoef(noise[a].ravel() - noise[a].mean(), noise[b].ravel())[0, 1] for a, b in [(0, 1), (1, 3)]]
    assert max(unlike) < (0.5 if name == "ISONoise" else 0.1)  # ISONoise shifts the hue as well: once a clip


def test_per_frame_noise_leaves_geometry_and_colour_to_the_clip(clip):
    for key in range(6):
        assert np.array_equal(Augment("mesonet", True)(clip, key), Augment("mesonet")(clip, key))


def test_a_built_augmentation_pickles_small_and_draws_the_same(clip):
    augment = Augment("icpr")
    before = augment(clip, 11)
    data = pickle.dumps(augment)
    assert len(data) < 4000
    assert np.array_equal(pickle.loads(data)(clip, 11), before)


def test_albumentations_is_not_imported_before_it_is_needed_and_never_phones_home():
    code = (
        "import sys, socket\n"
        "def refuse(*a, **k): raise SystemExit('phoned home')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "import numpy as np; from dfdet.data.augment import Augment\n"
        "a = Augment('flip'); assert 'albumentations' not in sys.modules\n"
        "a(np.zeros((1, 8, 8, 3), np.uint8), 1); assert 'albumentations' in sys.modules"
    )
    run = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_the_flip_preset_flips_half_of_the_clips(clip):
    augment = Augment("flip")
    flipped = [np.array_equal(augment(clip, key), clip[:, :, ::-1]) for key in range(400)]
    assert 160 <= sum(flipped) <= 240


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("icrp", "did you mean 'icpr'"),
        ([{"class": "HorizontalFlop"}], "did you mean 'HorizontalFlip'"),
        ([{"class": "GaussNoise", "std_rang": [0, 1]}], "did you mean 'std_range'"),
        ([{"class": "ImageCompression", "quality_range": [500, 900]}], "ImageCompression: quality_range"),
        ([{"class": "BasicTransform"}], "BasicTransform"),
        ([{"p": 0.5}], "has no class"),
        ([{"class": "OneOf", "p": 0.5}], "has no transforms"),
        ([{"class": "OneOf", "transforms": [{"class": "Blurr"}]}], "Blur"),
    ],
)
def test_mistakes_are_told_when_the_augmentation_is_made(wrong, words):
    with pytest.raises(UserError, match=words):
        Augment(wrong)


@pytest.mark.parametrize("step", [{"class": "Resize", "height": 8, "width": 8}, {"class": "Normalize"}])
def test_a_step_that_changes_size_or_type_is_refused(step, clip):
    with pytest.raises(UserError, match="size or the type"):
        Augment([{**step, "p": 1.0}])(clip, 0)
