import json
from pathlib import Path

import pytest
from PIL import Image

from models.dataset.errors import DatasetCorrupt, DatasetError, DatasetExists, DatasetNotFound
from models.dataset.folder import DatasetFolder, LabelledImage, write_dataset
from models.errors import ImageUnreadable


@pytest.fixture
def images(draw) -> list[LabelledImage]:
    return [
        LabelledImage(
            draw(seed), label=str(seed % 3 * 5), split="val" if seed > 5 else "train", name=f"{seed}.jpg"
        )
        for seed in range(9)
    ]


def test_what_was_written_is_what_is_opened(tmp_path, images):
    written = write_dataset(tmp_path / "ds", images, report={"note": "kept"})
    opened = DatasetFolder.open(tmp_path / "ds")
    assert opened == written
    assert {(s.name, s.label, s.split) for s in opened.samples} == {(i.name, i.label, i.split) for i in images}
    assert all(opened.path_of(s).read_bytes() in [i.data for i in images] for s in opened.samples)
    assert opened.report == {"note": "kept"}
    assert opened.bytes == sum(len(i.data) for i in images)
    opened.verify()


def test_labels_stand_in_natural_order(tmp_path, images):
    assert write_dataset(tmp_path / "ds", images).labels == ("0", "5", "10")


def test_splits_and_counts_are_told(tmp_path, images):
    dataset = write_dataset(tmp_path / "ds", images)
    assert dataset.splits == ("train", "val")
    assert dataset.counts == {label: {"train": 2, "val": 1} for label in ("0", "5", "10")}


def test_the_content_hash_depends_on_content_labels_and_splits_but_not_on_names_or_order(tmp_path, images):
    def hash_of(name: str, changed: list[LabelledImage]) -> str:
        return write_dataset(tmp_path / name, changed).content_hash

    first, *rest = images
    original = hash_of("a", images)
    assert hash_of("b", [*rest, LabelledImage(first.data, first.label, first.split, "renamed.jpg")]) == original
    assert hash_of("c", [*rest, LabelledImage(first.data, "5", first.split, first.name)]) != original
    assert hash_of("d", [*rest, LabelledImage(first.data, first.label, "val", first.name)]) != original
    assert hash_of("e", rest) != original


def test_samples_stand_in_the_same_order_whatever_the_files_are_called(tmp_path, images):
    renamed = [LabelledImage(i.data, i.label, i.split, f"{n}.jpg") for n, i in enumerate(reversed(images))]
    first, second = write_dataset(tmp_path / "a", images), write_dataset(tmp_path / "b", renamed)
    assert [s.sha256 for s in first.samples] == [s.sha256 for s in second.samples]


def test_thumbnails_are_small_webp_files(tmp_path, draw):
    dataset = write_dataset(tmp_path / "ds", [LabelledImage(draw(size=(640, 320)), "x", None, "x.jpg")])
    with Image.open(dataset.thumbnail_of(dataset.samples[0])) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("WEBP", (160, 80))


def test_a_repeated_picture_is_kept_once(tmp_path, images):
    assert len(write_dataset(tmp_path / "ds", [*images, images[0]]).samples) == len(images)


def test_a_picture_under_two_labels_is_refused_and_nothing_is_left(tmp_path, images):
    twisted = LabelledImage(images[0].data, "5", "train", "again.jpg")
    with pytest.raises(DatasetError, match=r"0\.jpg and again\.jpg are the same picture"):
        write_dataset(tmp_path / "ds", [*images, twisted])
    assert list(tmp_path.iterdir()) == []


def test_a_broken_picture_is_refused_and_nothing_is_left(tmp_path, images):
    with pytest.raises(ImageUnreadable):
        write_dataset(tmp_path / "ds", [*images, LabelledImage(b"not a picture", "5", None, "x")])
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_is_never_overwritten(tmp_path, images):
    write_dataset(tmp_path / "ds", images)
    with pytest.raises(DatasetExists):
        write_dataset(tmp_path / "ds", images[:1])
    assert len(DatasetFolder.open(tmp_path / "ds").samples) == len(images)


def test_an_incomplete_dataset_is_not_found(tmp_path, images):
    write_dataset(tmp_path / "ds", images)
    (tmp_path / "ds" / "dataset.json").unlink()
    with pytest.raises(DatasetNotFound, match=r"dataset\.json, which is written last, is missing"):
        DatasetFolder.open(tmp_path / "ds")
    with pytest.raises(DatasetNotFound):
        DatasetFolder.open(tmp_path / "nowhere")


def change_a_label(folder: Path) -> None:
    lines = (folder / "samples.jsonl").read_text().splitlines()
    sample = json.loads(lines[0]) | {"label": "10"}
    (folder / "samples.jsonl").write_text("\n".join([json.dumps(sample), *lines[1:]]))


def cut_the_samples(folder: Path) -> None:
    content = (folder / "samples.jsonl").read_text()
    (folder / "samples.jsonl").write_text(content[: len(content) // 2])


def write_another_format(folder: Path) -> None:
    manifest = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(manifest | {"format": 99}))


def drop_the_labels(folder: Path) -> None:
    manifest = json.loads((folder / "dataset.json").read_text())
    del manifest["labels"]
    (folder / "dataset.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("damage", [change_a_label, cut_the_samples, write_another_format, drop_the_labels])
def test_a_changed_dataset_is_corrupt(tmp_path, images, damage):
    write_dataset(tmp_path / "ds", images)
    damage(tmp_path / "ds")
    with pytest.raises(DatasetCorrupt):
        DatasetFolder.open(tmp_path / "ds")


def test_verify_names_the_file_whose_bytes_changed(tmp_path, images):
    dataset = write_dataset(tmp_path / "ds", images)
    victim = dataset.samples[3]
    dataset.path_of(victim).write_bytes(b"other bytes")
    with pytest.raises(DatasetCorrupt, match=victim.name):
        dataset.verify()
    dataset.path_of(victim).unlink()
    with pytest.raises(DatasetCorrupt, match=victim.name):
        dataset.verify()
