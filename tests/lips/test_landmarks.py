"""FaceMesh finds faces of any size and number, keeps quiet, and gives everything back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
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


PROGRAM = """
import sys, numpy, avsr.lips
from pathlib import Path

assert "mediapipe" not in sys.modules
picture, process = numpy.load("face.npy"), Path("/proc/self")
with avsr.lips.FaceMesh() as mesh:
    assert len(mesh(picture)) == 1
assert "matplotlib" not in sys.modules
print("heard", file=sys.stderr)
for openings in (20, 30) if process.exists() else ():
    for _ in range(openings):
        with avsr.lips.FaceMesh(max_num_faces=1) as mesh:
            mesh(picture)
    resident = next(line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS"))
    print(len(list((process / "task").iterdir())), len(list((process / "fd").iterdir())), resident.split()[1])
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, draw_face: DrawFace) -> subprocess.CompletedProcess[str]:
    """A process that opened many meshes: small, and with one heap, since a worker's many heaps grow for long."""
    folder = tmp_path_factory.mktemp("face")
    np.save(folder / "face.npy", draw_face((180, 144), (90, 72), 100))
    environment = os.environ | {"MALLOC_ARENA_MAX": "1"}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=folder, env=environment, capture_output=True, text=True, timeout=100
    )


def test_importing_is_quick_and_a_first_face_is_quiet(ended: subprocess.CompletedProcess[str]) -> None:
    assert (ended.returncode, ended.stderr.strip()) == (0, "heard")


@pytest.mark.parametrize("first", ["avsr.lips.FaceMesh().close()", "import mediapipe", "import matplotlib.pyplot"])
def test_mediapipe_draws_and_matplotlib_plots_whichever_was_imported_first(first: str) -> None:
    program = f"""
import sys, avsr.lips
{first}
avsr.lips.FaceMesh(max_num_faces=1).close()
assert not any(type(finder).__module__.startswith("avsr") for finder in sys.meta_path)
import matplotlib.pyplot, mediapipe
from mediapipe.python.solutions import drawing_styles, drawing_utils
assert mediapipe.solutions.drawing_utils is drawing_utils and drawing_utils.plt is matplotlib.pyplot
assert drawing_styles.DrawingSpec is drawing_utils.DrawingSpec
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's process table")
def test_thirty_openings_leak_neither_threads_nor_files_nor_memory(ended: subprocess.CompletedProcess[str]) -> None:
    before, after = ([int(number) for number in line.split()] for line in ended.stdout.splitlines())
    assert after[0] <= before[0]
    assert after[1] <= before[1]
    assert after[2] - before[2] < 30_000  # kB, of thirty meshes of about 10 MB


def test_looking_for_a_face_leaves_stderr_alone(mesh: FaceMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(silent_stderr), "__enter__", lambda _: pytest.fail("stderr was muted for a picture"))
    assert mesh(np.full((64, 64, 3), 90, np.uint8)) == []


def test_a_real_clip_is_tracked_in_every_picture(grid_pictures: list[ByteArray]) -> None:
    with FaceMesh() as mesh:
        found: list[list[Face]] = [mesh(picture) for picture in grid_pictures]
    assert [len(faces) for faces in found] == [1] * 75
