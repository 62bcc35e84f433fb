"""What was put into a store comes out bit for bit, is found fast, and is never mixed with what was made otherwise."""

import multiprocessing
import pickle
import time
import tracemalloc
import zlib

import numpy as np
import pyarrow as pa
import pytest
from store_clips import S, T, assert_holds, fill, key, names, pixels, spec

from dfdet.errors import UserError
from dfdet.store import CropStore, StoreSpec, reading, shards

FORK = multiprocessing.get_context("fork")


def run(target, *arguments):
    process = FORK.Process(target=target, args=arguments)
    process.start()
    process.join(30)
    return process.exitcode


def test_what_was_put_in_comes_out(filled):
    store = CropStore.open(filled, spec())
    assert len(store) == 25
    assert_holds(store, range(25))
    assert store.find(key(25)) is None
    assert not store.clip(0).pixels.flags.writeable
    assert store.clip(0).pixels.dtype == np.uint8
    assert store.clip(0).frames.dtype == np.int64


def test_records_begin_at_64_bytes_and_shards_end_where_they_are_full(filled):
    indices = [shards.read_index(p, spec()) for p in shards.indices(filled)]
    assert [len(i) for i in indices] == [10, 10, 5]
    assert all((i.column("offset") % 64 == 0).all() for i in indices)
    assert len(names(filled)) == 1 + 2 * 3


def test_a_clip_is_there_when_its_shard_is_finished(tmp_path):
    store = CropStore.open(tmp_path, spec())
    writer = store.writer()
    fill(writer, range(4))
    assert store.refresh() == 0
    writer.flush()
    assert store.refresh() == 4
    fill(writer, range(4, 6))
    writer.close()
    first = store.find(key(2))
    assert store.refresh() == 6
    assert store.find(key(2)) == first
    assert_holds(store, range(6))


def test_a_key_written_twice_gives_one_of_the_two(tmp_path):
    store = CropStore.open(tmp_path, spec())
    for _ in range(2):
        writer = store.writer()
        fill(writer, range(5))
        writer.close()
    store.refresh()
    assert len(store) == 10
    assert_holds(store, range(5))


def test_a_key_that_the_shard_at_hand_holds_is_not_written_again(tmp_path):
    store = CropStore.open(tmp_path, spec())
    writer = store.writer()
    fill(writer, [1, 1, 2, 1])
    writer.close()
    assert store.refresh() == 2


def test_keys_need_not_look_random(tmp_path):
    store = CropStore.open(tmp_path, spec())
    writer = store.writer()
    keys = [i.to_bytes(16, "big") for i in (0, 5, 1, 2**64, 2**64 + 5, 2**128 - 1)]
    for number, name in enumerate(keys):
        writer.add(name, pixels(number), video_id="v", corpus="c", sha256="", track=number, frames=range(T), pad=0.0)
    writer.close()
    store.refresh()
    assert [store.clip(store.find(name)).track for name in keys] == list(range(6))
    assert store.find((3).to_bytes(16, "big")) is None
    assert store.find((9).to_bytes(16, "big")) is None


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"key": b"short"}, "16 bytes"),
        ({"pixels": pixels(0).astype(np.float32)}, "float32"),
        ({"pixels": pixels(0, T + 1), "frames": range(T + 1)}, f"\\({T + 1}, {S}, {S}, 3\\)"),
        ({"frames": [1]}, "1 frame numbers"),
    ],
)
def test_a_clip_that_does_not_fit_the_store_is_refused(tmp_path, wrong, says):
    given = {"key": key(0), "pixels": pixels(0), "frames": range(T)} | wrong
    with pytest.raises(ValueError, match=says):
        CropStore.open(tmp_path, spec()).writer().add(video_id="v", corpus="c", sha256="", track=0, pad=0.0, **given)


def test_pixels_that_do_not_lie_in_a_row_are_stored_as_they_look(tmp_path):
    store = CropStore.open(tmp_path, spec())
    turned = pixels(0)[:, ::-1].transpose(0, 2, 1, 3)
    writer = store.writer()
    writer.add(key(0), turned, video_id="v", corpus="c", sha256="", track=0, frames=range(T), pad=0.0)
    writer.close()
    store.refresh()
    assert np.array_equal(store.clip(0).pixels, turned)


# Settings ----------------------------------------------------------------------------------------------------------


