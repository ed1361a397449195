import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.dataset.errors import LimitExceeded, UnsafeArchive
from models.dataset.limits import Limits
from models.dataset.names import is_litter, is_odd, repaired, safe_name
from system.hidden import hidden_character

LIMITS = Limits()
PIECES = st.sampled_from(
    ["..", ".", "/", "//", "\\", "\0", "C:", "~", "a", "é", "e\u0301", " ", "\n", "\u202e", "ants"]
)


@given(st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=12).map("".join)))
@example("../../etc/passwd")
@example("a/../../b")
@example("/etc/passwd")
@example("C:/windows/x")
@example("..")
@example("ok/\udcff.jpg")
def test_no_name_leaves_its_folder(raw):
    try:
        name = safe_name(raw, LIMITS)
    except (UnsafeArchive, LimitExceeded):
        return
    base = Path("/data/set")
    assert (base / name).is_relative_to(base)
    assert ".." not in Path(name).parts
    assert not name.startswith("/")
    assert "\\" not in name
    assert "\0" not in name
    assert hidden_character(name) is None
    assert json.loads(json.dumps(name).encode("utf-8")) == name
    assert safe_name(name, LIMITS) == name


@given(st.lists(st.text("abcdefgh-_ 0123éßж.()", min_size=1, max_size=12), min_size=1, max_size=6))
def test_an_honest_name_stays_as_it_is(parts):
    raw = "/".join(parts)
    if any(part.strip(".") == "" for part in parts):
        return
    assert safe_name(raw, LIMITS) == raw


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("../x.jpg", "reaches out"),
        ("ants/../../x.jpg", "reaches out"),
        ("/x.jpg", "absolute"),
        ("c:x.jpg", "absolute"),
        ("ants\\x.jpg", "backslash"),
        ("..\\x.jpg", "backslash"),
        ("ants/x.jpg\0.txt", "not seen"),
        ("ants/x\n.jpg", "not seen"),
        ("ants/gpj\u202e.exe", "not seen, U\\+202E"),
        ("ants\ufeff/x.jpg", "not seen, U\\+FEFF"),
        ("./C:x.jpg", "absolute"),
        ("", "names no file"),
        ("./", "names no file"),
    ],
)
def test_unsafe_names_are_refused_with_the_reason(raw, why):
    with pytest.raises(UnsafeArchive, match=why):
        safe_name(raw, LIMITS)


def test_long_and_deep_names_are_refused():
    with pytest.raises(LimitExceeded, match="1025 characters") as too_long:
        safe_name("a" * 1025, LIMITS)
    with pytest.raises(LimitExceeded, match="17 folders deep") as too_deep:
        safe_name("/".join("a" * 17), LIMITS)
    assert (too_long.value.limit, too_deep.value.limit) == ("path_length", "path_depth")


def test_the_decomposed_letters_of_macos_are_composed():
    assert safe_name("cafe\u0301/1.jpg", LIMITS) == "caf\u00e9/1.jpg"


def test_leading_dots_and_doubled_slashes_are_dropped():
    assert safe_name("./train//ants/./1.jpg", LIMITS) == "train/ants/1.jpg"


def test_a_name_in_utf8_is_not_guessed_and_another_is():
    assert repaired("fourmi é".encode(), "latin-1") == ("fourmi é", False)
    assert repaired("fourmi é".encode("latin-1"), "latin-1") == ("fourmi é", True)


@pytest.mark.parametrize(
    "name",
    [
        "__MACOSX/train/._1.jpg",
        "Icon\r",
        ".DS_Store",
        "ants/._1.jpg",
        "ants/Thumbs.db",
        "desktop.ini",
        ".git/config",
        "a/@eaDir/x",
    ],
)
def test_litter_is_recognised(name):
    assert is_litter(name)


@pytest.mark.parametrize("name", ["ants/1.jpg", "ants/thumbs.dbx.jpg", "a.b/c.jpg", "MACOSX/1.jpg"])
def test_pictures_are_no_litter(name):
    assert not is_litter(name)


@pytest.mark.parametrize("name", ["a/ant photos.jpg", "F.pergan.28(f).jpg", "x'.jpg", "ant.jpg.jpg"])
def test_odd_names_are_told(name):
    assert is_odd(name)


@pytest.mark.parametrize("name", ["two words/1.jpg", "800px-Meat_eater.jpg", "großeameise.jpeg", "175998972"])
def test_plain_names_are_not_odd(name):
    assert not is_odd(name)
