"""An archive without labels: a line for each file, wherever it lies, and nothing to learn from."""

import json

import pytest
from PIL import Image

from models.dataset.errors import DatasetCorrupt, DatasetRefused, LimitExceeded, UnsafeArchive
from models.dataset.folder import DatasetFolder
from models.dataset.ingest import ingest, ingest_unlabelled
from models.dataset.limits import Limits
from models.dataset.places import file_name, thumbnail_name
from models.dataset.unlabelled import UnlabelledImage, read_images


@pytest.fixture
def files(draw):
    one = draw(1)
    return {
        "IMG_2.jpg": draw(2),
        "2026/november/a.jpg": one,
        "2026/copy of a.jpg": one,
        "train/ants/manifest.csv": b"file,label\na.jpg,ant\n",
        "broken.jpg": draw(3)[:200],
        ".DS_Store": b"litter",
        "__MACOSX/._a.jpg": b"litter",
    }


def images_of(folder):
    return list(read_images((folder / "images.jsonl").read_bytes()))


def test_each_file_but_litter_has_its_line(tmp_path, make_zip, files):
    report = ingest_unlabelled(make_zip(tmp_path / "upload.zip", files), tmp_path / "images")
    assert (report.accepted, report.layout, report.labels, report.counts) == (True, "unlabelled", (), {})
    assert (report.files, report.litter, report.images, report.formats) == (5, 2, 3, {"JPEG": 3})
    images = images_of(tmp_path / "images")
    assert [image.name for image in images] == sorted(set(files) - {".DS_Store", "__MACOSX/._a.jpg"})
    copy, original, second, broken, manifest = images
    assert (copy.sha256, copy.bytes) == (original.sha256, len(files["2026/november/a.jpg"]))
    assert second.sha256 != original.sha256
    assert (broken.sha256, broken.fault, manifest.fault) == ("", "unreadable", "not_an_image")
    assert {fault.file: str(fault.code) for fault in report.faults if fault.severity == "error"} == {
        "broken.jpg": "unreadable",
        "train/ants/manifest.csv": "not_an_image",
    }
    assert not any(fault.code == "duplicate" or fault.label for fault in report.faults)


def test_only_what_can_be_used_is_kept(tmp_path, make_zip, files):
    ingest_unlabelled(make_zip(tmp_path / "upload.zip", files), tmp_path / "images")
    used = {image.sha256 for image in images_of(tmp_path / "images") if image.sha256}
    kept = {path.name for path in (tmp_path / "images" / "files").rglob("*") if path.is_file()}
    assert kept == used
    for sha256 in used:
        assert (tmp_path / "images" / file_name(sha256)).is_file()
        with Image.open(tmp_path / "images" / thumbnail_name(sha256)) as thumbnail:
            assert thumbnail.format == "WEBP"


def test_it_is_no_dataset_to_learn_from(tmp_path, make_zip, files):
    ingest_unlabelled(make_zip(tmp_path / "upload.zip", files), tmp_path / "images")
    with pytest.raises(DatasetCorrupt, match="samples"):
        DatasetFolder.open(tmp_path / "images")


def test_the_same_pictures_under_other_names_or_with_labels_are_other_content(tmp_path, make_zip, draw):
    labelled = {
        f"{label}/{n}.jpg": draw(20 * k + n) for k, label in enumerate(("ants", "bees")) for n in range(12)
    }
    zipped = make_zip(tmp_path / "a.zip", labelled)
    first = ingest_unlabelled(zipped, tmp_path / "first")
    again = ingest_unlabelled(make_zip(tmp_path / "b.zip", dict(reversed(labelled.items()))), tmp_path / "again")
    renamed = {f"x{name}": content for name, content in labelled.items()}
    other = ingest_unlabelled(make_zip(tmp_path / "c.zip", renamed), tmp_path / "other")
    hashes = [first.content_hash, again.content_hash, other.content_hash]
    assert hashes[0] == hashes[1]
    assert len({*hashes, ingest(zipped, tmp_path / "labelled").content_hash}) == 3
    assert json.loads((tmp_path / "first" / "dataset.json").read_text())["content_hash"] == hashes[0]


def test_one_picture_is_enough_and_none_is_not(tmp_path, make_zip, draw):
    assert ingest_unlabelled(make_zip(tmp_path / "a.zip", {"a.jpg": draw(1)}), tmp_path / "one").images == 1
    with pytest.raises(DatasetRefused, match="no picture"):
        ingest_unlabelled(make_zip(tmp_path / "b.zip", {"a.txt": b"x"}), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_faults_refuse_it_where_that_is_asked_for(tmp_path, make_zip, files):
    with pytest.raises(DatasetRefused) as caught:
        ingest_unlabelled(make_zip(tmp_path / "a.zip", files), tmp_path / "images", on_fault="refuse")
    assert "faults: 2" in str(caught.value)
    assert not (tmp_path / "images").exists()


def test_an_archive_is_trusted_no_more_than_one_with_labels(tmp_path, make_zip, draw):
    for name in ("../a.jpg", "/a.jpg", "a\u202eb.jpg"):
        with pytest.raises(UnsafeArchive):
            ingest_unlabelled(make_zip(tmp_path / "a.zip", {name: draw(1)}), tmp_path / "images")
    bomb = make_zip(tmp_path / "b.zip", {"a.jpg": bytes(3000), "b.jpg": draw(1)})
    with pytest.raises(LimitExceeded):
        ingest_unlabelled(bomb, tmp_path / "images", limits=Limits(member_bytes=2000))
    assert not (tmp_path / "images").exists()


def test_lines_of_a_later_release_are_read_and_others_refused():
    assert list(read_images(b'{"name": "a", "sha256": "b", "bytes": 1, "later": 2}\n')) == [
        UnlabelledImage("a", "b", 1)
    ]
    for content in (b"{", b"[]\n", b"5\n", b"\xff\n", b"{}\n"):
        with pytest.raises(DatasetCorrupt):
            list(read_images(content))
