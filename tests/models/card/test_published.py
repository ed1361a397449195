"""The card of weights that came without much: what is missing is said."""

from pathlib import Path

from models.artifact import Manifest
from models.card.published import write_published_card
from models.spec import Preprocessing
from models.zoo.registry import build


def card(folder: Path, size: int = 32) -> str:
    manifest = Manifest(
        model="plain",
        labels=tuple(str(i) for i in range(10)),
        preprocessing=Preprocessing(size, size, size),
        architecture="lenet5",
        weights={"origin": "file", "filename": "digits.pth", "sha256": "ab" * 32, "architecture": "lenet5"},
        parity={"agreement": 1.0, "images": 30, "batch_sizes": [1, 3, 8], "max_abs_diff": 1e-6},
    )
    write_published_card(folder, manifest, build("lenet5", 10))
    return (folder / "card.md").read_text()


def test_what_did_not_come_with_the_weights_is_named(tmp_path: Path) -> None:
    written = card(tmp_path)
    for said in (
        "no figure came with the weights", "Under which licence the weights are", "| licence | unknown |",
        "| verified by | nothing |", "10 classes by their numbers", "imported weights", "| parameters | 62,006 |",
    ):  # fmt: skip
        assert said in written, said
    assert "as its publishers state it" not in written


def test_a_network_whose_layers_cannot_be_counted_has_a_card_all_the_same(tmp_path: Path) -> None:
    written = card(tmp_path, size=5)
    assert "Its layer table could not be made: " in written
    assert "| sha256 | abababab" in written
