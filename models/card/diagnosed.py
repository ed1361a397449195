"""What a diagnosis of a dataset's images shows: sections of a fine-tuned version's card, and a page of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from models.card.blocks import (
    Block,
    CaptionedImage,
    CardPage,
    Caution,
    Cell,
    Details,
    ImageGrid,
    Paragraph,
    Table,
    fact_table,
    percent,
)
from models.diagnosis.held_out import FEWEST_OF_A_CLASS
from models.diagnosis.images import NamedImage, PixelsOf
from models.diagnosis.report import MOST_LISTED, Diagnosis, DuplicateGroups, NamedImages, OverlappingClasses

ON_A_CARD, ON_A_PAGE = 12, 48
GROUPS_SHOWN = 12
OF_A_GROUP_SHOWN = 4
SHOWN_LABELS = 20


@dataclass(frozen=True)
class DiagnosedDataset:
    """`version` is `model:version` of the version that looked at the images."""

    id: str
    name: str
    content_hash: str
    version: str
    created_at: str


def diagnosis_page(diagnosis: Diagnosis, dataset: DiagnosedDataset, pixels: PixelsOf) -> CardPage:
    made = datetime.fromisoformat(dataset.created_at)
    page = CardPage(
        title=dataset.name or dataset.id,
        subtitle=f"What {dataset.version} sees in its {diagnosis.images} images of {diagnosis.classes} classes",
        facts=[
            ("Looked at", f"{made.day} {made:%B %Y}"),
            ("Dataset", dataset.id),
            ("Seen by", dataset.version),
        ],
        is_of_version=False,
    )
    cautions: list[Block] = [Caution(warning) for warning in diagnosis.warnings]
    page.section("In short", *cautions, _overview(diagnosis), *_few(diagnosis))
    page.section("Probably wrong labels", *_wrong_labels(diagnosis.wrong_labels, pixels, ON_A_PAGE, listed=True))
    page.section("Like none of their class", *_outliers(diagnosis.outliers, pixels, ON_A_PAGE))
    page.section("The same picture again", *_duplicates(diagnosis, pixels))
    page.section("Classes that are not told apart", *_overlaps(diagnosis.overlapping_classes))
    page.section("Without influence", *_without_influence(diagnosis.without_influence, pixels, ON_A_CARD))
    page.section("How this was found", Details("In words", _method()), _provenance(dataset))
    return page


def diagnosis_blocks(diagnosis: Diagnosis, pixels: PixelsOf) -> list[Block]:
    """For the card of the version that was trained on these images."""
    blocks: list[Block] = [Caution(warning) for warning in diagnosis.warnings]
    blocks += [_overview(diagnosis), *_few(diagnosis)]
    blocks += _wrong_labels(diagnosis.wrong_labels, pixels, ON_A_CARD, listed=False)
    if diagnosis.overlapping_classes.total:
        blocks.append(Details("Classes that are not told apart", _overlaps(diagnosis.overlapping_classes)))
    if diagnosis.outliers.total:
        shown = _outliers(diagnosis.outliers, pixels, ON_A_CARD)
        blocks.append(Details("Like none of their class", shown))
    if diagnosis.near_duplicates.total:
        blocks.append(Details("The same picture again", _duplicates(diagnosis, pixels)))
    return [*blocks, Details("How this was found", _method())]


def _overview(diagnosis: Diagnosis) -> Table:
    found: dict[str, NamedImages | DuplicateGroups | OverlappingClasses] = {
        "Labels that are probably wrong": diagnosis.wrong_labels,
        "Images like none of their class": diagnosis.outliers,
        "Images whose picture is there already": diagnosis.near_duplicates,
        "Pairs of classes that are not told apart": diagnosis.overlapping_classes,
        "Images without influence": diagnosis.without_influence,
    }
    rows: list[list[Cell]] = [
        [name, f"not looked for: {kind.reason}", ""] if kind.reason else [name, str(kind.total), str(kind.checked)]
        for name, kind in found.items()
    ]
    return Table(["", "found", "among images"], rows, numbers_from=2)


def _few(diagnosis: Diagnosis) -> list[Block]:
    if not diagnosis.few:
        return []
    names = list(diagnosis.few)
    more = f" and {len(names) - SHOWN_LABELS} more" if len(names) > SHOWN_LABELS else ""
    return [
        Paragraph(
            f"Labels of {sum(diagnosis.few.values())} images were not judged, for their classes have fewer than "
            f"{FEWEST_OF_A_CLASS} different ones: {', '.join(names[:SHOWN_LABELS])}{more}."
        )
    ]


def _absent(found: NamedImages | DuplicateGroups | OverlappingClasses, none: str) -> list[Block]:
    """Why nothing is shown; empty where something was found."""
    if found.reason:
        return [Paragraph(f"They were not looked for: {found.reason}.")]
    return [] if found.entries else [Paragraph(none)]


def _wrong_labels(found: NamedImages, pixels: PixelsOf, most: int, *, listed: bool) -> list[Block]:
    if absent := _absent(found, f"None: of {found.checked} images each is taken for what its label says."):
        return absent
    text = (
        f"By confident learning {found.total} of {found.checked} labels are wrong. Here are those first that are "
        "least probable to a head that did not learn from the image; whether they are wrong, only who knows the "
        "classes can tell."
    )
    grid = ImageGrid([_wrong(image, pixels) for image in found.entries[:most]])
    if not listed:
        return [Paragraph(text), grid]
    rows: list[list[Cell]] = [
        [image.path, image.label, percent(image.score), image.suggested or "", _suggested_share(image)]
        for image in found.entries
    ]
    table = Table(["image", "label", "its probability", "rather", "its probability"], rows)
    listing = Details(f"The first {len(rows)} as a list" if len(rows) == MOST_LISTED else "As a list", [table])
    return [Paragraph(text), grid, listing]


def _wrong(image: NamedImage, pixels: PixelsOf) -> CaptionedImage:
    title = f"{image.suggested}, {_suggested_share(image)}?"
    detail = f"labelled {image.label}, {percent(image.score)}"
    return CaptionedImage(pixels(image.place), title, detail, image.path)


def _suggested_share(image: NamedImage) -> str:
    return percent(float(image.more["suggested_probability"]))


def _outliers(found: NamedImages, pixels: PixelsOf, most: int) -> list[Block]:
    if absent := _absent(found, f"None of {found.checked} images."):
        return absent
    text = (
        f"{found.total} of {found.checked} images are much farther from the ten that are nearest in their class "
        "than is usual there: a broken picture, another motif, or a rare view of which there should be more. The "
        "number is the modified z-score of that distance."
    )
    pictures = [
        CaptionedImage(pixels(image.place), f"{image.score:.1f}", f"labelled {image.label}", image.path)
        for image in found.entries[:most]
    ]
    return [Paragraph(text), ImageGrid(pictures)]


def _duplicates(diagnosis: Diagnosis, pixels: PixelsOf) -> list[Block]:
    found = diagnosis.near_duplicates
    if absent := _absent(found, f"None of {found.checked} images shows what another one of its class shows."):
        return absent
    text = (
        f"{found.total} of {found.checked} images show what another one of their class shows. In training they "
        "count twice, and where one copy trains and one validates, the accuracy flatters."
    )
    pictures = [
        CaptionedImage(
            pixels(image.place),
            f"group {number} of {len(group.images)}",
            f"{image.label}, cosine at least {group.similarity:.3f}",
            image.path,
        )
        for number, group in enumerate(found.entries[:GROUPS_SHOWN], 1)
        for image in group.images[:OF_A_GROUP_SHOWN]
    ]
    rows: list[list[Cell]] = [
        [str(number), ", ".join(image.path for image in group.images), f"{group.similarity:.3f}"]
        for number, group in enumerate(found.entries, 1)
    ]
    listing = Details("As a list", [Table(["group", "images", "cosine"], rows, numbers_from=2)])
    return [Paragraph(text), ImageGrid(pictures), listing]


def _overlaps(found: OverlappingClasses) -> list[Block]:
    if absent := _absent(found, f"None, by {found.checked} images."):
        return absent
    rows: list[list[Cell]] = [
        [*pair.labels, str(pair.images), str(pair.confused), f"{pair.separation:.2f}"] for pair in found.entries
    ]
    text = (
        "The separation is the chance that an image of one class gets a higher probability of it than an image "
        "of the other class (Hand and Till 2001): 1 where they are told apart, 0.5 where nothing tells them "
        "apart. Are they one class, or is the difference too small for these images?"
    )
    return [Table(["class", "class", "images", "confused", "separation"], rows, numbers_from=2), Paragraph(text)]


def _without_influence(found: NamedImages, pixels: PixelsOf, most: int) -> list[Block]:
    if absent := _absent(found, f"None of {found.checked} images: each adds something."):
        return absent
    text = (
        f"{found.total} of {found.checked} images are known so well without them that they change nothing: a head "
        "learns the same from the others. They are no fault; more of their kind are not needed. Some of them:"
    )
    pictures = [
        CaptionedImage(pixels(image.place), image.label, f"error {image.score:.4f}", image.path)
        for image in found.entries[:most]
    ]
    return [Paragraph(text), ImageGrid(pictures)]


def _method() -> Sequence[Block]:
    return [
        Paragraph(
            "Labels are judged by a logistic regression on the version's embeddings, fitted five times, each time "
            "without a fifth of the images, whose probabilities it then tells; a temperature calibrates them. How "
            "many labels are wrong is counted by confident learning (Northcutt, Jiang and Chuang 2021)."
        ),
        Paragraph(
            "Distances are angles between embeddings, within a class. An image is unlike its class where the "
            "modified z-score of its mean distance to the ten nearest is above 3.5 (Iglewicz and Hoaglin 1993). "
            "Two images show the same where they are much nearer than an image and its nearest one usually are, "
            "and their grey values correlate by at least 0.75."
        ),
        Paragraph(
            "An image is without influence where the error on it, probabilities less truth, is at most 0.02 long "
            "for a head that did not learn from it (EL2N; Paul, Ganguli and Dziugaite 2021)."
        ),
    ]


def _provenance(dataset: DiagnosedDataset) -> Details:
    facts: dict[str, Cell] = {
        "content hash of the dataset": dataset.content_hash,
        "seen by": dataset.version,
        "looked at": dataset.created_at,
    }
    return Details("Provenance", [fact_table(facts)])
