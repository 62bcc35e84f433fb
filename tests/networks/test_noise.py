"""What noise residuals and the networks on them promise."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dfdet.networks.noise import Noise3D, NoiseGRU, residual

torch.set_num_threads(1)
KINDS = ["signed", "abs", "uint8_wrap"]
# of the last two, OpenCV rounds the weights otherwise than each by itself
BLURS = [(3, 0.8), (9, 2.0), (5, 1.28), (7, 0.89)]
NETWORKS = [
    Noise3D,
    lambda **o: Noise3D(head="flatten", **o),
    lambda **o: NoiseGRU(**{k: v for k, v in o.items() if k == "residual"}),
]
NAMES = ["gap", "flatten", "gru"]


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def pictures(sample_media, pattern, size, step=1):
    """Real crops resized as the papers' codes do, uint8 (N, S, S, 3)."""
    paths = sorted(p for p in sample_media.glob(pattern) if p.suffix in (".jpg", ".png"))[::step]
    opened = (np.asarray(Image.open(path).convert("RGB")) for path in paths)
    return np.stack([cv2.resize(picture, (size, size), interpolation=cv2.INTER_LINEAR) for picture in opened])


@pytest.fixture(scope="module")
def faces(sample_media):
    """MesoNet's four test images, the ones that the levels below were measured on, at 100 pixels."""
    return pictures(sample_media, "weights/mesonet/test_images/*/*", 100)


def tensor(pictures):
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def draw(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).float()


# The residual -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "sigma"), BLURS)
def test_the_blur_is_opencv_s(faces, kernel, sigma):
    blurred = np.stack([cv2.GaussianBlur(face.astype(np.float32), (kernel, kernel), sigma) for face in faces])
    difference = faces - blurred
    for kind, expected in (("signed", difference), ("abs", np.abs(difference))):
        ours = residual(tensor(faces), kind, kernel, sigma).numpy()
        np.testing.assert_allclose(ours, expected.mean(3), atol=1e-3)


@pytest.mark.parametrize(("kernel", "sigma"), BLURS)
def test_the_wrapped_one_is_numpy_s_on_opencv_s_uint8_blur_to_the_bit(faces, kernel, sigma):
    everything = np.concatenate([faces, draw(4, 100, 100, 3).numpy().astype(np.uint8)])
    wrapped = np.stack([face - cv2.GaussianBlur(face, (kernel, kernel), sigma) for face in everything])
    assert wrapped.dtype == np.uint8
    ours = residual(tensor(everything), "uint8_wrap", kernel, sigma).numpy()
    assert np.array_equal(ours, wrapped.astype(np.float32).mean(3))


def test_real_crops_have_the_levels_that_the_specification_measured(faces):
    # signed at most .07, absolute 2.3-12, wrapped 80-124, over kernels of 3 to 17 pixels with OpenCV's own sigma
    signed, absolute, wrapped = [], [], []
    for kernel, sigma in ((3, 0.85), (5, 1.1), (9, 1.7), (17, 2.9)):
        for kind, into in zip(KINDS, (signed, absolute, wrapped), strict=True):
            into += residual(tensor(faces), kind, kernel, sigma).mean((1, 2)).tolist()
    assert max(map(abs, signed)) < 0.07
    assert 2.2 < min(absolute) < max(absolute) < 12.5
    assert 79 < min(wrapped) < max(wrapped) < 124


def test_the_wrapped_mean_counts_negative_pixels(faces):
    negative = np.stack([face < cv2.GaussianBlur(face, (3, 3), 0.8) for face in faces]).mean((1, 2, 3))
    wrapped = residual(tensor(faces), "uint8_wrap").mean((1, 2)).numpy()
    np.testing.assert_allclose(wrapped, 256 * negative, atol=0.2)


def test_small_faces_enlarged_come_near_the_published_level(sample_media):
    # the paper prints 49-55 a face; 30 pixels enlarged to 100 give the order, sharp crops do not
    small = pictures(sample_media, "dfdc_crops/**/*", 30, step=3)
    large = np.stack([cv2.resize(face, (100, 100), interpolation=cv2.INTER_CUBIC) for face in small])
    level = residual(tensor(large), "uint8_wrap").mean((1, 2))
    assert 40 < level.median() < 60
    assert residual(tensor(large), "signed").mean((1, 2)).abs().max() < 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_flat_pictures_have_no_noise_not_even_at_the_border(kind):
    for level in (0, 1, 127, 255):
        # the weights of a float blur sum to 1 up to its last bits
        assert residual(torch.full((1, 3, 9, 9), float(level)), kind).abs().max() < 1e-4


