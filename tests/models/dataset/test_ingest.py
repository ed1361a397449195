import io
import itertools
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from models.dataset.errors import (
    ArchiveUnreadable,
    DatasetExists,
    DatasetRefused,
    LayoutUnclear,
    LimitExceeded,
    UnsafeArchive,
)
from models.dataset.folder import DatasetFolder
from models.dataset.ingest import ingest
from models.dataset.limits import Limits
from models.dataset.report import Report


@pytest.fixture
def insects(draw):
    """Two classes of twelve pictures in train and three in val."""

    def name(label, n):
        return f"{'train' if n < 12 else 'val'}/{label}/{n}.jpg"

    return {name(label, n): draw(100 * k + n) for k, label in enumerate(("ants", "bees")) for n in range(15)}


@pytest.fixture
def ingested(tmp_path, make_zip):
    """Ingests files as a zip; the report and the dataset."""
    numbers = itertools.count()

    def run(files, **options):
        destination = tmp_path / "store" / f"ds{next(numbers)}"
        report = ingest(make_zip(tmp_path / "upload.zip", files), destination, **options)
        return report, DatasetFolder.open(destination)

    return run


@pytest.fixture
def refused(tmp_path, ingested):
    """The report of an ingest that is refused and leaves nothing behind."""

    def run(files, **options):
        with pytest.raises(DatasetRefused) as caught:
            ingested(files, **options)
        assert list((tmp_path / "store").iterdir()) == []
        return caught.value.report

    return run


def faults(report, code):
    """By file, or by label where a fault is about a class."""
    return {fault.file or fault.label: fault for fault in report.faults if fault.code == code}


def names(dataset):
    return {sample.name for sample in dataset.samples}


def test_a_sound_dataset_has_no_faults(ingested, insects):
    report, dataset = ingested(insects)
    assert report.faults == ()
    assert report.accepted
    assert dataset.labels == ("ants", "bees")
    assert dataset.counts == {"ants": {"train": 12, "val": 3}, "bees": {"train": 12, "val": 3}}
    assert names(dataset) == set(insects)
    assert all(dataset.path_of(sample).read_bytes() == insects[sample.name] for sample in dataset.samples)
    assert all(dataset.thumbnail_of(sample).exists() for sample in dataset.samples)
    assert report.content_hash == dataset.content_hash
    dataset.verify()


def test_the_report_describes_what_is_there(ingested, insects, draw):
    insects["train/ants/big.png"] = draw(999, size=(300, 100), kind="PNG", mode="L")
    report, dataset = ingested(insects)
    assert (report.source, report.layout, report.files, report.images) == ("zip", "split_folders", 31, 31)
    assert report.formats == {"JPEG": 30, "PNG": 1}
    assert report.modes == {"RGB": 30, "L": 1}
    assert (report.width.min, report.width.median, report.width.max) == (48, 48, 300)
    assert report.bytes.max == max(map(len, insects.values()))
    assert dataset.report == json.loads(json.dumps(report.to_dict()))
    assert Report.from_dict(dataset.report) == report


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "folder"])
def test_every_kind_of_source_makes_the_same_dataset(
    tmp_path, insects, make_zip, make_tar, make_folder, kind, ingested
):
    make = {"zip": make_zip, "tar": make_tar, "tar.gz": make_tar, "folder": make_folder}[kind]
    path = make(tmp_path / f"insects.{kind}", {f"insects/{name}": data for name, data in insects.items()})
    report = ingest(path, tmp_path / "ds")
    assert report.source == kind
    assert report.content_hash == ingested(insects)[0].content_hash


def test_a_manifest_makes_the_same_dataset_as_folders(ingested, insects):
    rows = [f"img/{n}.jpg,{name.split('/')[1]},{name.split('/')[0]}" for n, name in enumerate(insects)]
    files = {f"img/{n}.jpg": data for n, data in enumerate(insects.values())}
    report, _ = ingested({"manifest.csv": "\n".join(["file,label,split", *rows]).encode(), **files})
    assert report.layout == "manifest"
    assert report.faults == ()
    assert report.content_hash == ingested(insects)[0].content_hash


def test_litter_is_left_out_silently(ingested, insects):
    litter = {"__MACOSX/train/ants/._1.jpg": b"x", "train/.DS_Store": b"x", "train/ants/Thumbs.db": b"x"}
    report, _ = ingested({**insects, **litter, "train/ants/Icon\r": b"x"})
    assert (report.litter, report.files, report.faults) == (4, 30, ())
    assert report.content_hash == ingested(insects)[0].content_hash