def test_other_settings_are_refused_and_each_is_named(filled):
    other = spec(size=16, crop={"scale": 1.5, "align": "none", "pad": "zero"}, versions={"av": "2.0"})
    with pytest.raises(UserError) as refused:
        CropStore.open(filled, other)
    text = str(refused.value)
    assert "size 8 (this run: 16)" in text
    assert "crop.scale 1.3 (this run: 1.5)" in text
    assert "crop.pad nothing (this run: zero)" in text
    assert "versions.av 1.0 (this run: 2.0)" in text
    assert "align" not in text
    assert "frames" not in text
    assert text.endswith("give another --data.crop_store")
    assert "\n" not in text


def test_settings_that_json_writes_otherwise_are_the_same_settings(tmp_path):
    CropStore.open(tmp_path, spec(crop={"points": (1, 2)}))
    assert len(CropStore.open(tmp_path, spec(crop={"points": (1, 2)}))) == 0


def test_this_installation_accepts_its_own_store(tmp_path):
    CropStore.open(tmp_path, StoreSpec.here(T, S, {"scale": 1.3}))
    here = StoreSpec.here(T, S, {"scale": 1.3})
    assert len(CropStore.open(tmp_path, here)) == 0
    assert {"av", "libswscale", "opencv"} <= here.versions.keys()


def test_a_store_of_another_version_is_refused(tmp_path):
    CropStore.open(tmp_path, spec())
    path = tmp_path / "store.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 9'))
    with pytest.raises(UserError, match="version 9"):
        CropStore.open(tmp_path, spec())


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": "dfdet.store", "version": 1, "odd": 1}'])
def test_a_damaged_store_json_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "store.json").write_text(text)
    with pytest.raises(UserError, match="is damaged"):
        CropStore.open(tmp_path, spec())


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"not empty \(it holds thesis.tex\)"):
        CropStore.open(tmp_path, spec())
    assert names(tmp_path) == ["thesis.tex"]


