"""The catalogue: quick, free of torch, complete, and true of the registry that it was generated from."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from models.errors import UnknownArchitecture
from models.zoo import registry
from models.zoo.catalogue import catalogue, describe, list_architectures
from models.zoo.page import render

STALE = "is stale: run `python -m models.zoo.catalogue --write`"
PROGRAM = """
import json, sys, time
started = time.process_time()
from models.zoo.catalogue import describe, list_architectures
found = [len(list_architectures()), len(describe("vgg16")["layers"])]
seconds = time.process_time() - started
print(json.dumps([found, seconds, [m for m in ("torch", "torchvision", "timm", "numpy") if m in sys.modules]]))
"""


def kept(name):
    """An entry as it stands in the file."""
    return next(entry for entry in catalogue()["architectures"] if entry["name"] == name)


def test_the_listing_takes_well_under_a_second_and_no_torch():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    (count, layers), seconds, heavy = json.loads(done.stdout)
    assert count > 1400
    assert layers == 39
    assert seconds < 0.5
    assert heavy == []


def test_it_is_small_enough_to_keep_under_version_control():
    assert (Path(registry.__file__).parent / "catalogue.json").stat().st_size < 900_000


def test_it_names_every_registered_architecture_and_all_of_timms():
    import timm

    names = [entry["name"] for entry in list_architectures()]
    assert len(set(names)) == len(names)
    assert set(names) == {*registry.names(), *(f"timm/{name}" for name in timm.list_models())}, STALE


def test_it_was_generated_with_the_installed_libraries():
    installed = {name: version(name).partition("+")[0] for name in ("torch", "torchvision", "timm")}
    assert catalogue()["versions"] == installed, STALE


@pytest.mark.parametrize("name", ["lenet5", "convnet", "mobilenet_v1_025", "resnet18", "googlenet", "vit_b_32"])
def test_an_entry_is_what_the_registry_says_today(name):
    from models.zoo.build_catalogue import entry_of

    kept = next(entry for entry in catalogue()["architectures"] if entry["name"] == name)
    assert json.loads(json.dumps(entry_of(name))) == kept, STALE


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv4_conv_small", "vit_tiny_patch16_224"])
def test_an_entry_of_timms_is_what_timm_says_today(name):
    from models.zoo.build_catalogue import timm_entry_of

    assert json.loads(json.dumps(timm_entry_of(name))) == kept(f"timm/{name}"), STALE


def test_what_the_registry_says_of_all_entries_is_in_the_catalogue():
    for name in registry.names():
        entry = describe(name)
        said = json.loads(json.dumps(registry.get(name).to_dict()))
        assert {key: entry[key] for key in said} == said, STALE


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ours_and_torchvisions_are_what_is_generated_today():
    from models.zoo.build_catalogue import entry_of

    for name in registry.names():
        assert json.loads(json.dumps(entry_of(name))) == kept(name), STALE


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_first_of_each_of_timms_families_is_what_is_generated_today():
    import timm

    from models.zoo.build_catalogue import timm_entry_of

    assert catalogue()["versions"]["timm"] == timm.__version__, STALE
    listed = {entry["name"] for entry in catalogue()["architectures"] if entry["source"] == "timm"}
    assert listed == {f"timm/{name}" for name in timm.list_models()}, STALE
    for module in timm.list_modules():
        if names := timm.list_models(module=module):
            assert json.loads(json.dumps(timm_entry_of(names[0]))) == kept(f"timm/{names[0]}"), STALE


@pytest.mark.registry
@pytest.mark.timeout(1800)
def test_the_whole_catalogue_is_what_is_generated_today():
    from models.zoo.build_catalogue import generate, to_text

    assert json.loads(to_text(generate())) == catalogue(), STALE


def test_the_page_is_what_is_rendered_from_the_catalogue():
    page = Path(registry.__file__).parents[2] / "docs" / "zoo.md"
    assert page.read_text("utf-8") == render(catalogue()), f"docs/zoo.md {STALE}"


def test_the_page_names_every_architecture_and_the_accuracy_as_published():
    page = render(catalogue())
    for name in registry.names():
        assert f"`{name}`" in page
    assert "`timm/resnet18` (11.7)" in page
    line = next(line for line in page.splitlines() if line.startswith("| `resnet50` "))
    assert "4,089.2 M" in line
    assert "`imagenet1k_v2` (default)" in line
    assert line.endswith("| 80.9 |")


def test_a_search_keeps_what_holds_every_word():
    assert [entry["name"] for entry in list_architectures("resnet 2015")][:2] == ["resnet101", "resnet152"]
    assert {entry["name"] for entry in list_architectures("MOBILENET ours")} == {
        "mobilenet_v1", "mobilenet_v1_025", "mobilenet_v1_050", "mobilenet_v1_075",
    }  # fmt: skip
    assert list_architectures("document recognition")[0]["name"] == "lenet5"
    assert list_architectures("no such thing") == []


def test_the_list_begins_with_the_oldest_and_ends_with_timms():
    entries = list_architectures()
    assert entries[0]["name"] == "lenet5"
    assert entries[-1]["source"] == "timm"
    years = [entry["year"] for entry in entries if entry["source"] != "timm"]
    assert years == sorted(years)


def test_layers_are_kept_for_what_is_taught_and_left_out_of_the_list():
    assert "layers" not in list_architectures("lenet5")[0]
    assert describe("lenet5")["layers"][0]["output"] == [1, 6, 28, 28]
    assert describe("convnext_tiny")["layers"] is None
    assert describe("timm/resnet18")["layers"] is None


def test_an_unknown_name_is_answered_with_near_ones():
    with pytest.raises(UnknownArchitecture, match="did you mean resnet18"):
        describe("resnet81")


def test_repeated_listings_do_not_read_the_file_again():
    list_architectures()
    read = catalogue.cache_info().misses
    list_architectures("resnet")
    assert describe("vgg16") == describe("vgg16")
    assert catalogue.cache_info().misses == read
