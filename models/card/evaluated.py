"""The card of an evaluation: how good versions are on a dataset, which is better, and where they differ."""

from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from models.card.blocks import (
    Block,
    CaptionedImage,
    CardPage,
    Caution,
    Cell,
    Details,
    Headline,
    ImageGrid,
    Paragraph,
    Plots,
    Scale,
    Share,
    Table,
    fact_table,
    percent,
)
from models.card.measured import by_class, confusions, few_images
from models.card.reliability import reliability_diagram
from models.evaluation.comparison import Comparison
from models.evaluation.report import SPLIT_WORDS, EvaluationReport, PairReport, VersionReport

# Of the mistakes of one version alone, and of each of several.
PICTURES, PICTURES_OF_EACH = 24, 8
SHOWN_DIFFERING = 40
SHOWN_LABELS = 20

Picture = Callable[[str], NDArray[np.uint8] | None]


def evaluation_card(report: EvaluationReport, picture: Picture) -> CardPage:
    """The page; `picture` gives an image's thumbnail by its sha256, uint8 [height, width, 3], or None."""
    names = [version.name for version in report.versions]
    many = len(names) > 1
    page = CardPage(
        title=" and ".join(names) if len(names) <= 2 else f"{len(names)} versions",
        subtitle=f"Measured on {len(report.images)} images of the dataset {_dataset_name(report)}",
        facts=[
            ("Measured", _date(report)),
            ("Dataset", report.dataset),
            ("Images", f"{len(report.images)} of {report.dataset_images}: {SPLIT_WORDS[report.split]}"),
        ],
        headline=None if many else _headline(report.versions[0]),
        is_of_version=False,
    )
    cautions: list[Block] = [Caution(warning) for warning in report.warnings]
    if many:
        page.section("Which is better", *cautions, *_verdict(report))
        page.section("Where they differ", *_differing(report))
        for version in report.versions:
            page.section(version.name, *_folded(report, version, picture))
    else:
        (version,) = report.versions
        page.section("How good it is", *cautions, _figures([version]), *_of_what(report, version))
        page.section("By class", *by_class(version.measurement.classes), *few_images(version.measurement.classes))
        page.section("What it confuses", *_confusions(version))
        page.section("Its most confident mistakes", *_mistakes(report, version, picture, PICTURES))
        page.section("How far to trust its probabilities", *_calibration(version))
    page.section("How this was measured", Details("In words", _method(report)), _provenance(report))
    return page


def _headline(version: VersionReport) -> Headline:
    found = version.measurement
    low, high = found.accuracy_interval
    return Headline(
        value=percent(found.accuracy),
        name=f"accuracy on {found.images} images",
        explanation=f"{found.right} of {found.images} are classified right. On images like these the accuracy "
        f"lies between {percent(low)} and {percent(high)} (Wilson's 95 % interval).",
        others=[
            ("Macro-F1", f"{found.macro_f1:.3f}"),
            ("Negative log-likelihood", f"{found.loss:.3f}"),
            ("Calibration error", f"{found.calibration_error:.3f}"),
            ("Brier score", f"{found.brier:.3f}"),
        ],
        scale=Scale(
            low, found.accuracy, high, found.baseline_accuracy, "always answering the most frequent class"
        ),
    )


def _figures(versions: Sequence[VersionReport]) -> Table:
    """A column for each version."""
    found = [version.measurement for version in versions]
    rows: list[tuple[str, list[Cell]]] = [
        ("Images", [str(m.images) for m in found]),
        ("Accuracy", [Share(m.accuracy, percent(m.accuracy)) for m in found]),
        ("95 % interval", [" – ".join(map(percent, m.accuracy_interval)) for m in found]),
        ("Top-5 accuracy", [percent(m.top5_accuracy) for m in found]),
        ("Macro-F1", [f"{m.macro_f1:.4f}" for m in found]),
        ("Negative log-likelihood", [f"{m.loss:.4f}" for m in found]),
        ("Brier score", [f"{m.brier:.4f}" for m in found]),
        ("Calibration error", [f"{m.calibration_error:.4f}" for m in found]),
        ("Always the most frequent class", [percent(m.baseline_accuracy) for m in found]),
        ("Computed in", [version.precision for version in versions]),
    ]
    if all(m.top5_accuracy is None for m in found):
        rows = [row for row in rows if row[0] != "Top-5 accuracy"]
    header = ["", *(version.name for version in versions)] if len(versions) > 1 else ["", ""]
    return Table(header, [[name, *values] for name, values in rows], numbers_from=1)


def _verdict(report: EvaluationReport) -> list[Block]:
    blocks: list[Block] = [Paragraph(pair.conclusion) for pair in report.pairs]
    compared = [_pair_row(pair, pair.comparison) for pair in report.pairs if pair.comparison]
    if compared:
        header = ["", "images", "only the first", "only the second", "difference", "95 % interval", "p"]
        blocks.append(Table(header, compared, numbers_from=1))
    if len(report.pairs) > 1:
        text = (
            f"{len(report.pairs)} pairs were compared. Each comparison may raise a false alarm, so the p-values "
            "are corrected by Holm's method: the chance of even one false alarm among all of them stays below 5 %."
        )
        blocks.append(Paragraph(text))
    return [*blocks, _figures(report.versions)]


def _pair_row(pair: PairReport, found: Comparison) -> list[Cell]:
    low, high = found.difference_interval
    return [
        f"{pair.first}, {pair.second}",
        str(found.images),
        str(found.only_first),
        str(found.only_second),
        f"{100 * found.difference:+.1f}",
        f"{100 * low:+.1f} – {100 * high:+.1f}",
        f"{found.adjusted_p_value:.2g}",
    ]


