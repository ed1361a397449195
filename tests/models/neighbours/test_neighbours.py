"""The nearest training images: found by looking at all, or by a graph; files that are not what they were."""

import dataclasses
import hashlib
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.colours import LABELS, make_colour_artifact

from models.artifact import write_manifest
from models.errors import ArtifactCorrupt, OutputUnavailable
from models.neighbours import exact, graph
from models.neighbours.neighbours import IMAGES, Neighbours, open_neighbours, write_neighbours

D = 48
Vectors = NDArray[np.float32]


def vectors(count: int, seed: int = 0, numbers: int = D) -> Vectors:
    return np.random.default_rng(seed).standard_normal((count, numbers)).astype(np.float32)


def names(count: int) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]


def nearest_by_definition(images: Vectors, query: Vectors, count: int) -> tuple[NDArray[np.int64], Vectors]:
    """Rows and cosine distances, in float64."""
    lengths = np.linalg.norm(images.astype(np.float64), axis=1) * np.linalg.norm(query.astype(np.float64))
    distances = 1 - images.astype(np.float64) @ query.astype(np.float64) / lengths
    rows = np.argsort(distances, kind="stable")[:count]
    return rows, distances[rows]


def written(folder: Path, images: Vectors, **how: int) -> Neighbours:
    """An artifact with these images, read again."""
    manifest = make_colour_artifact(folder)
    write_neighbours(folder, images, names(len(images)), np.arange(len(images)) % 3, LABELS, **how)
    write_manifest(folder, dataclasses.replace(manifest, files={}))
    return open_neighbours(folder, images.shape[1])


@pytest.mark.parametrize("count", [3, 700, 1500])
def test_they_are_those_that_the_definition_of_the_cosine_distance_says(tmp_path: Path, count: int) -> None:
    images, queries = 30 * vectors(count), vectors(9, seed=1)
    found = written(tmp_path / "a", images).nearest(queries, 5)
    for query, near in zip(queries, found, strict=True):
        rows, distances = nearest_by_definition(images, query, 5)
        assert [one.sha256 for one in near] == [names(count)[row] for row in rows]
        assert [one.label for one in near] == [LABELS[row % 3] for row in rows]
        np.testing.assert_allclose([one.distance for one in near], distances, atol=1e-4)


def test_an_image_is_nearest_to_itself_however_long_its_embedding(tmp_path: Path) -> None:
    images = vectors(600) * np.logspace(-20, 20, 600, dtype=np.float32)[:, None]
    found = written(tmp_path / "a", images).nearest(images[::50], 1)
    assert [near.sha256 for (near,) in found] == names(600)[::50]
    assert all(0 <= near.distance < 1e-4 for (near,) in found)


def test_of_equally_near_ones_the_first_are_taken() -> None:
    one = exact.of_length_one(vectors(1))
    index = exact.ExactIndex(np.rint(np.repeat(one, 9, axis=0) * exact.SCALE).astype(np.int16))
    rows, _ = index.nearest(one, 4)
    assert rows.tolist() == [[0, 1, 2, 3]]


def test_numbers_that_are_none_are_as_far_from_all_as_can_be(tmp_path: Path) -> None:
    images = vectors(20)
    images[4, 7], images[5], images[6, 0] = np.nan, 0, np.inf
    neighbours = written(tmp_path / "a", images)
    queries = np.stack([np.full(D, np.nan, np.float32), np.zeros(D, np.float32)])
    for near in neighbours.nearest(queries, 20):
        assert len(near) == 20
        assert {one.distance for one in near} == {1.0}
    assert all(np.isfinite(one.distance) for one in neighbours.nearest(vectors(1, seed=3), 20)[0])


def test_the_same_image_is_kept_once(tmp_path: Path) -> None:
    sha256 = names(3)
    found = write_neighbours(
        tmp_path,
        vectors(5),
        [sha256[0], sha256[1], sha256[0], sha256[2], sha256[1]],
        np.array([0, 1, 0, 2, 1]),
        LABELS,
    )
    assert len(found) == 3
    assert {one.sha256: one.label for one in found.nearest(vectors(1), 10)[0]} == dict(
        zip(sha256, LABELS, strict=True)
    )


