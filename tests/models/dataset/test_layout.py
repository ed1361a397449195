import time

import pytest

from models.dataset.errors import LayoutUnclear
from models.dataset.layout import find_layout


def placed(files, folders=(), manifest=""):
    layout = find_layout(files, folders, lambda _: manifest.encode())
    return layout, {(p.name, p.label, p.split) for p in layout.placed}


def test_class_folders():
    layout, found = placed(["ants/1.jpg", "bees/2.jpg", "bees/more/3.jpg"])
    assert layout.kind == "class_folders"
    assert found == {("ants/1.jpg", "ants", None), ("bees/2.jpg", "bees", None), ("bees/more/3.jpg", "bees", None)}


@pytest.mark.parametrize(
    ("folder", "split"), [("val", "val"), ("valid", "val"), ("Validation", "val"), ("TEST", "test")]
)
def test_split_folders(folder, split):
    layout, found = placed(["train/ants/1.jpg", f"{folder}/ants/2.jpg"])
    assert layout.kind == "split_folders"
    assert found == {("train/ants/1.jpg", "ants", "train"), (f"{folder}/ants/2.jpg", "ants", split)}


def test_train_alone_is_a_split_even_as_the_only_folder():
    layout, found = placed(["train/ants/1.jpg", "train/bees/2.jpg"])
    assert layout.kind == "split_folders"
    assert {split for _, _, split in found} == {"train"}


@pytest.mark.parametrize("wrapping", ["insects", "a/b/c", "insects v2/data"])
def test_folders_that_only_wrap_the_dataset_are_passed_through(wrapping):
    for files in (["ants/1.jpg", "bees/2.jpg"], ["train/ants/1.jpg", "val/ants/2.jpg"]):
        inside, expected = placed(files)
        layout, found = placed([f"{wrapping}/{name}" for name in files])
        assert layout.kind == inside.kind
        assert found == {(f"{wrapping}/{name}", label, split) for name, label, split in expected}


def test_a_readme_beside_the_wrapping_folder_is_told_and_not_in_the_way():
    layout, found = placed(["README.txt", "data/ants/1.jpg", "data/bees/2.jpg"])
    assert {label for _, label, _ in found} == {"ants", "bees"}
    assert [(fault.code, fault.file) for fault in layout.faults] == [("outside_class_folder", "README.txt")]


def test_a_manifest_inside_the_wrapping_folder():
    _, found = placed(["set/manifest.csv", "set/img/1.jpg"], manifest="file,label\nimg/1.jpg,ant\n")
    assert found == {("set/img/1.jpg", "ant", None)}


@pytest.mark.parametrize("path", ["img/1.jpg", "./img/1.jpg", "img\\1.jpg", "img//1.jpg"])
def test_a_manifest_names_files_as_people_write_them(path):
    _, found = placed(["manifest.csv", "img/1.jpg"], manifest=f"file,label\n{path},ant\n")
    assert found == {("img/1.jpg", "ant", None)}


def test_a_manifest_rules_over_folders_and_what_it_does_not_name_is_told():
    layout, found = placed(
        ["labels.csv", "ants/1.jpg", "bees/2.jpg"],
        manifest="file,label,split\nants/1.jpg,wasp,test\n../x.jpg,wasp,test\n",
    )
    assert layout.kind == "manifest"
    assert found == {("ants/1.jpg", "wasp", "test")}
    assert [(f.code, f.file) for f in layout.faults] == [
        ("missing_file", "../x.jpg"),
        ("not_in_manifest", "bees/2.jpg"),
    ]
    assert "labels.csv line 3" in layout.faults[0].reason


def test_a_class_may_be_called_test_where_the_others_show_that_it_is_one():
    layout, found = placed(["test/1.jpg", "exam/2.jpg"])
    assert layout.kind == "class_folders"
    assert {label for _, label, _ in found} == {"test", "exam"}


def test_unlabelled_pictures_in_test_are_told_and_not_used():
    layout, found = placed(["train/ants/1.jpg", "train/bees/2.jpg", "test/3.jpg"])
    assert {label for _, label, _ in found} == {"ants", "bees"}
    assert [(fault.code, fault.file) for fault in layout.faults] == [("outside_class_folder", "test/3.jpg")]


def test_other_folders_without_pictures_are_told_and_not_in_the_way():
    layout, found = placed(["train/ants/1.jpg", "val/ants/2.jpg", "annotations/1.xml"])
    assert {label for _, label, _ in found} == {"ants"}
    assert [fault.file for fault in layout.faults] == ["annotations/1.xml"]


def test_an_empty_class_folder_is_a_class():
    layout, _ = placed(["ants/1.jpg"], folders=["ants", "wasps"])
    assert layout.labels == {"ants", "wasps"}
    layout, _ = placed(["train/ants/1.jpg"], folders=["train/wasps", "val/bees"])
    assert layout.labels == {"ants", "wasps", "bees"}


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (
            ["train/ants/1.jpg", "wasps/2.jpg"],
            "beside the splits 'train' there are other folders with pictures, 'wasps'",
        ),
        (["train/1.jpg", "val/2.jpg"], "no class folders in 'train', 'val'"),
        (["train/1.jpg"], "no class folders in 'train'"),
        (["train/ants/1.jpg", "val/ants/2.jpg", "valid/ants/3.jpg"], "mean the split val"),
        (["val/ants/1.jpg", "test/ants/2.jpg"], "no train"),
        (["animals/cats/1.jpg", "plants/roses/2.jpg"], "'animals' or 'cats'"),
        (["train/animals/cats/1.jpg", "val/animals/cats/2.jpg"], "'animals' or 'cats'"),
        (["manifest.csv", "labels.csv", "1.jpg"], "several manifests"),
    ],
)
def test_what_can_be_read_in_two_ways_is_not_guessed(files, why):
    with pytest.raises(LayoutUnclear, match=why):
        placed(files)


def test_nothing_gives_nothing():
    layout, found = placed([])
    assert (found, layout.labels) == (set(), frozenset())


def test_pictures_without_folders_are_told():
    layout, found = placed(["1.jpg", "2.jpg"])
    assert found == set()
    assert [fault.code for fault in layout.faults] == ["outside_class_folder"] * 2


def test_thirty_thousand_folders_take_seconds_not_hours():
    start = time.process_time()
    layout, _ = placed([f"class {n}/deep/er/1.jpg" for n in range(29_999)] + ["class x/1.jpg"])
    assert len(layout.labels) == 30_000
    # On a quiet machine 2; memory that is new to a virtual machine can cost as much again and more.
    assert time.process_time() - start < 60
