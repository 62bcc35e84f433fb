"""Triplets and pairs: which are drawn, what is refused, what each stage trains, and both stages by the command line."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional as F

from dfdet.cli import main
from dfdet.data.batch import ClipBatch
from dfdet.data.module import VideoDataModule
from dfdet.data.sources import Items
from dfdet.detectors import mining
from dfdet.detectors.metric import EfficientNetB4AttSTDetector, TripletDetector, XceptionSTDetector
from dfdet.detectors.siamese import SiameseDetector
from dfdet.errors import UserError
from dfdet.training.workflow import fit
from dfdet.weights import load_weights

torch.set_num_threads(1)


def batch_of(label: list[int], made: list[int] | None = None, size: int = 32) -> ClipBatch:
    count = len(label)
    draw = torch.Generator().manual_seed(0)
    zeros = torch.zeros(count, dtype=torch.int64)
    weight = torch.tensor([1] * count if made is None else made, dtype=torch.float32)
    return ClipBatch(
        video=torch.randint(0, 256, (count, 1, 3, size, size), dtype=torch.uint8, generator=draw),
        mask=(weight > 0)[:, None],
        label=torch.tensor(label),
        weight=weight,
        item=torch.arange(count),
        track=zeros,
        clip=zeros,
        frames=zeros[:, None],
        pad=torch.zeros(count),
        errors=[(i, "lost") for i, there in enumerate(weight) if not there],
    )


def quiet(made):
    made.logged = {}
    made.log = lambda name, value, **_: made.logged.update({name: float(value.detach())})
    return made


def triplet(**options) -> TripletDetector:
    torch.manual_seed(0)
    return quiet(TripletDetector(**({"backbone": "mobilenetv3_small_050", "size": 32} | options)))


def siamese(**options) -> SiameseDetector:
    torch.manual_seed(0)
    return quiet(SiameseDetector(size=32, **options))


MIXED = torch.tensor([1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0])


# What is compared ---------------------------------------------------------------------------------------------------


def kinds_of(rows, label):
    return [tuple(label[row].tolist()) for row in rows]


def test_random_triplets_alternate_and_use_each_clip_once():
    torch.manual_seed(0)
    firsts = set()
    for _ in range(20):
        rows = mining.random_triplets(MIXED)
        assert len(rows) == 4
        assert len(set(rows.flatten().tolist())) == rows.numel()
        kinds = kinds_of(rows, MIXED)
        assert set(kinds[::2]) | set(kinds[1::2]) == {(1, 1, 0), (0, 0, 1)}
        assert len(set(kinds[::2])) == len(set(kinds[1::2])) == 1
        firsts.add(kinds[0])
    assert firsts == {(1, 1, 0), (0, 0, 1)}


@pytest.mark.parametrize("label", [[1, 0], [1, 1, 1, 1], [0]])
def test_where_no_triplet_can_be_formed_none_is(label):
    label = torch.tensor(label)
    assert len(mining.random_triplets(label)) == 0
    assert len(mining.semi_hard_triplets(torch.randn(len(label), 4), label)) == 0
    assert len(mining.fixed_triplets(label, torch.arange(len(label)))) == 0


def test_semi_hard_negatives_are_the_nearest_that_are_farther_than_the_positive():
    place = torch.tensor([[0.0], [1.0], [0.5], [1.5], [9.0]])
    rows = mining.semi_hard_triplets(place, torch.tensor([1, 1, 0, 0, 0])).tolist()
    assert [0, 1, 3] in rows  # 2 is nearer than the positive, 4 farther than needed
    assert [1, 0, 4] in rows
    assert [3, 4, 1] in rows or [3, 4, 0] in rows  # none is farther than 4: the farthest
    assert [3, 4, 0] in rows
    assert len(rows) == 2 + 6


def test_paired_triplets_put_the_mate_as_negative_and_another_video_as_positive():
    torch.manual_seed(0)
    label, item = torch.tensor([1, 0, 1, 0, 1, 0]), torch.tensor([10, 0, 11, 0, 12, 1])
    mate = mining.mates_of(label, torch.ones(6, dtype=torch.bool))
    rows = mining.paired_triplets(label, item, mate)
    assert sorted(rows[:, 0].tolist()) == list(range(6))
    for anchor, positive, negative in rows.tolist():
        assert negative == anchor ^ 1
        assert label[anchor] == label[positive] != label[negative]
        assert item[anchor] != item[positive]


def test_mates_survive_that_a_clip_could_not_be_made():
    label, made = torch.tensor([1, 0, 1, 0, 1, 0]), torch.tensor([1, 1, 0, 1, 1, 1], dtype=torch.bool)
    assert mining.mates_of(label, made).tolist() == [1, 0, -1, 4, 3]
    assert mining.mates_of(torch.tensor([1, 1]), torch.ones(2, dtype=torch.bool)).tolist() == [-1, -1]


def test_drawn_pairs_are_half_a_fake_with_its_real_and_half_of_one_class_from_two_videos():
    torch.manual_seed(0)
    item = torch.arange(12)
    rows = mining.drawn_pairs(MIXED, item, mining.mates_of(MIXED, torch.ones(12, dtype=torch.bool))).tolist()
    negative, positive = [r for r in rows if not r[2]], [r for r in rows if r[2]]
    assert len(negative) == len(positive) == 6
    assert all(second == first ^ 1 for first, second, _ in negative)
    assert all(MIXED[a] == MIXED[b] and item[a] != item[b] for a, b, _ in positive)
    assert {int(MIXED[a]) for a, _, _ in positive} == {0, 1}


def test_fixed_comparisons_are_the_same_each_time_and_never_of_one_video():
    item = torch.tensor([0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    rows = mining.fixed_triplets(MIXED, item)
    assert torch.equal(rows, mining.fixed_triplets(MIXED, item))
    assert rows[:, 0].sort().values.tolist() == list(range(12))
    for anchor, positive, negative in rows.tolist():
        assert MIXED[anchor] == MIXED[positive] != MIXED[negative]
        assert item[anchor] != item[positive]
    pairs = mining.fixed_pairs(MIXED, item, {0: 9, 2: 7}).tolist()
    assert [0, 11, 0] in pairs  # clip 11 is of video 9, from which video 0 was made
    assert [4, 9, 0] in pairs
    assert sum(same for _, _, same in pairs) == len(pairs) // 2


# Stages -------------------------------------------------------------------------------------------------------------


def test_the_triplet_loss_is_torch_s_on_raw_pooled_features():
    made = triplet(margin=0.7).eval()
    batch = batch_of([1, 0] * 4)
    embedding = made.embed(batch)
    torch.testing.assert_close(embedding, made.network.features(made.prepare(batch.video[:, 0])))
    rows = mining.fixed_triplets(batch.label, batch.item)
    expected = torch.nn.TripletMarginLoss(margin=0.7)(*(embedding[column] for column in rows.T))
    torch.testing.assert_close(made.losses(embedding, rows)[0].mean(), expected)


def test_features_of_a_clip_are_the_mean_over_the_frames_that_are_there():
    made, batch = triplet().eval(), batch_of([1, 0, 1])
    longer = ClipBatch(**(vars(batch) | {"video": batch.video.repeat(1, 2, 1, 1, 1)}))
    longer.video[:, 1] = 0
    longer.mask = torch.tensor([[True, False]] * 3)
    torch.testing.assert_close(made.embed(longer), made.embed(batch))


@pytest.mark.parametrize("how", ["random", "semi_hard", "paired"])
def test_a_triplet_stage_trains_the_trunk_alone_and_brings_the_classes_apart(how):
    made = triplet(mining=how, lr=3e-3, drop_path=0.0).train()
    assert not any(p.requires_grad for p in made.network.output.parameters())
    assert all(p.requires_grad for p in made.network.trunk.parameters())
    batch = batch_of([1, 0] * 6)
    optimiser = made.configure_optimizers()
    losses = []
    for _ in range(40):
        loss = made.training_step(batch, 0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    logit = made(batch)  # by the running means, in training mode as they were taken
    assert ((logit > 0) == (batch.label == 1)).float().mean() > 0.9
    assert set(made.logged) == {"train/loss", "train/accuracy"}


def test_before_anything_was_seen_the_logit_is_0_and_then_the_difference_of_the_distances():
    made, batch = triplet().eval(), batch_of([1, 0, 1, 0])
    assert made.predict_step(batch, 0)["logit"].tolist() == [0.0] * 4
    made._follow(made.embed(batch), batch.label)
    embedding = made.embed(batch)
    real, fake = (embedding[batch.label == kind].mean(0) for kind in (0, 1))
    torch.testing.assert_close(made.centroids, torch.stack([real, fake]))
    torch.testing.assert_close(made(batch), (embedding - real).norm(dim=1) - (embedding - fake).norm(dim=1))
    assert {"centroids", "seen"} < set(made.state_dict())


@pytest.mark.parametrize("kind", [triplet, siamese])
@pytest.mark.parametrize("made", [[0, 0, 0, 0, 0, 0], [1, 0, 1, 0, 1, 0], [0, 1, 0, 0, 0, 0]])
def test_a_batch_that_holds_nothing_to_compare_moves_nothing(made, kind):
    detector = kind().train()
    loss = detector.training_step(batch_of([1, 0] * 3, made=made), 0)
    loss.backward()
    assert float(loss.detach()) == 0
    # none must be missing either: processes that train together wait for each
    assert all(float(p.grad.abs().sum()) == 0 for p in detector.parameters() if p.requires_grad)


def test_clips_that_could_not_be_made_reach_neither_loss_nor_means():
    label, made = [1, 0, 1, 0, 1, 0, 1, 0], [1, 1, 0, 1, 1, 0, 1, 1]
    one, other = triplet().train(), triplet().train()
    whole = batch_of(label, made=made)
    torch.manual_seed(1)
    loss = one.training_step(whole, 0)
    torch.manual_seed(1)
    assert torch.equal(loss, other.training_step(whole.select(whole.weight > 0), 0))
    assert torch.equal(one.centroids, other.centroids)


def moved_by_a_step(made, batch):
    before = {k: v.clone() for k, v in made.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in made.parameters() if p.requires_grad], lr=0.1)
    made.training_step(batch, 0).backward()
    optimiser.step()
    return {k for k, v in made.state_dict().items() if not torch.equal(v, before[k])}


def test_the_head_s_stage_starts_from_the_triplets_and_trains_the_head_alone(tmp_path):
    first = triplet()
    torch.save({"state_dict": first.state_dict()}, tmp_path / "first.ckpt")
    with torch.no_grad():
        for parameter in first.network.trunk.parameters():
            parameter.add_(0.01)
    torch.save({"state_dict": first.state_dict()}, tmp_path / "first.ckpt")
    second = triplet(stage="head", weights=str(tmp_path / "first.ckpt"), drop_path=0.5).train()
    for name, value in first.network.trunk.state_dict().items():
        assert torch.equal(second.network.trunk.state_dict()[name], value)
    assert "centroids" not in second.state_dict()
    assert all(name.startswith("network.output.") for name in moved_by_a_step(second, batch_of([1, 0] * 4)))
    assert sum(p.numel() for p in second.parameters() if p.requires_grad) == 3 * second.network.num_features + 1


def test_a_single_clip_of_a_batch_trains_the_head_by_the_stored_statistics():
    detector = triplet(stage="head").train()
    detector.training_step(batch_of([1, 0, 1], made=[0, 1, 0]), 0).backward()
    assert int(detector.network.output[0].num_batches_tracked) == 0
    assert torch.isfinite(detector.network.output[1].weight.grad).all()


def test_drift_lets_the_frozen_trunk_s_statistics_follow_as_the_original_does():
    moved = moved_by_a_step(triplet(stage="head", drift=True).train(), batch_of([1, 0] * 4))
    trunk = {name.rpartition(".")[2] for name in moved if name.startswith("network.trunk")}
    assert trunk == {"running_mean", "running_var", "num_batches_tracked"}


def test_the_head_of_icpr2020dfdc_has_5377_parameters():
    made = EfficientNetB4AttSTDetector(stage="head")
    assert sum(p.numel() for p in made.parameters() if p.requires_grad) == 5_377
    assert made.network.has_attention
    assert sum(p.numel() for p in XceptionSTDetector(stage="head").parameters() if p.requires_grad) == 6_145


@pytest.mark.parametrize("loss", ["bce", "contrastive"])
def test_the_siamese_stages_train_what_they_say(loss, tmp_path):
    batch = batch_of([1, 0] * 4)
    first = siamese(pair_loss=loss).train()
    moved = moved_by_a_step(first, batch)
    trunk = {f"network.{part}.{k}" for part in ("conv1", "conv2", "embedding") for k in ("weight", "bias")}
    pair = {"network.pair.weight", "network.pair.bias"} if loss == "bce" else set()
    mlp = {f"network.{part}.{k}" for part in ("hidden", "output") for k in ("weight", "bias")}
    # a difference of embeddings does not depend on their bias: what moves it is rounding
    rounding = {"network.embedding.bias"}
    assert moved - {"centroids", "seen"} - rounding == (trunk | pair) - rounding
    torch.save({"state_dict": first.state_dict()}, tmp_path / "first.ckpt")
    weights = str(tmp_path / "first.ckpt")
    assert moved_by_a_step(siamese(stage="probe", weights=weights).train(), batch) == mlp
    assert moved_by_a_step(siamese(stage="finetune", weights=weights).train(), batch) == trunk | mlp


def test_a_probe_sees_the_embedding_without_dropout():
    made, batch = siamese(stage="probe").train(), batch_of([1, 0])
    assert torch.equal(made(batch), made(batch))
    tuned = siamese(stage="finetune").train()
    assert not torch.equal(tuned(batch), tuned(batch))


def test_pair_losses_are_the_textbook_s():
    made = siamese()
    embedding, rows = torch.randn(6, 48), torch.tensor([[0, 1, 0], [2, 3, 1], [4, 5, 1]])
    logit = made.network.pair_logit(embedding[rows[:, 0]], embedding[rows[:, 1]])
    expected = F.binary_cross_entropy_with_logits(logit, torch.tensor([0.0, 1, 1]), reduction="none")
    torch.testing.assert_close(made.losses(embedding, rows)[0], expected)
    apart = (embedding[rows[:, 0]] - embedding[rows[:, 1]]).norm(dim=1) * 0.05
    each, right = siamese(pair_loss="contrastive").losses(embedding * 0.05, rows)
    torch.testing.assert_close(each, torch.stack([(1 - apart[0]).clamp(min=0) ** 2, apart[1] ** 2, apart[2] ** 2]))
    assert right.tolist() == [bool(apart[0] >= 0.5), bool(apart[1] < 0.5), bool(apart[2] < 0.5)]


@pytest.mark.parametrize(("kind", "later"), [(triplet, "head"), (siamese, "probe")])
def test_attention_over_frames_comes_with_the_stage_that_trains_it(kind, later):
    with pytest.raises(UserError, match="attention would not be trained; take pool attention in the stage after it"):
        kind(pool="attention")
    assert kind(pool="attention", stage=later).attention is not None


# What cannot be formed ----------------------------------------------------------------------------------------------


def items_of(label: list[int], group: list[str | None]) -> Items:
    count = len(label)
    table = pa.table({
        "group": pa.array(group, pa.string()), "video_id": [f"v{i}" for i in range(count)],
        "status": ["ok"] * count,
    })  # fmt: skip
    zeros = np.zeros(count, np.int64)
    return Items(table, [], [], zeros, np.array(label, np.int8), zeros, zeros, ["x"], [None], [])


def data_of(label, group=None, val=(0, 0, 1, 1), pairs=False, units=((0, 1), (2, 3)), batch_size=8) -> VideoDataModule:
    group = [f"g{i}" for i in range(len(label))] if group is None else group
    stages = {"train": items_of(list(label), list(group)), "val": items_of(list(val), [None] * len(val))}
    found = SimpleNamespace(items=stages.__getitem__, pairs=pairs, batch_size=batch_size, units=lambda: np.array(units))
    return found  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("data", "paired", "said"),
    [
        (data_of([1, 1, 1]), False, "the training split holds 0 real and 3 fake videos"),
        (data_of([1, 0]), False, "holds 1 real and 1 fake videos"),
        (data_of([1, 0, 1, 0], ["ann"] * 4), False, "all 4 training videos are of one identity (ann)"),
        (data_of([1, 0, 1, 0], val=[1, 0]), False, "the validation split holds 1 real and 1 fake"),
        (data_of([1, 0, 1, 0], batch_size=2), False, "a batch of 2 holds no triplets; give --data.batch_size 3"),
        (data_of([1, 0, 1, 0]), True, "data.pairs is not set"),
        (data_of([1, 0, 1, 0], pairs=True, batch_size=2), True, "give --data.batch_size 4"),
        (data_of([1, 0, 1, 0], pairs=True, units=((0, 1), (0, 1))), True, "data.pairs finds one pair"),
    ],
)
def test_what_cannot_be_compared_is_one_line(data, paired, said):
    with pytest.raises(UserError) as raised:
        mining.check_comparable(data, "triplets", paired)
    assert said in str(raised.value)


def test_data_that_can_be_compared_pass():
    mining.check_comparable(data_of([1, 0, 1, 0]), "triplets", False)
    mining.check_comparable(data_of([1, 0, 1], [None] * 3), "triplets", False)
    mining.check_comparable(data_of([1, 0, 1, 0], pairs=True), "pairs", True)


# By the command line ------------------------------------------------------------------------------------------------


def flags(tiny: Path, runs: Path, *more: str, model: str = "metric.TripletDetector") -> list[str]:
    net = ["--model.backbone", "mobilenetv3_small_050"] if "Triplet" in model else []
    return [
        *("--model", f"dfdet.detectors.{model}", *net, "--model.size", "32", "--data.crop.mode", "native"),
        *("--data.train", str(tiny / "tiny.parquet"), "--data.batch_size", "8", "--data.eval_clips", "2"),
        *("--data.num_workers", "0", "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu"),
        *("--runs", str(runs), *more),
    ]


def test_pairs_that_are_not_asked_for_are_refused_before_training_and_leave_no_run(tiny, tmp_path, capsys):
    assert main(["fit", *flags(tiny, tmp_path, "--name", "x", "--model.mining", "paired")]) == 2
    assert "data.pairs is not set; give --config data/pairs.yaml" in capsys.readouterr().err
    assert not (tmp_path / "default/x").exists()


@pytest.mark.slow
def test_both_stages_of_triplets_train_choose_and_test(tiny, tmp_path):
    first = fit(flags(tiny, tmp_path, "--name", "first", "--model.mining", "semi_hard")).run.path
    with (first / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/loss"]]
    assert len(rows) == 2
    assert all(row["val/video_auroc"] and row["val/compared_right"] for row in rows)
    held = torch.load(first / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    assert held["centroids"].abs().sum() > 0
    more = ("--name", "second", "--model.stage", "head", "--model.weights", str(first / "checkpoints/best.ckpt"))
    second = fit(flags(tiny, tmp_path, *more)).run.path
    trained = torch.load(second / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(v, held[k]) for k, v in trained.items() if k.startswith("network.trunk"))
    assert main(["test", "--run", str(first)]) == main(["test", "--run", str(second)]) == 0


@pytest.mark.slow
def test_the_siamese_network_s_three_stages_train_choose_and_load(tiny, tmp_path):
    paired = ("--data.pairs", "true", "--data.balance", "none")
    first = fit(flags(tiny, tmp_path, "--name", "pairs", *paired, model="siamese.SiameseDetector")).run.path
    start = first / "checkpoints/best.ckpt"
    for stage in ("probe", "finetune"):
        more = ("--name", stage, "--model.stage", stage, "--model.weights", str(start))
        fit(flags(tiny, tmp_path, *more, model="siamese.SiameseDetector"))
    load_weights(start, SiameseDetector(size=32).network)