def test_of_many_images_a_graph_finds_them(tmp_path: Path) -> None:
    images, queries = vectors(3000), vectors(40, seed=1)
    neighbours = written(tmp_path / "a", images, exact_up_to=2999)
    assert (tmp_path / "a" / graph.FILE).exists()
    assert not (tmp_path / "a" / exact.FILE).exists()
    shared = 0
    for query, near in zip(queries, neighbours.nearest(queries, 10), strict=True):
        rows, distances = nearest_by_definition(images, query, 10)
        shared += len({one.sha256 for one in near} & {names(3000)[row] for row in rows})
        assert [one.distance for one in near] == sorted(one.distance for one in near)
        assert near[0].distance >= distances[0] - 2e-3
    assert shared / 400 > 0.9
    assert neighbours.nearest(queries[:1], 10) == neighbours.nearest(queries, 10)[:1]


def test_a_search_starts_no_threads_and_a_small_one_needs_no_usearch(tmp_path: Path) -> None:
    """In a process of its own: numpy's BLAS has threads as soon as it is imported, and must not use them."""
    written(tmp_path / "a", vectors(2048, numbers=1280))
    code = f"""
import os, resource, sys, time
import numpy as np
from pathlib import Path
from models.neighbours.neighbours import open_neighbours
neighbours = open_neighbours(Path({str(tmp_path / "a")!r}), 1280)
queries = np.ones((64, 1280), np.float32)
neighbours.nearest(queries, 5)
threads = len(os.listdir("/proc/self/task"))
def others():
    ticks = 0
    for task in os.listdir("/proc/self/task"):
        if int(task) != os.getpid():
            fields = open(f"/proc/self/task/{{task}}/stat").read().rpartition(") ")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks
before = others()
for _ in range(60):
    neighbours.nearest(queries, 5)
started = len(os.listdir("/proc/self/task")) - threads
print(started, others() - before, "usearch" in sys.modules, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    started, busy, *imported = done.stdout.split()
    # A thread of BLAS's that still waits for work after its start has a tick; one that computes has dozens.
    assert (started, imported) == ("0", ["False", "False"])
    assert int(busy) <= 2


def test_many_threads_may_search_at_once(tmp_path: Path) -> None:
    images = vectors(2000)
    for neighbours in (written(tmp_path / "a", images), written(tmp_path / "b", images, exact_up_to=10)):
        expected = neighbours.nearest(images[:50], 3)
        found: list[object] = []
        threads = [
            threading.Thread(target=lambda: found.append(neighbours.nearest(images[:50], 3)))  # noqa: B023
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [expected] * 4


def test_a_version_without_them_says_so(tmp_path: Path) -> None:
    make_colour_artifact(tmp_path / "a")
    with pytest.raises(OutputUnavailable, match="no embeddings of training images"):
        open_neighbours(tmp_path / "a", D)


@pytest.mark.parametrize("file", [IMAGES, exact.FILE])
def test_a_file_that_is_not_the_published_one_is_refused(tmp_path: Path, file: str) -> None:
    written(tmp_path / "a", vectors(20))
    content = bytearray((tmp_path / "a" / file).read_bytes())
    content[-1] ^= 1
    (tmp_path / "a" / file).write_bytes(content)
    with pytest.raises(ArtifactCorrupt, match=file):
        open_neighbours(tmp_path / "a", D)


@pytest.mark.parametrize("file", [IMAGES, exact.FILE, graph.FILE])
def test_a_published_file_that_is_no_such_file_is_refused(tmp_path: Path, file: str) -> None:
    written(tmp_path / "a", vectors(20), exact_up_to=10 if file == graph.FILE else 100)
    manifest = make_colour_artifact(tmp_path / "a")
    (tmp_path / "a" / file).write_bytes(b"no such file")
    write_manifest(tmp_path / "a", dataclasses.replace(manifest, files={}))
    with pytest.raises(ArtifactCorrupt, match=file) as refused:
        open_neighbours(tmp_path / "a", D)
    assert str(tmp_path) not in str(refused.value)


def test_files_that_do_not_fit_the_model_are_refused(tmp_path: Path) -> None:
    written(tmp_path / "a", vectors(20))
    with pytest.raises(ArtifactCorrupt, match="do not fit"):
        open_neighbours(tmp_path / "a", D + 1)
    manifest = make_colour_artifact(tmp_path / "a")
    np.savez(tmp_path / "a" / IMAGES, sha256=np.zeros((20, 32), np.uint8), classes=np.full(20, 3, np.int32))
    write_manifest(tmp_path / "a", dataclasses.replace(manifest, files={}))
    with pytest.raises(ArtifactCorrupt, match="beyond the 3"):
        open_neighbours(tmp_path / "a", D)
