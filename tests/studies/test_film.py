"""The film plays in a browser and shows the right box at the right time."""

from __future__ import annotations

import av
import numpy as np
import pytest

from dfdet.studies.drawing import PERSONS, Curve, Scored, overlay, write
from dfdet.studies.film import STRIP, Followed, write_film

FRAMES = 12


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    grey = [(n, np.full((241, 321, 3), 100, np.uint8)) for n in range(FRAMES)]
    person = Followed(dict.fromkeys(range(6), (100.0, 80.0, 60.0)), [Scored(0, 5, 2.0), Scored(6, 11, -1.0)])
    assert write_film(path, grey, {0: person}, 0.5, FRAMES, 25.0) == FRAMES
    return path


def test_it_is_h264_in_yuv420p_with_its_index_in_front(film):
    content = film.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.frames, float(stream.average_rate)) == (FRAMES, 25.0)
        assert (stream.width, stream.height) == (320, 240 + STRIP)


def test_the_box_is_drawn_while_the_person_is_there(film):
    with av.open(str(film)) as container:
        frames = [f.to_ndarray(format="rgb24").astype(int) for f in container.decode(video=0)]
    for number, frame in enumerate(frames):
        edge = frame[110, 100]  # on the left side of the square
        near = np.abs(edge - PERSONS[0]).max() < 70
        assert near == (number < 6)


def test_the_score_is_that_of_the_nearest_stretch():
    person = Followed({}, [Scored(0, 5, 2.0), Scored(10, 15, -1.0)])
    assert [person.score(n) for n in (0, 5, 7, 8, 30)] == [2.0, 2.0, 2.0, -1.0, -1.0]
    assert np.isnan(Followed({}, []).score(3))


def test_the_cursor_moves_along_the_curve():
    curve = Curve({0: [Scored(0, 49, 1.0), Scored(50, 99, 3.0)]}, 2.0, 100, 400, 120)
    places = [np.flatnonzero((curve.at(n) != curve.picture).any(2).any(0)).mean() for n in (0, 50, 99)]
    assert places == sorted(places)
    assert places[0] == Curve.LEFT
    assert places[2] == 400 - Curve.RIGHT


def test_no_heat_leaves_the_picture_as_it_is():
    picture = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    np.testing.assert_array_equal(overlay(picture, np.zeros((20, 20))), picture)
    warm = overlay(picture, np.eye(20))
    assert (warm != picture).any(2).sum() == 20
    assert warm[3, 3, 0] > warm[3, 3, 2]


def test_words_stay_inside_their_width():
    page = np.full((40, 300, 3), 255, np.uint8)
    write(page, "a very long name of a file that does not fit", 5, 5, 14, width=120)
    inked = np.flatnonzero((page < 128).any(2).any(0))
    assert 60 < inked.max() < 130