def test_colours_are_averaged_after_the_difference():
    one = torch.zeros(1, 3, 5, 5)
    one[0, 0, 2, 2], one[0, 1, 2, 2] = 90, -90
    assert residual(one, "signed").abs().max() < 1e-5
    assert residual(one, "abs")[0, 2, 2] > 30


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_axes_may_stand_in_front_and_autocast_changes_nothing(kind):
    video = draw(2, 4, 3, 12, 10)
    noise = residual(video, kind)
    assert (noise.shape, noise.dtype) == ((2, 4, 12, 10), torch.float32)
    assert torch.equal(noise[1, 2], residual(video[1, 2][None], kind)[0])
    assert torch.equal(noise, residual(video.to(torch.uint8), kind))
    with torch.autocast("cpu", torch.bfloat16):
        under = residual(video, kind)
    assert under.dtype == torch.float32
    assert torch.equal(noise, under)


@pytest.mark.parametrize(
    ("shape", "options", "said"),
    [
        ((1, 1, 8, 8), {}, "3, H, W"),
        ((3, 8, 8), {}, "3, H, W"),
        ((1, 3, 8, 8), {"kind": "uint8"}, "none of signed, abs, uint8_wrap"),
        ((1, 3, 8, 8), {"kernel": 4}, "odd"),
        ((1, 3, 8, 8), {"sigma": 0.0}, "above 0"),
        ((1, 3, 8, 4), {"kernel": 9}, "too small for a blur of 9"),
    ],
)
def test_wrong_pictures_and_blurs_are_told(shape, options, said):
    with pytest.raises(ValueError, match=said):
        residual(torch.zeros(shape), **options)


# The networks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "count"), [(Noise3D(), 12_689), (Noise3D(head="flatten"), 212_681), (NoiseGRU(), 3_393)], ids=NAMES
)
def test_parameter_counts(network, count):
    assert parameters(network) == count


