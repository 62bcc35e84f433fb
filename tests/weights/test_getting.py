"""A download goes on where it was cut, is held against its hash, and is a file of weights or one line."""

from __future__ import annotations

import concurrent.futures
import http.server
import json
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from dfdet.errors import UserError
from dfdet.files import sha256
from dfdet.networks.mesonet_deepfakebench import DeepfakeBenchMeso4
from dfdet.weights import cache as kept_weights
from dfdet.weights import fetching, registry
from dfdet.weights.checkpoints import load_weights, opened
from dfdet.weights.getting import get, take_in
from dfdet.weights.reading import WeightsError, notes_of

torch.set_num_threads(1)
NAME = "meso4.deepfakebench"


class Server(http.server.ThreadingHTTPServer):
    """Serves one file. It cuts the connection after ``cut`` bytes as long as ``cuts`` lasts."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.tag, self.kind, self.status = b"", '"one"', "application/octet-stream", 200
        self.cut, self.cuts, self.seen, self.chunked = 0, 0, [], False

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/meso4_best.pth"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        wanted, condition = self.headers.get("Range"), self.headers.get("If-Range")
        server.seen.append(wanted)
        if server.status != 200:
            self.send_error(server.status)
            return
        start = 0
        if wanted and condition in (None, server.tag):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start and start >= len(server.body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", server.kind)
        if not server.chunked:
            self.send_header("Content-Length", str(len(server.body) - start))
        else:
            self.send_header("Transfer-Encoding", "chunked")
        if server.tag:
            self.send_header("ETag", server.tag)
        self.end_headers()
        body = server.body[start:]
        if server.cuts:
            server.cuts -= 1
            body = body[: server.cut]
            self.close_connection = True
        if server.chunked:
            for place in range(0, len(body), 30_000):
                piece = body[place : place + 30_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            if len(body) == len(server.body) - start:
                self.wfile.write(b"0\r\n\r\n")
            self.close_connection = True
            return
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    made = Server()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def network():
    torch.manual_seed(3)
    return DeepfakeBenchMeso4()


@pytest.fixture
def file(network, tmp_path):
    """A file as DeepfakeBench publishes it."""
    path = tmp_path / "published" / "meso4_best.pth"
    path.parent.mkdir()
    torch.save({f"backbone.{key}": value for key, value in network.state_dict().items()}, path)
    return path


@pytest.fixture
def entry(server, file, cache, monkeypatch):
    """The registry's entry, published by the server, without a hash; ``entry(sha256=...)`` changes it."""
    server.body = file.read_bytes()

    def change(**facts):
        made = replace(registry.PUBLISHED[NAME], url=server.url, **facts)
        monkeypatch.setitem(registry.PUBLISHED, NAME, made)
        return made

    change()
    return change


def files_in(cache):
    return {path.name for path in cache.rglob("*") if path.is_file()} - {".lock"}


def holds(path, network):
    fresh = DeepfakeBenchMeso4()
    load_weights(path, fresh)
    return all(torch.equal(value, fresh.state_dict()[key]) for key, value in network.state_dict().items())


def test_a_name_becomes_a_file_in_the_cache_that_says_where_it_is_from(server, entry, file, network, cache):
    path = get(NAME)
    assert path == cache / "weights" / f"{NAME}.safetensors"
    assert holds(path, network)
    assert holds(NAME, network)
    assert notes_of(path) == {
        "source": "meso4_best.pth",
        "sha256": sha256(file),
        "layout": "deepfakebench.meso4",
        "polarity": "1 = fake",
        "name": NAME,
        "format": "pt",
    }
    assert files_in(cache) == {path.name, "pins.json"}
    weights = opened(NAME)
    assert (weights.name, weights.layout.detector.rsplit(".")[-1]) == (NAME, "DeepfakeBenchMeso4Detector")
    assert weights.record()["original_sha256"] == sha256(file)
    requests = len(server.seen)
    assert get(NAME) == path
    assert len(server.seen) == requests