def test_there_is_no_store_where_none_was_made(tmp_path):
    with pytest.raises(UserError, match="holds no crop store"):
        CropStore.existing(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_of_many_processes_that_make_a_store_at_once_all_agree(tmp_path):
    def make(size):
        try:
            CropStore.open(tmp_path / "store", spec(size=size))
        except UserError:
            raise SystemExit(7) from None

    processes = [FORK.Process(target=make, args=(8 + 8 * (i % 2),)) for i in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    there = CropStore.existing(tmp_path / "store").spec.size
    assert [p.exitcode for p in processes] == [0 if 8 + 8 * (i % 2) == there else 7 for i in range(8)]
    assert names(tmp_path / "store") == ["store.json"]


def test_a_shard_of_another_store_is_never_read(tmp_path, filled, capsys):
    other = CropStore.open(tmp_path / "other", spec(crop={"scale": 2.0}))
    for path in filled.glob("shard-*-00000.*"):
        (tmp_path / "other" / path.name).write_bytes(path.read_bytes())
    assert other.refresh() == 0
    assert "it was made with other settings" in capsys.readouterr().err


# Processes ---------------------------------------------------------------------------------------------------------


def test_a_forked_child_reads_what_its_parent_has_open(filled):
    store = CropStore.open(filled, spec())
    assert_holds(store, range(12))
    assert run(assert_holds, store, range(25)) == 0


def test_where_a_clip_lies_is_the_same_place_in_every_process(filled):
    place = CropStore.open(filled, spec()).clip(7).place
    other = CropStore.open(filled, spec())
    assert np.array_equal(other.at(place), other.clip(7).pixels)
    with pytest.raises(OSError, match="its index says"):
        CropStore.open(filled, spec()).at(place._replace(size=place.size - 1))


def test_a_pickled_store_reads_the_same(filled):
    store = CropStore.open(filled, spec())
    assert_holds(store, range(25))
    assert_holds(pickle.loads(pickle.dumps(store)), range(25))


def test_a_child_that_inherits_a_writer_has_shards_of_its_own(tmp_path):
    store = CropStore.open(tmp_path, spec())
    writer = store.writer()
    fill(writer, range(3))

    def child():
        fill(writer, range(3, 6))
        writer.close()

    assert run(child) == 0
    fill(writer, range(6, 9))
    writer.close()
    assert store.refresh() == 9
    assert_holds(store, range(9))


def test_a_child_that_only_inherits_a_writer_leaves_it_alone(tmp_path):
    store = CropStore.open(tmp_path, spec())
    writer = store.writer()
    fill(writer, range(3))
    assert run(writer.close) == 0
    assert store.refresh() == 0
    writer.close()
    assert store.refresh() == 3


def test_a_process_that_ends_in_order_leaves_what_it_has_written(tmp_path):
    store = CropStore.open(tmp_path, spec())
    assert run(lambda: fill(store.writer(), range(5))) == 0
    assert store.refresh() == 5
    assert_holds(store, range(5))


def test_two_processes_fill_one_store_at_once(tmp_path, ten_a_shard):
    store = CropStore.open(tmp_path, spec())
    together = FORK.Barrier(2)

    def work(numbers):
        mine = CropStore.open(tmp_path, spec())
        writer = mine.writer()
        together.wait(20)
        for number in numbers:
            fill(writer, [number])
            mine.refresh()
        writer.close()

    processes = [FORK.Process(target=work, args=(r,)) for r in (range(80), range(40, 120))]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [p.exitcode for p in processes] == [0, 0]
    assert store.refresh() == 160
    assert_holds(store, range(120))
    assert not shards.leftovers(tmp_path)


# Size and speed ----------------------------------------------------------------------------------------------------


def test_a_disk_that_is_too_small_is_refused_before_the_work(tmp_path):
    store = CropStore.open(tmp_path, spec())
    store.check_space(10, "an epoch")
    with pytest.raises(UserError) as refused:
        store.check_space(10**13, "an epoch")
    text = str(refused.value)
    assert "an epoch needs" in text
    assert "GB are free" in text
    assert "lower data.crop.size" in text


def test_the_bytes_that_were_foretold_hold_what_was_written(tmp_path):
    store = CropStore.open(tmp_path, spec(frames=16, size=32))
    writer = store.writer()
    rng = np.random.default_rng(0)
    for number in range(40):
        given = rng.integers(0, 256, (16, 32, 32, 3), np.uint8)
        writer.add(key(number), given, video_id=f"v{number}", corpus="c", sha256=f"{number:064x}", track=0,
                   frames=rng.integers(0, 9000, 16), pad=float(rng.random()))  # fmt: skip
    writer.close()
    written = sum(p.stat().st_size for p in tmp_path.glob("shard-*"))
    assert 0.98 * store.bytes_for(40) < written <= store.bytes_for(40)


def test_pages_are_given_back_and_views_stay_right(filled, monkeypatch):
    monkeypatch.setattr(reading, "RESIDENT_BYTES", 2 * spec().record_bytes)
    monkeypatch.setattr(reading, "MAPS", 1)
    store = CropStore.open(filled, spec())
    held = [store.clip(store.find(key(n))).pixels for n in range(25)]
    assert all(np.array_equal(view, pixels(n, 1 + n % T)) for n, view in enumerate(held))
    assert len(store._maps) == 1
    assert store._resident_bytes <= reading.RESIDENT_BYTES


def test_200000_clips_are_found_at_once_and_take_little_memory(tmp_path):
    one = spec(frames=16, size=1)
    CropStore.open(tmp_path, one)
    rng = np.random.default_rng(0)
    keys = [rng.bytes(16) for _ in range(200_000)]
    for shard in range(20):
        mine = keys[shard * 10_000 : (shard + 1) * 10_000]
        count = len(mine)
        columns = {
            "key": mine,
            "video_id": [f"{i % 997}_{i % 13}__talking" for i in range(count)],
            "corpus": ["c"] * count,
            "sha256": ["f" * 64] * count,
            "track": np.zeros(count, np.int32),
            "frames": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(16 * count, dtype=np.int32)), 16).cast(
                shards.INDEX_COLUMNS["frames"]
            ),
            "n": np.full(count, 16, np.int32),
            "pad": np.zeros(count),
            "crc32": np.full(count, 0x8DBBC4CE),
            "offset": np.arange(count) * one.record_bytes,
        }
        arrays = [
            pa.array(columns[n], type=t) if n != "frames" else columns[n] for n, t in shards.INDEX_COLUMNS.items()
        ]
        stem = f"{shards.new_stem()}-{shard:05d}"
        with (tmp_path / f"{stem}.bin").open("wb") as file:
            file.truncate(count * one.record_bytes)
        zeros = zlib.crc32(bytes(16 * 3))
        arrays[list(shards.INDEX_COLUMNS).index("crc32")] = pa.array(np.full(count, zeros), pa.int64())
        table = pa.Table.from_arrays(arrays, schema=pa.schema(list(shards.INDEX_COLUMNS.items())))
        shards.write_index(tmp_path / f"{stem}.parquet", table, one)
    del arrays, columns, table
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    store = CropStore.existing(tmp_path)
    plain = tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes() - before
    tracemalloc.stop()
    assert len(store) == 200_000
    assert plain < 200_000 * 220
    start = time.perf_counter()
    found = [store.find(k) for k in keys[::20]]
    assert time.perf_counter() - start < 1.0  # some 0.03 s on an idle core
    assert None not in found
    assert all(store.clip(f).frames.tolist()[0] == (20 * i % 10_000) * 16 for i, f in enumerate(found[:600]))
