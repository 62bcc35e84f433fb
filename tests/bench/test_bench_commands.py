"""Each bench runs to its end on the smallest corpus, prints one table, and writes every figure that it promises."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from dfdet.bench import clips, epochs, feed
from dfdet.bench.clips import Settings, Shape
from dfdet.bench.end_to_end import Way, break_even
from dfdet.bench.memory import Growth, can_look, growth
from dfdet.bench.pipeline import LoaderRun
from dfdet.bench.report import Report
from dfdet.cli import main


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["bench", *arguments]) == 0
    return capsys.readouterr().out


def _figures(path: Path, *names: str) -> dict[str, float]:
    found = json.loads(path.read_text())
    assert found["cpu"]
    assert found["cores"] >= 1
    for name in names:
        assert isinstance(found[name], int | float), name
        assert math.isfinite(found[name]), name
        assert found[name] > 0, name
    return dict(found)


@pytest.mark.slow
def test_bench_loader(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = _run(
        capsys, "loader", "--manifest", str(tiny / "tiny.parquet"), "--clip_length", "2", "--size", "32",
        "--clips_per_visit", "2", "--batch_size", "2", "--visits", "4", "--rounds", "1", "--clips", "16",
        "--store", str(tmp_path / "store"), "--json", str(tmp_path / "figures.json"),
    )  # fmt: skip
    assert out.count("what") == 1
    assert "torch 2" in out
    rates = [f"clips_per_second_{n}" for n in ("loader", "decode", "decord_per_clip", "pyav_pass", "png", "jpeg95")]
    ratios = ["ratio_to_decode", "ratio_to_decord_per_clip", "ratio_to_plain_pass", "ratio_store_to_png"]
    memory = ["rss_start_mib", "rss_end_mib", "rss_ratio"] if can_look() else []
    costs = ["png_hours", "png_gib", "jpeg95_hours", "jpeg95_gib", "store_gib", "augment_ms_icpr"]
    figures = _figures(
        tmp_path / "figures.json", *rates, *ratios, *memory, *costs, "ratio_store_to_memmap", "frames_decoded_per_used",
        "share_decode", "share_transfer",
    )  # fmt: skip
    assert figures["frames_decoded_per_used"] >= 1
    shares = ("open", "decode", "conversion", "crop", "augmentation", "rest", "transfer")
    assert sum(figures[f"share_{name}"] for name in shares) == pytest.approx(1)
    assert figures["clips_compared"] >= 24  # decord, the plain pass and PNG, eight clips each


def test_bench_index(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = tmp_path / "figures.json"
    out = _run(capsys, "index", str(tiny / "corpus"), "--detector", "dlib", "--files", "3", "--json", str(wanted))
    assert out.count("what") == 1
    figures = _figures(wanted, "videos_per_second", "x_real_time_per_core", "share_decoding", "share_detection")
    assert figures["videos"] == 3
    shares = (figures[f"share_{name}"] for name in ("decoding", "detection", "proof", "rest"))
    assert sum(shares) == pytest.approx(1)


def test_bench_end_to_end_scores_the_same_both_ways(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = tmp_path / "figures.json"
    out = _run(
        capsys, "end_to_end", "--manifest", str(tiny / "tiny.parquet"), "--clip_length", "2", "--size", "32",
        "--clips_per_visit", "2", "--batch_size", "4", "--workers", "0", "--json", str(wanted),
    )  # fmt: skip
    assert "break-even" in out
    figures = _figures(wanted, "ratio_time", "ratio_disk", "ratio_time_every_frame", "seconds_png", "disk_mib_png")
    assert figures["auroc_streaming"] == figures["auroc_png"]
    assert figures["ratio_disk"] == pytest.approx(figures["disk_mib_streaming"] / figures["disk_mib_png"])


def test_a_bench_that_is_not_there_and_one_without_a_manifest_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "loadr"]) == 2
    assert "did you mean 'loader'" in capsys.readouterr().err
    assert main(["bench", "loader"]) == 2
    assert "give --manifest" in capsys.readouterr().err
    assert main(["bench", "index", "/nowhere/at/all", "--detector", "dlib"]) == 2
    assert "is no folder" in capsys.readouterr().err


def test_break_even_lies_where_both_ways_have_taken_equally_long() -> None:
    numbers = None
    streaming = Way(0.0, 40.0, 5.0, 1, numbers)  # type: ignore[arg-type]
    extracted = Way(100.0, 20.0, 5.0, 1, numbers)  # type: ignore[arg-type]
    assert break_even(streaming, extracted, epochs=2) == 10.0  # 10 x 20 = 100 + 10 x 10
    as_fast = Way(0.0, 20.0, 5.0, 1, numbers)  # type: ignore[arg-type]
    assert break_even(as_fast, extracted, epochs=2) is None


def _settings(tiny: Path) -> Settings:
    files = clips.choose(tiny / "tiny.parquet", None, None)
    return Settings(files, Shape(2, 32, 2, 2), workers=0, visits=8, rounds=1, memory_clips=16, feed_seconds=0.2)


def test_the_share_of_waiting_is_small_for_ready_batches_and_large_for_slow_ones(tiny: Path) -> None:
    run = LoaderRun(_settings(tiny).module(), Shape(2, 32, 2, 2))
    batches = list(run.loader.batches(0))

    def slow() -> object:
        import time

        while True:
            time.sleep(0.05)
            yield batches[0]

    ready = (batch for _ in range(1000) for batch in batches)
    device, model = torch.device("cpu"), torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(1))
    assert feed.feed(ready, model, device, 0.2).waited < 0.3
    assert feed.feed(slow(), model, device, 0.4).waited > 0.7  # type: ignore[arg-type]


def test_a_timm_network_is_fed_from_the_loader(tiny: Path) -> None:
    settings = _settings(tiny)
    report = Report.titled("fed")
    run = LoaderRun(settings.module(), settings.shape)
    epochs.waiting(report, settings, {"streaming": run}, "test_resnet", torch.device("cpu"))
    assert 0 <= report.keys["cpu_waited_streaming"] < 1


@pytest.mark.skipif(not can_look(), reason="no /proc")
def test_memory_that_grows_is_seen(tiny: Path) -> None:
    class Hoarder:
        def __init__(self) -> None:
            self.kept: list[bytearray] = []

        def batches(self, epoch: int) -> object:
            while True:
                self.kept.append(bytearray(b"x" * (4 << 20)))
                yield None

    grown = growth(Hoarder(), clips=100, batch_size=2, block=4)  # type: ignore[arg-type]
    assert isinstance(grown, Growth)
    # 45 batches of 4 MiB lie between the two stretches
    assert grown.end - grown.start == pytest.approx(45 * 4, rel=0.2)
    assert grown.ratio > 1.05
