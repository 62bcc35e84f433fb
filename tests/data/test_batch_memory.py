"""What batch memory promises: used again when nobody holds it, never while somebody does."""

from __future__ import annotations

from dfdet.data.buffers import Buffers
from dfdet.data.clips import ClipSpec


def test_memory_is_used_again_once_its_last_view_is_gone():
    buffers = Buffers()
    first = buffers.take((4, 10))
    place = first.data_ptr()
    view = first[1:].permute(1, 0)
    del first
    assert buffers.take((4, 10)).data_ptr() != place
    del view
    assert buffers.take((4, 10)).data_ptr() == place


def test_batches_that_are_kept_keep_their_content(module_of, content):
    loader = module_of(clip=ClipSpec(2)).train_dataloader()
    kept = list(loader.batches(0))
    before = [content(batch) for batch in kept]
    list(loader.batches(1))
    assert [content(batch) for batch in kept] == before
