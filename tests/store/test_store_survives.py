"""Whatever ends a writer, the store holds whole shards and goes on; what is damaged is noticed and left out."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess

import numpy as np
import pytest
from store_clips import assert_holds, fill, key, names, pixels, spec

from dfdet.cli import main
from dfdet.store import CropStore, shards, writing

FORK = multiprocessing.get_context("fork")


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def dying(monkeypatch_target, name, after, half=None):
    """Lets a function of a module kill the process when it has been called ``after`` times."""
    real, calls = getattr(monkeypatch_target, name), [0]

    def wrapped(*arguments, **keywords):
        calls[0] += 1
        if calls[0] > after:
            if half is not None:
                half(real, *arguments)
            die()
        return real(*arguments, **keywords)

    setattr(monkeypatch_target, name, wrapped)


def kill_in_pwrite(after):
    dying(
        os, "pwrite", after, half=lambda real, file, content, offset: real(file, content[: len(content) // 2], offset)
    )


def half_an_index(real, table, path):
    path.write_bytes(b"PAR1")


MOMENTS = {
    "in the first clip": (lambda: kill_in_pwrite(0), 0),
    "in the twelfth clip": (lambda: kill_in_pwrite(11), 10),
    "before the data are on disk": (lambda: dying(os, "fsync", 0), 0),
    "before the data have their name": (lambda: dying(writing.Path, "rename", 0), 0),
    "between data and index": (lambda: dying(shards, "write_index", 1), 10),
    "in the index": (lambda: dying(shards.pq, "write_table", 0, half=half_an_index), 0),
    "before the index has its name": (lambda: dying(writing.Path, "replace", 1), 10),
    "after the third shard": (lambda: dying(os, "ftruncate", 3), 30),
}  # fmt: skip


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_writer_leaves_whole_shards_and_a_usable_store(tmp_path, ten_a_shard, moment):
    prepare, kept = MOMENTS[moment]
    CropStore.open(tmp_path, spec())

    def work():
        prepare()
        fill(CropStore.open(tmp_path, spec()).writer(), range(100))

    process = FORK.Process(target=work)
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    assert len(names(tmp_path)) > 1 + kept // 10 * 2  # something unfinished lies there
    store = CropStore.open(tmp_path, spec())
    assert len(store) == kept
    assert_holds(store, range(kept))
    assert len(names(tmp_path)) == 1 + kept // 10 * 2  # and nothing of it now
    writer = store.writer()
    fill(writer, range(kept, 40))
    writer.close()
    assert store.refresh() == 40
    assert_holds(store, range(40))


def test_files_that_a_living_process_is_at_are_left_alone(tmp_path):
    store = CropStore.open(tmp_path, spec())
    writer = store.writer()
    fill(writer, range(3))
    again = CropStore.open(tmp_path, spec())
    writer.close()
    assert again.refresh() == 3


def test_files_of_other_machines_are_reported_and_kept(filled, capsys):
    foreign = filled / "shard-far.away-12345-0123abcd-00000.bin.tmp"
    foreign.write_bytes(b"at work")
    assert len(CropStore.open(filled, spec())) == 25
    assert foreign.exists()
    assert main(["store", "info", str(filled)]) == 0
    assert "1 unfinished files of other machines (shard-far.away-12345" in capsys.readouterr().out


def test_info_tells_what_a_store_holds(filled, tmp_path, capsys):
    assert main(["store", "info", str(filled), "--json", str(tmp_path / "info.json")]) == 0
    settings, content = json.loads((tmp_path / "info.json").read_text())
    assert {r["setting"]: r["value"] for r in settings["rows"]}["crop.scale"] == 1.3
    told = {r["what"]: r["value"] for r in content["rows"]}
    assert (told["clips"], told["videos"], told["corpora"], told["shards"]) == (25, 3, "demo", 3)


def test_a_full_disk_costs_the_shard_at_hand_and_nothing_else(small_disk, ten_a_shard):
    disk = small_disk(12 * spec().record_bytes // 1024 + 40)
    store = CropStore.open(disk, spec())
    writer = store.writer()
    with pytest.raises(OSError, match="No space left") as full:
        fill(writer, range(100))
    assert full.value.errno == errno.ENOSPC
    assert str(disk) in str(full.value.filename)
    assert writer.failed
    before = names(disk)
    fill(writer, range(100, 200))  # refused quietly
    writer.close()
    assert names(disk) == before
    kept = store.refresh()
    assert kept >= 10
    assert kept % 10 == 0
    assert_holds(store, range(kept))
    assert not shards.leftovers(disk)


@pytest.mark.parametrize("call", ["pwrite", "fsync", "ftruncate", "close"])
def test_a_disk_that_fails_anywhere_leaves_no_unfinished_file(tmp_path, ten_a_shard, monkeypatch, call):
    store = CropStore.open(tmp_path, spec())
    writer = store.writer()
    fill(writer, range(13))
    real = getattr(os, call)

    def fail(file, *arguments):
        if file == writer._file:
            raise OSError(errno.EIO, "Input/output error")
        return real(file, *arguments)

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="Input/output error"):
        fill(writer, range(13, 30))
    monkeypatch.undo()
    assert len(names(tmp_path)) == 3
    assert store.refresh() == 10
    assert_holds(store, range(10))


def test_ctrl_c_in_a_flush_leaves_a_writer_that_goes_on(tmp_path, monkeypatch):
    store = CropStore.open(tmp_path, spec())
    writer = store.writer()
    fill(writer, range(4))

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(shards, "write_index", interrupted)
    with pytest.raises(KeyboardInterrupt):
        writer.flush()
    monkeypatch.undo()
    assert names(tmp_path) == ["store.json"]
    fill(writer, range(6))
    writer.close()
    assert store.refresh() == 6
    assert_holds(store, range(6))


# Damage ------------------------------------------------------------------------------------------------------------


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_verify_finds_one_damaged_bit_and_names_its_shard(filled, tmp_path, capsys):
    assert main(["store", "verify", str(filled)]) == 0
    damaged = sorted(filled.glob("*.bin"))[1]
    flip(damaged, 3 * spec().record_bytes + 5)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["store", "verify", str(filled), "--json", str(tmp_path / "damage.json")])
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert damaged.stem in printed
    assert "delete the .bin and the .parquet" in printed
    rows = json.loads((tmp_path / "damage.json").read_text())[0]["rows"]
    assert rows == [{"shard": damaged.stem, "damage": "record 3 has another checksum than when it was written"}]
    for suffix in (".bin", ".parquet"):
        damaged.with_suffix(suffix).unlink()
    assert main(["store", "verify", str(filled)]) == 0
    assert len(CropStore.open(filled, spec())) == 15


def test_a_rotten_shard_is_left_out_when_the_store_is_opened(filled, capsys):
    rotten = sorted(filled.glob("*.bin"))[0]
    rotten.write_bytes(bytes(rotten.stat().st_size))
    store = CropStore.open(filled, spec())
    assert len(store) == 15
    assert_holds(store, range(10, 25))
    warned = capsys.readouterr().err
    assert warned.count("warning:") == 1
    assert rotten.stem in warned
    store.refresh()
    assert "warning" not in capsys.readouterr().err  # once is enough
    writer = store.writer()
    fill(writer, range(10))
    writer.close()
    store.refresh()
    assert_holds(store, range(25))


@pytest.mark.parametrize("damage", ["short", "long", "gone", "torn index", "no index"])
def test_a_shard_that_does_not_fit_its_index_is_never_read(filled, damage, capsys):
    data = sorted(filled.glob("*.bin"))[2]
    index = data.with_suffix(".parquet")
    if damage == "short":
        os.truncate(data, data.stat().st_size - 1)
    elif damage == "long":
        os.truncate(data, data.stat().st_size + 64)
    elif damage == "gone":
        data.unlink()
    elif damage == "torn index":
        os.truncate(index, index.stat().st_size // 2)
    else:
        index.unlink()
    store = CropStore.existing(filled)
    assert_holds(store, range(20))
    assert len(store) == 20
    assert capsys.readouterr().err.count("warning:") == (0 if damage == "no index" else 1)


def test_a_shard_that_is_cut_while_the_store_is_open_is_an_error_and_no_crash(filled):
    store = CropStore.open(filled, spec())
    for data in filled.glob("*.bin"):
        os.truncate(data, 100)
    with pytest.raises(OSError, match="has 100 bytes"):
        store.clip(0)


def test_one_that_is_cut_when_it_is_mapped_already_is_an_error_too(filled):
    store = CropStore.open(filled, spec())
    store.clip(0)
    for data in filled.glob("*.bin"):
        os.truncate(data, 0)
    with pytest.raises(OSError, match=r".+"):  # Linux 5.14 and later; before, the next look at the pixels would kill
        store.clip(0)


def test_help_does_not_wait_for_torch(dfdet_command):
    code = "import sys; from dfdet.cli import main; main(['store', '--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([dfdet_command[0], "-c", code], capture_output=True, text=True, check=True)
    assert "verify" in done.stdout


def test_a_spot_check_reads_a_record_of_each_new_shard(tmp_path, ten_a_shard):
    store = CropStore.open(tmp_path, spec())
    writer = store.writer()
    same = pixels(0)
    for number in range(20):
        writer.add(key(number), same, video_id="v", corpus="c", sha256="", track=0, frames=range(len(same)), pad=0.0)
    writer.close()
    bad = sorted(tmp_path.glob("*.bin"))[1]
    bad.write_bytes(np.roll(np.fromfile(bad, np.uint8), 1).tobytes())
    assert store.refresh() == 10
