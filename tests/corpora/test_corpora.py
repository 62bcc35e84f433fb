"""What holds for every corpus: the table of names, a user's own, equal answers, the released trees of the fixtures."""

import inspect
import json
from pathlib import Path

import pandas as pd
import pytest

from dfdet import corpora, manifest
from dfdet.corpora.rows import Reading, finish
from dfdet.errors import UserError

OWN_CORPUS = """
import pandas as pd
from dfdet.corpora import Reading

def read(root, *, label: int = 1):
    return Reading(pd.DataFrame({"path": ["b.mp4", "a.mp4"], "label": [label, 0]}), notes=["mine"], missing=3)

def table(root, **options):
    return pd.DataFrame({"path": ["a.mp4"], "label": [options["label"]]})

def nothing(root):
    return None
"""


def plant(root: Path, files: list[str], texts: dict[str, str] | None = None) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name, text in (texts or {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize("name", sorted(corpora.CORPORA))
def test_every_corpus_can_be_resolved_and_documents_its_options(name):
    reader = corpora.resolve(name)
    options = [p for p in inspect.signature(reader).parameters.values() if p.name != "root"]
    for option in options:
        assert option.kind is option.KEYWORD_ONLY
        assert option.default is not option.empty
        assert f"        {option.name}: " in (reader.__doc__ or "")


@pytest.mark.parametrize(
    ("corpus", "options"), [("faceforensics", {"compression": "all"}), ("dfdc", {"expect_all": True}), ("folder", {})]
)
@pytest.mark.data
def test_a_released_tree_gives_the_rows_of_the_reference(sample_media, tmp_path, corpus, options):
    tree = json.loads((sample_media / "lists" / "fixture_trees.json").read_text())[corpus]
    plant(tmp_path, [*tree["files"], *tree.get("ignored", [])], tree["texts"])
    if corpus == "faceforensics":
        five = list(corpora.resolve(corpus).__globals__["METHODS"])
        options = {**options, "methods": [*five, "DeepFakeDetection"]}
    table = corpora.read(corpus, tmp_path, **options).table
    found = {row["path"]: row for row in table[table["status"].isna()].to_dict("records")}
    assert set(found) == {row["path"] for row in tree["rows"]}
    general = ("corpus", "video_id", "content_id", "kind", "group", "licence", "status")
    for row in tree["rows"]:
        told = {k: v for k, v in found[row["path"]].items() if not pd.isna(v) and k not in general}
        assert told == row


@pytest.mark.parametrize(
    ("corpus", "folder", "options", "rows", "fakes"),
    [
        ("faceforensics", "ffpp_c23", {"splits": "ffpp_c23/labels.csv"}, 30, 25),
        ("faceforensics", "ffpp_c23", {"splits": "ffpp_c23/labels.csv", "methods": ["DeepFakeDetection"]}, 2, 1),
        ("faceforensics", "ffpp_c23", {"splits": "faceforensics/splits"}, 30, 25),
        ("faceforensics", "faceforensics", {}, 4, 3),
        ("faceforensics", "faceforensics", {"compression": "all"}, 5, 3),
        ("dfdc", "dfdc", {}, 5, 3),
        ("dfdc", "dfdc", {"expect_all": True}, 1460, 1239),
        ("folder", "dfdc_faces", {}, 4310, 2155),
        ("folder", "sdfvd", {"group_regex": r"v[s]?(\d+)"}, 6, 4),
        ("csv", "dfdc_faces", {}, 4310, 2155),
        ("csv", "ffpp_c23", {}, 32, 26),
        ("csv", "sdfvd", {"columns": ["group=pair"]}, 6, 4),
    ],
)
@pytest.mark.data
def test_real_folders_give_their_rows_twice_and_survive_the_manifest(
    sample_media, tmp_path, corpus, folder, options, rows, fakes
):
    if "splits" in options:
        options = {**options, "splits": sample_media / options["splits"]}
    reading = corpora.read(corpus, sample_media / folder, **options)
    assert len(reading.table) == rows
    assert int(reading.table["label"].sum()) == fakes
    assert list(reading.table["path"]) == sorted(reading.table["path"])
    pd.testing.assert_frame_equal(reading.table, corpora.read(corpus, sample_media / folder, **options).table)
    written = manifest.write(tmp_path / "x.parquet", reading.table, None, {"root": str(reading.root)})
    for column in reading.table:
        assert [None if pd.isna(v) else v for v in written.table[column]] == [
            None if pd.isna(v) else v for v in reading.table[column]
        ]


@pytest.fixture
def own_corpus(tmp_path, monkeypatch):
    (tmp_path / "dfdet_test_lab.py").write_text(OWN_CORPUS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "dfdet_test_pkg"
    plant(package, ["__init__.py"], {"lab.py": OWN_CORPUS})
    return tmp_path


@pytest.mark.parametrize("name", ["dfdet_test_lab.read", "dfdet_test_lab:read", "dfdet_test_pkg.lab"])
def test_a_users_own_corpus_is_named_by_its_import_path(own_corpus, name):
    reading = corpora.read(name, own_corpus, label=1)
    assert list(reading.table["path"]) == ["a.mp4", "b.mp4"]
    assert list(reading.table["group"]) == ["a", "b"]
    assert set(reading.table["corpus"]) == {name.replace(":", ".").removesuffix(".read").split(".")[-1]}
    assert (reading.notes, reading.missing, reading.root) == (["mine"], 3, own_corpus)


def test_a_users_own_corpus_may_return_a_table_and_take_any_option(own_corpus):
    assert corpora.read("dfdet_test_lab.table", own_corpus, label=0).table["method"].tolist() == ["real"]


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("foldr", {}, "no corpus 'foldr'; did you mean 'folder'?"),
        ("dfdet_test_lab.absent", {}, "cannot be imported"),
        ("dfdet.files", {}, "has no function 'read'"),
        ("dfdet_test_lab.nothing", {}, "returned NoneType"),
        ("dfdet_test_lab.read", {"lable": 1}, "has no option 'lable'; did you mean 'label'?"),
        ("dfdet_test_lab.read", {"label": 7}, "b.mp4 has label 7"),
        ("folder", {"reel": ["x"]}, "has no option 'reel'; did you mean 'real'?"),
    ],
)
def test_a_wrong_name_or_option_is_said_in_one_line(own_corpus, name, options, says):
    with pytest.raises(UserError) as error:
        corpora.read(name, own_corpus, **options)
    assert says in str(error.value)


@pytest.mark.parametrize("name", sorted(corpora.CORPORA))
def test_a_root_that_is_not_there_or_holds_nothing_is_said(tmp_path, name):
    with pytest.raises(UserError, match="does not exist"):
        corpora.read(name, tmp_path / "absent")
    with pytest.raises(UserError, match=r"holds no|has no"):
        corpora.read(name, tmp_path)


def test_reading_is_exported():
    assert corpora.Reading is Reading
    assert finish([], "x", Path()).table.empty