@pytest.mark.parametrize("frames", [1, 32])
@pytest.mark.parametrize("make", NETWORKS, ids=NAMES)
def test_one_logit_a_clip_at_any_length_also_in_bfloat16(make, frames):
    network = make(frames=frames, size=24)
    video, mask = draw(2, frames, 3, 24, 24), torch.ones(2, frames, dtype=torch.bool)
    assert (network(video, mask).shape, network(video, mask).dtype) == ((2,), torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(network(video, mask)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", NETWORKS, ids=NAMES)
def test_every_parameter_gets_a_gradient(make, kind):
    torch.manual_seed(1)
    network = make(frames=4, size=16, residual=kind)
    (network(draw(3, 4, 3, 16, 16), torch.ones(3, 4, dtype=torch.bool)) * torch.arange(1.0, 4)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize("make", NETWORKS, ids=NAMES)
def test_one_clip_s_logit_does_not_depend_on_its_neighbours(make):
    network = make(frames=6, size=16).eval()
    video, mask = draw(3, 6, 3, 16, 16), torch.ones(3, 6, dtype=torch.bool)
    mask[1, 4:] = False
    alone = torch.cat([network(video[i : i + 1], mask[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(video, mask), alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("there", [1, 4, 5])
@pytest.mark.parametrize("make", NETWORKS, ids=NAMES)
def test_what_stands_behind_the_last_frame_changes_nothing(make, there):
    network = make(frames=8, size=16)
    video, other = draw(2, 8, 3, 16, 16), draw(2, 8, 3, 16, 16, seed=1)
    other[:, :there] = video[:, :there]
    mask = torch.zeros(2, 8, dtype=torch.bool)
    mask[:, :there] = True
    assert torch.equal(network(video, mask), network(other, mask))
    assert not torch.equal(network(video, mask), network(video, torch.ones_like(mask)))


@pytest.mark.parametrize("there", [1, 4, 5])
@pytest.mark.parametrize("make", [NETWORKS[0], NETWORKS[2]], ids=["gap", "gru"])
def test_a_padded_clip_scores_as_the_short_one_does(make, there):
    network = make(frames=8, size=16)
    video, mask = draw(2, 8, 3, 16, 16), torch.zeros(2, 8, dtype=torch.bool)
    mask[:, :there] = True
    torch.testing.assert_close(network(video, mask), network(video[:, :there], mask[:, :there]))


def test_the_gru_is_torch_s_on_packed_sequences():
    network = NoiseGRU()
    video, lengths = draw(3, 7, 3, 12, 12), torch.tensor([7, 2, 5])
    mask = torch.arange(7) < lengths[:, None]
    means = residual(video, "abs").mean((2, 3))[:, :, None] / 10
    packed = nn.utils.rnn.pack_padded_sequence(means, lengths, batch_first=True, enforce_sorted=False)
    expected = network.output(network.gru(packed)[1][0])[:, 0]
    torch.testing.assert_close(network(video, mask), expected)


@pytest.mark.parametrize("make", NETWORKS, ids=NAMES)
def test_a_clip_without_a_frame_scores_0_and_teaches_nothing(make):
    network = make(frames=4, size=16)
    video, mask = draw(2, 4, 3, 16, 16), torch.tensor([[True] * 4, [False] * 4])
    assert network(video, mask)[1] == 0
    network(video, mask)[1].backward()
    assert all(p.grad is None or not p.grad.any() for p in network.parameters())


def test_other_clips_than_the_flattened_head_s_and_wrong_settings_are_told():
    network = Noise3D(frames=6, size=16, head="flatten")
    for shape in ((1, 5, 3, 16, 16), (1, 6, 3, 18, 18)):
        with pytest.raises(ValueError, match="meets a network for 6 x 16 x 16"):
            network(torch.zeros(shape), torch.ones(shape[:2], dtype=torch.bool))
    for wrong in ({"head": "mean"}, {"frames": 0}, {"size": 2}, {"residual": "log"}, {"kernel": 2}):
        with pytest.raises(ValueError):
            Noise3D(**wrong)
    for wrong in ({"hidden": 0}, {"residual": "log"}):
        with pytest.raises(ValueError):
            NoiseGRU(**wrong)


@pytest.fixture(scope="module")
def clips(sample_media):
    """Eight clips of four real crops each, float (8, 4, 3, 32, 32): every other one blurred."""
    found = pictures(sample_media, "dfdc_faces/**/*", 64, step=130)[:32, 16:48, 16:48]
    video = torch.from_numpy(found).permute(0, 3, 1, 2).unflatten(0, (8, 4)).float()
    return video, torch.tensor([0.0, 1.0] * 4)


@pytest.mark.parametrize("make", NETWORKS, ids=NAMES)
def test_it_learns_eight_clips_of_real_crops(make, clips):
    video, labels = clips
    blurred = video.flatten(0, 1).numpy().transpose(0, 2, 3, 1)
    blurred = np.stack([cv2.GaussianBlur(face, (3, 3), 0.8) for face in blurred]).transpose(0, 3, 1, 2)
    seen = torch.where(labels[:, None, None, None, None] == 1, torch.from_numpy(blurred).view_as(video), video)
    torch.manual_seed(0)
    network = make(frames=4, size=32)
    mask = torch.ones(8, 4, dtype=torch.bool)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(250):
        loss = nn.functional.binary_cross_entropy_with_logits(network(seen, mask), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if loss < 0.1:
            break
    assert loss < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("make", NETWORKS, ids=NAMES)
def test_it_compiles(make):
    network = make(frames=6, size=16).eval()
    video, mask = draw(2, 6, 3, 16, 16), torch.ones(2, 6, dtype=torch.bool)
    mask[1, 4:] = False
    torch.testing.assert_close(torch.compile(network)(video, mask), network(video, mask), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("make", NETWORKS, ids=NAMES)
def test_onnx_answers_alike_at_another_batch_size(make, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network = make(frames=6, size=16, residual="uint8_wrap").eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    video, mask = draw(3, 6, 3, 16, 16), torch.arange(6) < torch.tensor([6, 1, 4])[:, None]
    shapes = ({0: batch}, {0: batch})
    program = torch.onnx.export(network, (video[:2], mask[:2]), dynamo=True, dynamic_shapes=shapes, verbose=False)
    program.save(tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    given = {i.name: t.numpy() for i, t in zip(session.get_inputs(), (video, mask), strict=True)}
    with torch.no_grad():
        np.testing.assert_allclose(session.run(None, given)[0], network(video, mask).numpy(), atol=1e-5)