def _differing(report: EvaluationReport) -> list[Block]:
    if not report.differing:
        return [Paragraph("Nowhere: every version gave the same answer for each image.")]
    rows: list[list[Cell]] = [
        [
            found.image.path,
            found.image.label,
            *(
                "–" if answer.probability is None else f"{answer.label}, {percent(answer.probability)}"
                for answer in found.answers
            ),
        ]
        for found in report.differing[:SHOWN_DIFFERING]
    ]
    text = f"On {report.differing_images} of {len(report.images)} images not all versions give the same answer."
    if report.differing_images > len(rows):
        text += f" These are {len(rows)} of them, those first that some get right and others do not."
    return [Paragraph(text), Table(["image", "truth", *(version.name for version in report.versions)], rows)]


def _folded(report: EvaluationReport, version: VersionReport, picture: Picture) -> list[Block]:
    """What a version's own card has in sections."""
    classes = version.measurement.classes
    return [
        *_of_what(report, version),
        Details("By class", [*by_class(classes), *few_images(classes)]),
        Details("What it confuses", _confusions(version)),
        Details("Its most confident mistakes", _mistakes(report, version, picture, PICTURES_OF_EACH)),
        Details("How far to trust its probabilities", _calibration(version)),
    ]


def _of_what(report: EvaluationReport, version: VersionReport) -> list[Block]:
    """Which of the images are behind a version's figures, where these are not all."""
    left_out = len(report.images) - version.measurement.images
    blocks: list[Block] = []
    if left_out:
        blocks.append(
            Paragraph(
                f"The figures are of {version.measurement.images} of the {len(report.images)} images "
                f"({percent(version.measurement.images / len(report.images))}): those whose class the version "
                "knows by name, and which it could classify."
            )
        )
        rows: list[list[Cell]] = [[label, str(n)] for label, n in list(version.unknown.items())[:SHOWN_LABELS]]
        if rows:
            table = Table(["class that it does not know", "images"], rows, numbers_from=1)
            blocks.append(Details(f"{len(version.unknown)} classes that it does not know", [table]))
    if version.absent:
        names = ", ".join(version.absent[:SHOWN_LABELS])
        more = len(version.absent) - SHOWN_LABELS
        names += f" and {more} more" if more > 0 else ""
        text = f"Of {len(version.absent)} of its classes there was no image: {names}."
        blocks.append(Paragraph(f"{text} It could still answer them, and was wrong where it did."))
    return blocks


def _confusions(version: VersionReport) -> list[Block]:
    found = version.measurement
    return confusions([of_class.label for of_class in found.classes], found.confusion)


def _mistakes(report: EvaluationReport, version: VersionReport, picture: Picture, most: int) -> list[Block]:
    if not version.measurement.mistakes:
        return [Paragraph("It made none on these images.")]
    shown = []
    for mistake in version.measurement.mistakes[:most]:
        image = report.images[mistake.index]
        pixels = picture(image.sha256)
        if pixels is not None:
            title = f"{mistake.predicted}, {percent(mistake.probability)}"
            shown.append(CaptionedImage(pixels, title, f"truly {mistake.truth}", image.path))
    if not shown:
        return [Paragraph("Their pictures are not there any more.")]
    return [ImageGrid(shown)]


def _calibration(version: VersionReport) -> list[Block]:
    found = version.measurement
    plot = reliability_diagram(found.reliability, found.calibration_error, version.name)
    caption = "On the line, an answer of 80 % is right in 80 of 100; the areas of the dots are counts."
    return [Plots([plot], caption)]


def _method(report: EvaluationReport) -> list[Block]:
    blocks: list[Block] = [
        Paragraph(
            "Every image was prepared and classified as a request is. Labels of the dataset are those of a "
            "version by their names. Accuracy is the share of right answers among the images whose class the "
            "version knows; its interval is Wilson's. The negative log-likelihood is of the true class, in nats. "
            "The Brier score is the sum of squared differences between probabilities and truth, from 0 to 2. The "
            "calibration error is the mean gap between confidence and accuracy in 15 bins."
        )
    ]
    if len(report.versions) > 1:
        blocks.append(
            Paragraph(
                "Versions are compared on the images that both were measured by. McNemar's exact test asks "
                "whether the images that only one of them gets right would be split so unevenly by chance. The "
                "interval of the difference is Newcombe's for paired proportions (1998, method 10)."
            )
        )
    text = "Whether a version has learnt from an image goes by the image's bytes, and by what its manifest says."
    return [*blocks, Paragraph(text)]


def _provenance(report: EvaluationReport) -> Details:
    facts: dict[str, Cell] = {
        "content hash of the dataset": report.content_hash,
        "measured": report.created_at,
    }
    for version in report.versions:
        seen = version.seen_share(len(report.images))
        facts[version.name] = (
            f"asked for as {version.reference}; {version.architecture}, {version.precision} on "
            f"{version.provider}; learnt from {'an unknown share' if seen is None else percent(seen)} of the "
            "images"
        )
    return Details("Provenance", [fact_table(facts)])


def _dataset_name(report: EvaluationReport) -> str:
    return report.dataset_name or report.dataset


def _date(report: EvaluationReport) -> str:
    made = datetime.fromisoformat(report.created_at)
    return f"{made.day} {made:%B %Y}"