@pytest.mark.parametrize("tag", ['"one"', ""])
def test_a_cut_download_goes_on_where_it_was_cut(server, entry, file, network, tag):
    entry(sha256=sha256(file))
    server.tag, server.cut, server.cuts = tag, 50_000, 2
    assert holds(get(NAME), network)
    assert server.seen == [None, "bytes=50000-", "bytes=100000-"]


def test_an_answer_of_unknown_length_is_known_to_be_cut_too(server, entry, network):
    server.chunked, server.cut, server.cuts = True, 60_000, 1
    assert holds(get(NAME), network)
    assert server.seen == [None, "bytes=60000-"]


def test_without_hash_and_tag_nothing_proves_the_rest_so_it_starts_anew(server, entry, network):
    server.tag, server.cut, server.cuts = "", 50_000, 2
    assert holds(get(NAME), network)
    assert server.seen == [None, None, None]


def test_a_download_that_is_cut_again_and_again_says_how_to_go_on_and_goes_on(server, entry, network, cache):
    server.cut, server.cuts = 20_000, fetching.ATTEMPTS
    with pytest.raises(
        WeightsError, match=r"could not be fetched whole: the connection was cut; the same command goes"
    ):
        get(NAME)
    assert (cache / "weights" / "downloads" / "meso4_best.pth.part").stat().st_size == 60_000
    server.seen.clear()
    assert holds(get(NAME), network)
    assert server.seen == ["bytes=60000-"]
    assert not list((cache / "weights" / "downloads").iterdir())


def test_a_file_that_changed_between_two_parts_is_fetched_anew(server, entry, network, file):
    whole = server.body
    server.body, server.tag = bytes(len(whole)), '"old"'
    server.cut, server.cuts = 20_000, fetching.ATTEMPTS
    with pytest.raises(WeightsError):
        get(NAME)
    server.body, server.tag = whole, '"new"'
    assert holds(get(NAME), network)


def test_a_part_longer_than_the_file_is_dropped(server, entry, file, network, cache):
    entry(sha256=sha256(file))
    part = cache / "weights" / "downloads" / "meso4_best.pth.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(len(server.body) + 10))
    assert holds(get(NAME), network)


def test_processes_that_start_together_fetch_once(server, entry, network):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(get, [NAME] * 4))
    assert len(paths) == len(server.seen) == 1
    assert holds(paths.pop(), network)


def test_a_wrong_hash_is_told_and_leaves_nothing(server, entry, cache):
    entry(sha256="0" * 64)
    with pytest.raises(
        WeightsError, match=r"is not the file of meso4\.deepfakebench: its SHA-256 is .*published 0{16}"
    ):
        get(NAME)
    assert files_in(cache) == set()


def test_a_hash_that_nobody_publishes_is_pinned_when_first_seen(server, entry, cache, file, network):
    path = get(NAME)
    assert json.loads((cache / "weights" / "pins.json").read_text()) == {NAME: sha256(file)}
    path.unlink()
    torch.save({f"backbone.{k}": v + 1 for k, v in network.state_dict().items()}, file)
    server.body = file.read_bytes()
    with pytest.raises(WeightsError, match=r"first seen .*"):
        get(NAME)
    assert not path.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": 404}, "answers 404 Not Found"),
        ({"status": 503}, "answers 503"),
        ({"body": b"<!DOCTYPE html><html>sign in"}, "gives HTML, not the file"),
        ({"body": b"version https://git-lfs.github.com/spec/v1\n"}, "gives LFS, not the file"),
        ({"body": b""}, "gives nothing"),
        ({"body": b"whatever this is"}, "is of no known kind"),
    ],
)
def test_what_is_no_file_is_told_with_the_way_by_hand_and_leaves_nothing(server, entry, cache, change, said):
    for name, value in change.items():
        setattr(server, name, value)
    with pytest.raises(UserError, match=said) as raised:
        get(NAME)
    assert f"fetch meso4_best.pth from {server.url} by hand, then: dfdet weights import FILE --name {NAME}" in str(
        raised.value
    )
    assert files_in(cache) == set()