def bad_files(draw):
    bomb, animation = io.BytesIO(), io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(bomb, "PNG")
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(animation, "WEBP", save_all=True, append_images=frames[1:])
    gif, scan = io.BytesIO(), io.BytesIO()
    frames[0].save(gif, "GIF", save_all=True, append_images=frames[1:])
    frames[1].save(scan, "TIFF", save_all=True, append_images=frames[:1])
    whole = draw(500, size=(400, 400))
    return {
        "cut.jpg": ("unreadable", whole[: len(whole) // 2]),
        "header.png": ("unreadable", b"\x89PNG\r\n\x1a\n" + bytes(100)),
        "empty.jpg": ("not_an_image", b""),
        "notes.txt": ("not_an_image", b"these are ants"),
        "page.jpg": ("not_an_image", b"<!DOCTYPE html><html>404</html>"),
        "moving.gif": ("animated", gif.getvalue()),
        "photo.heic": ("unsupported_format", b"\0\0\0\x18ftypheic" + bytes(100)),
        "pages.tif": ("animated", scan.getvalue()),
        "broken.tif": ("unreadable", b"II*\0" + bytes(100)),
        "drawing.psd": ("unsupported_format", b"8BPS" + bytes(100)),
        "bomb.png": ("too_many_pixels", bomb.getvalue()),
        "really.png": ("wrong_extension", draw(501)),
        "no_extension": ("wrong_extension", draw(502)),
        "moving.webp": ("animated", animation.getvalue()),
        "my photo (2).jpg": ("odd_name", draw(503)),
    }


def test_every_faulty_file_is_told_with_its_reason_and_left_out(ingested, insects, draw):
    bad = bad_files(draw)
    report, dataset = ingested({**insects, **{f"train/ants/{name}": data for name, (_, data) in bad.items()}})
    assert {(f.file, str(f.code)) for f in report.faults} == {
        (f"train/ants/{n}", code) for n, (code, _) in bad.items()
    }
    left_out = {fault.file for fault in report.faults if fault.severity == "error"}
    assert names(dataset) == {*insects, *(f"train/ants/{name}" for name in bad)} - left_out
    assert all(fault.reason and fault.label == "ants" for fault in report.faults)
    severities = [fault.severity for fault in report.faults]
    assert severities == sorted(severities)


def test_warnings_refuse_nothing(ingested, insects, draw):
    report, dataset = ingested({**insects, "train/ants/a b.jpg": draw(600)}, on_fault="refuse")
    assert faults(report, "odd_name")
    assert len(dataset.samples) == 31


def test_errors_refuse_the_dataset_where_that_is_asked_for_and_all_are_told(refused, insects):
    report = refused({**insects, "train/ants/x.jpg": b"x", "train/bees/y.jpg": b"y"}, on_fault="refuse")
    assert "faults: 2, first 'train/ants/x.jpg'" in report.refusals[0]
    assert set(faults(report, "not_an_image")) == {"train/ants/x.jpg", "train/bees/y.jpg"}
    assert (report.accepted, report.content_hash) == (False, None)


def test_a_limit_on_pixels_is_kept(ingested, insects, draw):
    insects["train/ants/large.jpg"] = draw(700, size=(200, 200))
    report, dataset = ingested(insects, limits=Limits(pixels=30_000))
    assert set(faults(report, "too_many_pixels")) == {"train/ants/large.jpg"}
    assert len(dataset.samples) == 30


def test_a_repeated_picture_is_kept_once(ingested, insects):
    insects["train/ants/again.jpg"] = insects["train/ants/3.jpg"]
    report, dataset = ingested(insects)
    (fault,) = faults(report, "duplicate").values()
    assert (fault.file, fault.related, fault.severity) == ("train/ants/again.jpg", "train/ants/3.jpg", "warning")
    assert len(dataset.samples) == 30


def test_a_picture_in_train_and_val_stays_where_it_measures(ingested, insects):
    insects["train/ants/leak.jpg"] = insects["val/ants/13.jpg"]
    report, dataset = ingested(insects)
    (fault,) = faults(report, "duplicate_across_splits").values()
    assert (fault.file, fault.related, fault.severity) == ("train/ants/leak.jpg", "val/ants/13.jpg", "error")
    assert dataset.counts["ants"] == {"train": 12, "val": 3}


def test_a_picture_under_two_labels_is_used_under_none(ingested, insects):
    insects["train/ants/bee.jpg"] = insects["train/bees/5.jpg"]
    report, dataset = ingested(insects)
    conflicts = faults(report, "conflicting_labels")
    assert {file: fault.related for file, fault in conflicts.items()} == {
        "train/ants/bee.jpg": "train/bees/5.jpg",
        "train/bees/5.jpg": "train/ants/bee.jpg",
    }
    assert names(dataset) == set(insects) - set(conflicts)
    stored = [path for path in (dataset.path / "files").rglob("*") if path.is_file()]
    assert len(stored) == len(list((dataset.path / "thumbnails").iterdir())) == len(dataset.samples)


def test_a_picture_nearly_the_same_in_two_splits_is_told_and_used(ingested, insects):
    copy = io.BytesIO()
    Image.open(io.BytesIO(insects["train/bees/4.jpg"])).resize((44, 38)).save(copy, "PNG")
    insects["val/bees/copy.png"] = copy.getvalue()
    report, dataset = ingested(insects)
    (fault,) = faults(report, "near_duplicate_across_splits").values()
    assert (fault.file, fault.related, fault.severity) == ("val/bees/copy.png", "train/bees/4.jpg", "warning")
    assert len(dataset.samples) == 31


def test_rows_of_a_manifest_are_checked_one_by_one(ingested, draw):
    files = {f"{n}.jpg": draw(n) for n in range(25)}
    rows = [f"{n}.jpg,{'ant' if n % 2 else 'bee'}" for n in range(24)]
    rows += ["gone.jpg,ant", ",ant", "1.jpg,ant", "2.jpg,ant"]
    report, dataset = ingested({**files, "labels.csv": "\n".join(["file,label", *rows]).encode()})
    assert set(faults(report, "missing_file")) == {"gone.jpg"}
    assert set(faults(report, "bad_row")) == {"labels.csv line 27"}
    assert set(faults(report, "not_in_manifest")) == {"24.jpg"}
    assert set(faults(report, "duplicate")) == {"1.jpg"}
    assert set(faults(report, "conflicting_labels")) == {"2.jpg"}
    assert names(dataset) == set(files) - {"24.jpg", "2.jpg"}


def test_small_classes_and_classes_missing_in_a_split_are_told(ingested, insects, draw):
    insects["train/wasps/1.jpg"] = draw(801)
    report, dataset = ingested(insects)
    assert faults(report, "class_too_small")["wasps"].severity == "warning"
    assert "in val" in faults(report, "class_missing_in_split")["wasps"].reason
    assert dataset.labels == ("ants", "bees", "wasps")


def test_labels_that_differ_in_case_only_are_told(ingested, insects):
    moved = {name.replace("val/ants", "val/Ants"): data for name, data in insects.items()}
    moved |= {"train/Ants/1.jpg": moved.pop("val/Ants/12.jpg")}
    report, _ = ingested(moved)
    assert "'Ants' and 'ants'" in faults(report, "similar_labels")["ants"].reason


def test_a_report_counts_the_faults_that_it_has_no_room_to_list(ingested, insects, monkeypatch):
    monkeypatch.setattr("models.dataset.report.LISTED_PER_CODE", 5)
    report, _ = ingested({**insects, **{f"stray{n}.txt": b"x" for n in range(8)}})
    assert report.faults_by_code() == {"outside_class_folder": 8}
    assert len(report.faults) == 5
    assert Report.from_dict(report.to_dict()) == report


def test_a_refusal_gives_twenty_reasons_at_most(refused, insects):
    report = refused({**insects, **{f"train/class {n}/": b"" for n in range(50)}})
    assert len(report.refusals) == 21
    assert report.refusals[-1] == "and 30 more reasons"
    assert len(faults(report, "empty_class")) == 50


@pytest.mark.parametrize("on_fault", ["skip", "refuse"])
class TestWhateverThePolicy:
    def test_one_class_is_refused(self, refused, draw, on_fault):
        report = refused({f"ants/{n}.jpg": draw(n) for n in range(3)}, on_fault=on_fault)
        assert "one class only, 'ants'" in report.refusals[0]

    def test_an_empty_class_is_refused(self, refused, insects, on_fault):
        report = refused({**insects, "train/wasps/": b""}, on_fault=on_fault)
        assert report.refusals[0] == "the class 'wasps' has no picture that can be used in train"

    def test_a_class_that_is_empty_once_the_faulty_are_left_out_is_refused(self, refused, insects, on_fault):
        report = refused({**insects, "train/wasps/1.jpg": b"rubbish"}, on_fault=on_fault)
        assert set(faults(report, "empty_class")) == {"wasps"}
        assert set(faults(report, "not_an_image")) == {"train/wasps/1.jpg"}

    def test_a_class_that_is_in_val_alone_is_refused(self, refused, insects, draw, on_fault):
        report = refused({**insects, "val/wasps/1.jpg": draw(900)}, on_fault=on_fault)
        assert set(faults(report, "empty_class")) == {"wasps"}

    @pytest.mark.parametrize("files", [{}, {"ants/1.jpg": b"x", "bees/2.jpg": b"y"}, {"readme.txt": b"x"}])
    def test_no_readable_picture_is_refused(self, refused, files, on_fault):
        report = refused(files, on_fault=on_fault)
        assert "there is no picture that can be used" in report.refusals


def slip(archive):
    archive.writestr("../../evil.jpg", b"evil")


def link(archive):
    entry = zipfile.ZipInfo("train/ants/link.jpg")
    entry.external_attr = 0o120777 << 16
    archive.writestr(entry, "/etc/passwd")


def large(archive):
    archive.writestr("train/ants/large.jpg", bytes(90_000_000))


def two_manifests(archive):
    archive.writestr("manifest.csv", "file,label\n")
    archive.writestr("labels.csv", "file,label\n")


def locked(archive):
    archive.writestr("train/ants/locked.jpg", b"secret")
    archive.filelist[-1].flag_bits |= 1


@pytest.mark.parametrize(
    ("attack", "error"),
    [
        (slip, UnsafeArchive),
        (link, UnsafeArchive),
        (large, LimitExceeded),
        (locked, ArchiveUnreadable),
        (two_manifests, LayoutUnclear),
    ],
)
def test_a_refused_archive_leaves_nothing_behind(tmp_path, insects, make_zip, attack, error):
    path = make_zip(tmp_path / "upload.zip", insects)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        attack(archive)
    with pytest.raises(error):
        ingest(path, tmp_path / "store" / "ds")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["store", "upload.zip"]


def test_a_damaged_member_is_a_faulty_file_like_others(tmp_path, insects, make_zip):
    path = tmp_path / "upload.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in insects.items():
            archive.writestr(name, data)
    content, victim = path.read_bytes(), insects["train/ants/7.jpg"]
    path.write_bytes(content.replace(victim, victim[:-9] + b"123456789"))
    report = ingest(path, tmp_path / "ds")
    assert "CRC" in faults(report, "unreadable")["train/ants/7.jpg"].reason
    assert report.images == 29


def test_a_damaged_manifest_is_refused(tmp_path, draw):
    path = tmp_path / "upload.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.csv", "file,label\n1.jpg,the ant\n")
        archive.writestr("1.jpg", draw(1))
    path.write_bytes(path.read_bytes().replace(b"the ant", b"the bee"))
    with pytest.raises(LayoutUnclear, match=r"manifest\.csv cannot be read: damaged"):
        ingest(path, tmp_path / "ds")


def test_names_in_an_unknown_encoding_are_told(tmp_path, insects, make_zip, draw):
    path = make_zip(tmp_path / "upload.zip", {**insects, "train/ants/caf_.jpg": draw(950)})
    path.write_bytes(path.read_bytes().replace(b"caf_", b"caf\x82"))
    report = ingest(path, tmp_path / "ds")
    assert set(faults(report, "garbled_name")) == {"train/ants/café.jpg"}
    assert {sample.name for sample in DatasetFolder.open(tmp_path / "ds").samples} >= {"train/ants/café.jpg"}


def test_a_destination_that_is_taken_stays_as_it_is(tmp_path, insects, make_zip):
    (tmp_path / "ds").mkdir()
    (tmp_path / "ds" / "mine").write_text("keep")
    with pytest.raises(DatasetExists):
        ingest(make_zip(tmp_path / "upload.zip", insects), tmp_path / "ds")
    assert [path.name for path in (tmp_path / "ds").iterdir()] == ["mine"]


def test_progress_is_told_in_phases(ingested, insects):
    seen = []
    ingested(insects, progress=lambda *step: seen.append(step))
    assert list(dict.fromkeys(phase for phase, _, _ in seen)) == ["reading", "inspecting", "comparing"]
    assert [step[1:] for step in seen if step[0] == "inspecting"] == [(n, 30) for n in range(1, 31)]


@pytest.mark.parametrize("phase", ["reading", "inspecting", "comparing"])
def test_an_ingest_that_is_cancelled_leaves_nothing_behind(tmp_path, ingested, insects, phase):
    def cancel(current, done, total):
        if current == phase:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingested(insects, progress=cancel)
    assert list((tmp_path / "store").iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next_one(tmp_path, ingested, insects):
    store = tmp_path / "store"
    (store / "scratch-left" / "content" / "files").mkdir(parents=True)
    (store / "scratch-left" / ".lock").touch()
    ingested(insects)
    assert [path.name for path in store.iterdir()] == ["ds0"]


@pytest.mark.slow
def test_tens_of_thousands_of_tiny_files_are_taken(tmp_path):
    noise = np.random.default_rng(0)
    with zipfile.ZipFile(tmp_path / "upload.zip", "w") as archive:
        for n in range(30_000):
            picture = io.BytesIO()
            Image.fromarray(noise.integers(0, 256, (8, 8), dtype=np.uint8)).save(picture, "PNG")
            archive.writestr(f"{'val' if n % 7 == 0 else 'train'}/{n % 10}/{n}.png", picture.getvalue())
    report = ingest(tmp_path / "upload.zip", tmp_path / "ds")
    assert (report.images, report.faults_by_code()) == (30_000, {})
    assert len(DatasetFolder.open(tmp_path / "ds").samples) == 30_000
