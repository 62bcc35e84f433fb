"""The two tables come back as they were written; what does not fit is refused in one line that says what to do."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfdet import manifest
from dfdet.errors import UserError

ROWS = [
    {"path": "a.mp4", "label": 0, "split": "train", "pts": [3, 5, 9], "num_frames": 3, "x_note": "n", "fps": 25.0},
    {"path": "b.mp4", "label": 1, "split": "test", "frame_runs": [0, 4, 8, 9], "num_frames": 9, "has_audio": True},
    {"path": "c.mp4", "label": None, "split": None, "status": "unreadable", "reason": "why"},
]


def table(*rows):
    full = [{"corpus": "c", "video_id": r["path"][:-4], "kind": "video", "status": "ok", **r} for r in rows or ROWS]
    return pd.DataFrame(full)


def tracks(videos=("a", "a", "b"), x=0.1):
    columns = {c: np.zeros(len(videos)) for c in manifest.TRACKS_COLUMNS}
    frames = np.arange(len(videos))
    return pd.DataFrame({**columns, "video_id": videos, "frame": frames, "x": np.float32(x), "static": False})


@pytest.fixture
def written(tmp_path):
    return manifest.write(tmp_path / "m.parquet", table(), tracks(), {"root": "/films", "faces": {"name": "dlib"}})


def test_what_is_written_is_read(written):
    rows = written.table.set_index("video_id")
    assert list(rows.loc["a", "pts"]) == [3, 5, 9]
    assert list(rows.loc["b", "frame_runs"]) == [0, 4, 8, 9]
    assert pd.isna(rows.loc["c", "label"])
    assert pd.isna(rows.loc["c", "num_frames"])
    assert written.table["num_frames"].dtype == pd.Int32Dtype()
    assert rows.loc["a", "x_note"] == "n"
    assert str(written.root) == "/films"
    assert written.meta["faces"] == {"name": "dlib"}
    found = manifest.read_tracks(written)
    assert found.of("a")["frame"].tolist() == [0, 1]
    assert found.of("b")["x"].tolist() == [np.float32(0.1)]
    assert found.of("nobody")["x"].tolist() == []
    assert str(manifest.read(written.path, root="/elsewhere").root) == "/elsewhere"


def test_all_columns_are_there_and_both_tables_say_what_they_are(written):
    for path, schema, columns in (
        (written.path, "dfdet.manifest", manifest.MANIFEST_COLUMNS),
        (written.tracks_path, "dfdet.tracks", manifest.TRACKS_COLUMNS),
    ):
        found = pq.read_schema(path)
        assert set(columns) <= set(found.names)
        meta = json.loads(found.metadata[b"dfdet"])
        assert (meta["schema"], meta["version"]) == (schema, 1)


def test_the_same_content_is_the_same_bytes(written, tmp_path):
    again = manifest.write(tmp_path / "n.parquet", table(), tracks(), {"faces": {"name": "dlib"}, "root": "/films"})
    assert again.path.read_bytes() == written.path.read_bytes()
    assert again.tracks_path.read_bytes() == written.tracks_path.read_bytes()


def test_a_folder_with_an_equals_sign_adds_no_column(tmp_path):
    found = manifest.write(tmp_path / "split=val" / "m.parquet", table(), tracks(), {"root": "."})
    assert found.table["split"].tolist()[:2] == ["train", "test"]
    assert len(manifest.read_tracks(found).of("a")["x"]) == 2


def rewritten(path, change):
    """A Parquet file with its columns or its metadata changed behind our back."""
    old = pq.read_table(path)
    meta = json.loads(old.schema.metadata[b"dfdet"])
    new = change(old, meta) or old
    pq.write_table(new.replace_schema_metadata({"dfdet": json.dumps(meta)}), path)


def put(column, values):
    return lambda old, _: old.set_column(old.schema.get_field_index(column), column, pa.array(values))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda _, meta: meta.update(version=2), "has version 2 of dfdet.manifest; this dfdet reads version 1"),
        (lambda _, meta: meta.update(schema="dfdet.scores"), "is not a dfdet.manifest table (it says 'dfdet.scores')"),
        (lambda old, _: old.drop_columns(["split"]), "lacks the column 'split'"),
        (put("label", [0, 1, 2]), "column 'label' holds 2 at c.mp4; allowed: 0, 1"),
        (put("split", ["train", "dev", None]), "column 'split' holds 'dev' at b.mp4; allowed: train, val, test"),
        (put("status", ["ok", "ok", "fine"]), "column 'status' holds 'fine' at c.mp4"),
        (put("video_id", ["a", "a", "b"]), "video_id 'a' stands there twice"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(written, change, says):
    rewritten(written.path, change)
    with pytest.raises(UserError) as refused:
        manifest.read(written.path)
    assert says in str(refused.value)
    assert str(written.path) in str(refused.value)


def test_tracks_of_another_manifest_are_refused(written, tmp_path):
    other = manifest.write(tmp_path / "n.parquet", table(), tracks(x=0.2), {"root": "/films"})
    written.tracks_path.write_bytes(other.tracks_path.read_bytes())
    with pytest.raises(UserError, match="does not belong to"):
        manifest.read_tracks(written)
    written.tracks_path.unlink()
    with pytest.raises(UserError, match="does not exist; run `dfdet index` again"):
        manifest.read_tracks(written)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"path,label\n"])
def test_what_is_no_parquet_is_refused(tmp_path, content):
    (tmp_path / "m.parquet").write_bytes(content)
    with pytest.raises(UserError, match="is no Parquet file"):
        manifest.read(tmp_path / "m.parquet")


def test_a_column_of_another_type_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="column 'fps' does not hold double"):
        manifest.write(tmp_path / "m.parquet", table({**ROWS[0], "fps": "fast"}), tracks(), {"root": "."})
    assert list(tmp_path.iterdir()) == []


LIMITED = """
import resource, sys
import numpy as np, pandas as pd
from dfdet import manifest
found = manifest.read(sys.argv[1])
tracks = pd.DataFrame({c: np.random.rand(500) for c in manifest.TRACKS_COLUMNS}).assign(
    video_id="a", frame=0, track=0, shot=0, static=False)
notes = found.table.assign(x_note=[str(np.random.rand(3000)) if sys.argv[2] == "manifest" else "" for _ in range(3)])
if sys.argv[2] == "manifest":
    tracks = tracks[:1]
    notes["x_note"] = [np.random.bytes(20000).hex() for _ in range(3)]
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    manifest.write(sys.argv[1], notes, tracks, {"root": "."})
except OSError as error:
    print(error.filename)
"""


@pytest.mark.parametrize("full_at", ["tracks", "manifest"])
def test_a_full_disk_leaves_the_older_pair_as_it_was(written, full_at):
    before = {p.name: p.read_bytes() for p in written.path.parent.iterdir()}
    command = [sys.executable, "-c", LIMITED, str(written.path), full_at]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    named = written.tracks_path if full_at == "tracks" else written.path
    assert done.stdout.strip() == str(named)
    assert {p.name: p.read_bytes() for p in written.path.parent.iterdir()} == before
    assert len(manifest.read_tracks(manifest.read(written.path)).of("a")["x"]) == 2
