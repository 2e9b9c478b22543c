"""FaceMesh finds faces of any size and number, keeps quiet, and gives everything back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from avsr.errors import InputError
from avsr.lips import Face, FaceMesh
from avsr.stderr import silent_stderr
from avsr.types import ByteArray

DrawFace = Callable[..., ByteArray]


@pytest.fixture(scope="module")
def mesh() -> Iterator[FaceMesh]:
    with FaceMesh() as mesh:
        yield mesh


def test_a_talking_face_is_found_in_every_picture(mesh: FaceMesh, draw_face: DrawFace) -> None:
    for index in range(20):
        faces = mesh(draw_face(centre=(170 + index, 144), opening=index % 5 / 5))
        assert len(faces) == 1
        assert faces[0].points.shape == (468, 2)
        assert faces[0].points.dtype == np.float32
        assert abs(faces[0].mouth_centre[0] - (170 + index)) < 4
        assert abs(faces[0].mouth_centre[1] - 192) < 6


def test_the_mouth_opening_grows_as_the_mouth_opens(draw_face: DrawFace) -> None:
    openings = []
    with FaceMesh(max_num_faces=1) as mesh:
        for opening in (0.0, 0.5, 1.0):
            (face,) = [mesh(draw_face(opening=opening)) for _ in range(3)][-1]
            openings.append(face.mouth_opening)
    assert openings[0] + 0.1 < openings[1] < openings[2] - 0.1


def test_points_are_in_pixels_of_the_picture_given_however_large(mesh: FaceMesh, draw_face: DrawFace) -> None:
    small = draw_face((640, 480), (320, 240), 260)
    for _ in range(3):
        (at_640,) = mesh(small)
    large = cv2.resize(small, (2560, 1920), interpolation=cv2.INTER_LINEAR)
    (at_2560,) = mesh(large)
    assert np.abs(at_2560.points / 4 - at_640.points).max() < 2.5


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (900, 1), (16, 16)])
def test_a_picture_without_a_face_has_none_whatever_its_size(mesh: FaceMesh, shape: tuple[int, int]) -> None:
    assert mesh(np.full((*shape, 3), 90, np.uint8)) == []


def test_a_second_face_is_found_within_a_second_and_let_go_again(draw_face: DrawFace) -> None:
    one = draw_face((640, 480), (170, 240), 220)
    two = draw_face((640, 480), (460, 240), 220, picture=one)
    with FaceMesh() as mesh:
        assert len(mesh(one)) == 1
        counts = [len(mesh(two)) for _ in range(30)]
        assert counts[-4:] == [2] * 4
        assert [len(mesh(one)) for _ in range(60)][-5:] == [1] * 5


def test_with_one_face_looking_out_for_more_changes_nothing(draw_face: DrawFace) -> None:
    pictures = [draw_face(centre=(150 + index, 144), opening=index % 7 / 7) for index in range(28)]

    def points(max_num_faces: int) -> list[np.ndarray]:
        with FaceMesh(max_num_faces) as mesh:
            return [mesh(picture)[0].points for picture in pictures]

    np.testing.assert_array_equal(points(1), points(2))


@pytest.mark.parametrize(
    "picture",
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), "u1")],
)
def test_what_is_not_a_picture_is_refused(mesh: FaceMesh, picture: ByteArray) -> None:
    with pytest.raises(InputError, match="must be u8"):
        mesh(picture)


def test_no_faces_asked_for_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        FaceMesh(max_num_faces=0)


def test_a_closed_mesh_says_so_and_closes_twice(draw_face: DrawFace) -> None:
    mesh = FaceMesh(max_num_faces=1)
    mesh.close()
    mesh.close()
    with pytest.raises(InputError, match="closed"):
        mesh(draw_face())


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's process table")
def test_many_openings_leak_neither_threads_nor_files_nor_memory(draw_face: DrawFace) -> None:
    picture = draw_face((180, 144), (90, 72), 100)

    def after_openings(num_openings: int) -> tuple[int, int, float]:
        for _ in range(num_openings):
            with FaceMesh(max_num_faces=1) as mesh:
                mesh(picture)
        return _threads(), _open_files(), _resident_mb()

    taken = [after_openings(10) for _ in range(4)]
    assert taken[-1][0] <= taken[0][0]
    assert taken[-1][1] <= taken[0][1]
    # A leak grows every time, and the allocator only now and then; one mesh takes about 10 MB.
    assert min(after[2] - before[2] for before, after in pairwise(taken)) < 6


def test_importing_is_quick_and_a_first_face_is_quiet(tmp_path: Path, draw_face: DrawFace) -> None:
    np.save(tmp_path / "face.npy", draw_face())
    program = (
        "import sys, numpy, avsr.lips\n"
        "assert 'mediapipe' not in sys.modules\n"
        "with avsr.lips.FaceMesh() as mesh:\n"
        "    assert len(mesh(numpy.load('face.npy'))) == 1\n"
        "print('heard', file=sys.stderr)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert (ended.returncode, ended.stderr.strip()) == (0, "heard")


def test_looking_for_a_face_leaves_stderr_alone(mesh: FaceMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(silent_stderr), "__enter__", lambda _: pytest.fail("stderr was muted for a picture"))
    assert mesh(np.full((64, 64, 3), 90, np.uint8)) == []


def test_a_real_clip_is_tracked_in_every_picture(grid_pictures: list[ByteArray]) -> None:
    with FaceMesh() as mesh:
        found: list[list[Face]] = [mesh(picture) for picture in grid_pictures]
    assert [len(faces) for faces in found] == [1] * 75


def _threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _resident_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
