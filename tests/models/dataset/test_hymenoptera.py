"""Real photographs with real dirt."""

import os
import zipfile
from pathlib import Path

import pytest

from models.dataset.folder import DatasetFolder
from models.dataset.ingest import ingest
from models.dataset.pack import pack

DATA = os.environ.get("FOVEA_TEST_DATA")

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not DATA, reason="FOVEA_TEST_DATA is not set: no real photographs"),
]


@pytest.fixture(scope="module")
def archive():
    return Path(str(DATA)) / "hymenoptera.zip"


@pytest.fixture(scope="module")
def ingested(archive, tmp_path_factory):
    destination = tmp_path_factory.mktemp("store") / "ds"
    return ingest(archive, destination), DatasetFolder.open(destination)


def test_the_splits_and_classes_are_those_of_the_folders(ingested):
    report, dataset = ingested
    assert dataset.labels == ("ants", "bees")
    assert dataset.splits == ("train", "val")
    assert dataset.counts == {"ants": {"train": 124, "val": 70}, "bees": {"train": 121, "val": 83}}
    assert (report.files, report.images) == (398, 398)


def test_the_dirt_is_named_and_not_in_the_way(ingested):
    report, dataset = ingested
    assert {(str(fault.code), fault.severity, fault.file) for fault in report.faults} == {
        ("odd_name", "warning", "train/ants/ant photos.jpg"),
        ("odd_name", "warning", "val/ants/F.pergan.28(f).jpg"),
    }
    assert {"train/ants/ant photos.jpg", "val/ants/F.pergan.28(f).jpg"} <= {s.name for s in dataset.samples}
    dataset.verify()


def test_a_folder_that_is_packed_and_sent_gives_the_same_dataset(ingested, archive, tmp_path):
    with zipfile.ZipFile(archive) as content:
        content.extractall(tmp_path / "hymenoptera")
    pack(tmp_path / "hymenoptera", tmp_path / "hymenoptera.tar")
    report = ingest(tmp_path / "hymenoptera.tar", tmp_path / "ds")
    assert report.content_hash == ingested[0].content_hash
    assert report.faults == ingested[0].faults