def test_without_a_network_it_says_what_to_fetch_by_hand(server, entry):
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(WeightsError, match=r"cannot be reached \(.*refused\); fetch meso4_best\.pth from") as raised:
        get(NAME)
    assert url in str(raised.value)


def test_a_google_drive_folder_is_told_with_its_address(cache):
    with pytest.raises(UserError, match=r"Google Drive folder, which cannot be .* open https://drive\.google\.com/"):
        get("resnext_lstm.20")


def test_a_copy_that_only_says_that_it_is_published_is_not_believed(server, entry, tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(get(NAME).read_bytes())
    weights = opened(copy)
    assert weights.name is None
    assert weights.layout.name == "deepfakebench.meso4"


# import ------------------------------------------------------------------------------------------------------------


def test_a_file_in_hand_goes_by_its_own_name(file, network, cache):
    path = take_in(file)
    assert path == cache / "weights" / "meso4_best.safetensors"
    assert holds("meso4_best", network)
    assert take_in(file) == path  # the same again is no quarrel
    weights = opened("meso4_best")
    assert weights.name is None
    assert weights.layout.name == "deepfakebench.meso4"


def test_a_file_that_is_said_to_be_published_is_held_against_the_hash(file, entry, network, cache):
    entry(sha256=sha256(file))
    assert take_in(file) == cache / "weights" / f"{NAME}.safetensors"  # known by its hash alone
    entry(sha256="1" * 64)
    with pytest.raises(WeightsError, match="is not the file of"):
        take_in(file, NAME)


def test_a_name_that_belongs_to_other_weights_is_not_taken(file, network, cache):
    take_in(file)
    torch.save({f"backbone.{k}": v + 1 for k, v in network.state_dict().items()}, file)
    with pytest.raises(UserError, match=r"holds other weights of this name, from meso4_best\.pth"):
        take_in(file)
    file.rename(file.with_name(f"{NAME}.pth"))
    with pytest.raises(UserError, match=rf"called like published weights.*say --name {NAME}"):
        take_in(file.with_name(f"{NAME}.pth"))


def test_mistakes_are_one_line_each(file, cache):
    run = file.with_name("best.ckpt")
    torch.save({"state_dict": {"network.x": torch.zeros(1)}, "dfdet": {"class_path": "a.B"}}, run)
    for arguments, said in [
        ((file, "meso4.deepfakebnch"), "did you mean 'meso4.deepfakebench'"),
        ((file, NAME, "icpr2020.xception"), "both --name and --layout"),
        ((file, "xception.deepfakebench"), "does not fit SCLBD/DeepfakeBench, Xception: missing"),
        ((file, None, "icpr2020.nothing"), "no layout is called"),
        ((file, None, "deepfakebench.xception"), "does not fit SCLBD/DeepfakeBench, Xception: missing"),
        ((run,), "is dfdet's own; give it as it is"),
        ((file.with_name("absent.pth"),), "is not a file"),
    ]:
        with pytest.raises(UserError, match=said):
            take_in(*arguments)
    assert not (cache / "weights").exists() or not list((cache / "weights").glob("*.safetensors"))


@pytest.mark.data
def test_the_mesonet_files_are_known_by_their_hashes(sample_media, cache):
    folder = sample_media / "weights" / "mesonet"
    if not folder.is_dir():
        pytest.skip(f"no published MesoNet weights at {folder}")
    names = [take_in(path).stem for path in sorted(folder.glob("*.h5"))]
    assert names == ["meso4.df", "meso4.f2f", "mesoinception4.df", "mesoinception4.f2f"]
    assert all(kept_weights.kept(name).layout.startswith("mesonet.") for name in names)
    assert get("meso4.df").is_file()  # nothing is fetched for what is here
    assert np.isfinite(opened("meso4.f2f").state["output.weight"]).all()
