"""YuNet's model: never another detector in silence, never a file with a wrong hash."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from dfdet.errors import UserError
from dfdet.faces import model
from dfdet.faces.detector import DetectorSettings, choose, open_detector

CONTENT = b"the right bytes"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("DFDET_CACHE", str(folder))
    return folder


@pytest.fixture
def server(monkeypatch):
    """A loopback server: /right, /wrong, and 404 for everything else; counts its requests."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = {"/right": CONTENT, "/wrong": b"something else"}.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_):
            pass

    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr(model, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    base = f"http://127.0.0.1:{httpd.server_port}"
    yield lambda *names: monkeypatch.setattr(model, "URLS", [f"{base}/{name}" for name in names]), asked
    httpd.shutdown()
    httpd.server_close()


def test_auto_without_a_model_names_both_ways_on_and_fetches_nothing(server):
    urls, asked = server
    urls("right")
    with pytest.raises(UserError) as error:
        choose("auto")
    line = str(error.value)
    assert "\n" not in line
    assert "--detector yunet --detector_model FILE" in line
    assert "--detector yunet fetches it" in line
    assert "--detector dlib" in line
    assert asked == []


def test_yunet_is_fetched_once_and_then_found_by_auto(server, cache, capsys):
    urls, asked = server
    urls("right")
    first = choose("yunet")
    assert first.model == str(cache / model.FILE)
    assert (cache / model.FILE).read_bytes() == CONTENT
    assert choose("yunet") == choose("auto") == first
    assert asked == ["/right"]
    assert "fetching YuNet's model" in capsys.readouterr().err


def test_the_second_address_is_tried_where_the_first_fails(server, cache):
    urls, asked = server
    urls("gone", "right")
    choose("yunet")
    assert asked == ["/gone", "/right"]


def test_a_wrong_hash_leaves_nothing_and_says_what_to_do_by_hand(server, cache):
    urls, _ = server
    urls("wrong", "gone")
    with pytest.raises(UserError) as error:
        choose("yunet")
    assert list(cache.rglob("*")) == []
    line = str(error.value)
    assert "wrong SHA-256" in line
    assert str(cache / model.FILE) in line
    assert "by hand" in line
    assert "--detector dlib" in line


def test_a_damaged_file_in_the_cache_is_not_taken(server, cache):
    urls, _ = server
    urls("gone")
    cache.mkdir()
    (cache / model.FILE).write_bytes(b"half a mod")
    assert model.cached() is None
    with pytest.raises(UserError):
        choose("auto")


def test_a_given_file_must_exist_and_dlib_takes_none(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        choose("auto", tmp_path / "absent.onnx")
    with pytest.raises(UserError, match="dlib takes none"):
        choose("dlib", tmp_path / "absent.onnx")
    with pytest.raises(UserError, match="did you mean 'dlib'"):
        choose("dlip")
    with pytest.raises(UserError, match="does not exist"):
        open_detector(DetectorSettings("yunet"))


@pytest.mark.parametrize("name", ["auto", "yunet"])
@pytest.mark.data
def test_a_known_file_is_taken_without_a_word(sample_media, name, capsys):
    path = sample_media / "models" / model.FILE
    assert choose(name, path) == DetectorSettings("yunet", model=str(path))
    assert capsys.readouterr().err == ""


def test_dlib_needs_nothing():
    assert choose("dlib") == DetectorSettings("dlib")
