"""Batches and a network in, how long the device waited for them out."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from dfdet.data.batch import ClipBatch

WARM_UP = 3  # batches that are not counted: cuDNN chooses, workers start


@dataclass(frozen=True)
class Feed:
    """What training on a device looked like.

    Attributes:
        waited: Share of the time in which the device had nothing to do, 0..1.
        clips_per_second: Clips trained on.
        batches: Batches counted.
    """

    waited: float
    clips_per_second: float
    batches: int


def network(name: str) -> nn.Module:
    """A timm network with one logit, its weights drawn at random."""
    import timm

    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=1)
    return model


def feed(batches: Iterable[ClipBatch], model: nn.Module, device: torch.device, seconds: float) -> Feed:
    """Trains on batches for a while: bfloat16 autocast, every frame of a clip, AdamW.

    On a GPU what the device does is timed on the device itself, so that batches which are made while it works count
    as no waiting; elsewhere by the clock.

    Args:
        batches: At least ``WARM_UP`` + 1.
        model: Float (N, 3, S, S) in, (N, 1) out.
        device: Where it is trained.
        seconds: For how long, about.
    """
    model = model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    spans: list[tuple[float, float]] = []
    events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
    clips, started = 0, 0.0
    for number, batch in enumerate(batches):
        if number == WARM_UP:
            _settle(device)
            started, clips, spans, events = time.perf_counter(), 0, [], []
        begin = time.perf_counter()
        if device.type == "cuda":
            marks = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            marks[0].record()
            _step(model, optimizer, batch.to(device, non_blocking=True))
            marks[1].record()
            events.append(marks)
        else:
            _step(model, optimizer, batch.to(device))
        spans.append((begin, time.perf_counter()))
        clips += len(batch)
        if started and time.perf_counter() - started > seconds:
            break
    _settle(device)
    whole = time.perf_counter() - started
    if device.type == "cuda":
        busy = sum(first.elapsed_time(last) for first, last in events) / 1000
    else:
        busy = sum(b - a for a, b in spans)
    return Feed(max(1 - busy / whole, 0.0), clips / whole, len(spans))


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: ClipBatch) -> None:
    with torch.autocast(batch.video.device.type, dtype=torch.bfloat16):
        frames = batch.video.flatten(0, 1).float() / 255
        logit = model(frames).view(batch.mask.shape).float().mean(1)
    loss = F.binary_cross_entropy_with_logits(logit, batch.label.clamp(min=0).float())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
