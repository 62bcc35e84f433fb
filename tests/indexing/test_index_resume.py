"""An indexing that is killed or interrupted goes on, and ends with the same bytes."""

import os
import shutil
import signal

import pytest

from dfdet import manifest


def test_killed_again_and_again_it_ends_with_the_same_tables(films, file_count, tmp_path, start_index, same_tables):
    out = tmp_path / "m.parquet"
    finished = 0
    for moment in (1, 5, 12):
        running = start_index(films, out, "--workers", "2")
        assert running.wait_for(lambda running=running, moment=moment: running.lines() >= moment)
        running.process.kill()
        _, err = running.finish()
        assert (f"{finished} files were finished" in err) == (finished > 0)
        assert running.all_gone()
        assert not out.exists()
        assert running.lines() >= finished
        finished = running.lines()
        assert finished < file_count
    running = start_index(films, out, "--workers", "2")
    code, err = running.finish()
    assert code == 0
    assert f"{finished} files were finished by an earlier run" in err
    assert f"indexing: {file_count - finished}/{file_count - finished}" in err
    assert not running.journal.exists()
    same_tables(out)


@pytest.mark.parametrize("moment", ["the children start", "some files are finished"])
def test_ctrl_c_says_how_to_go_on_and_leaves_no_process(films, tmp_path, start_index, same_tables, moment):
    out = tmp_path / "m.parquet"
    running = start_index(films, out, "--workers", "2")
    starting = moment == "the children start"
    assert running.wait_for(lambda: len(running.members()) > 2 if starting else running.lines() >= 3)
    os.killpg(running.process.pid, signal.SIGINT)
    code, err = running.finish()
    assert code == 130
    assert f"interrupted; what is finished is kept in {running.journal}: run the same command again to go on" in err
    assert "Traceback" not in err
    assert running.all_gone()
    assert start_index(films, out).finish()[0] == 0
    same_tables(out)


def test_what_changed_or_went_since_the_interruption_is_seen(copied, films, tmp_path, start_index):
    out = tmp_path / "m.parquet"
    shutil.copy(films / "fake" / "5.mp4", copied / "fake" / "9.mp4")
    running = start_index(copied, out, "--workers", "1")
    assert running.wait_for(lambda: running.lines() >= 3)
    running.process.kill()
    running.finish()
    done = [line.split(b'"')[3].decode() for line in running.journal.read_bytes().splitlines()[1:]][:3]
    gone, changed = done[0], done[1]
    (copied / gone).unlink()
    shutil.copy(films / "real" / "6.mp4", copied / changed)
    assert start_index(copied, out).finish()[0] == 0
    rows = manifest.read(out).table.set_index("path")
    assert gone not in rows.index
    assert rows.loc[changed, "num_frames"] == 38


def test_drafts_of_the_tables_that_a_kill_left_are_removed(copied, tmp_path, start_index):
    drafts = [tmp_path / f".{name}.tmp-4321" for name in ("m.parquet", "m.faces.parquet")]
    others = tmp_path / ".n.parquet.tmp-4321"
    for path in (*drafts, others):
        path.write_bytes(b"half a table")
    assert start_index(copied, tmp_path / "m.parquet").finish()[0] == 0
    assert not any(path.exists() for path in drafts)
    assert others.exists()
