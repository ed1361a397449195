"""A fine-tune from request to version: the phases in the order in which they run."""

import dataclasses
from typing import Any

from models.training.data import plan
from models.training.digits import BUILTIN, RECIPE
from models.training.precision import training_device, use_threads
from models.training.seeds import seed_everything
from models.training.strategy import choose
from system.cores import usable_cores
from workers.training.assembly import Work, export_model, verify_model, write_artifact
from workers.training.context import Context
from workers.training.figures import assess
from workers.training.images import open_dataset, prepare_images
from workers.training.learning import Lesson, learn
from workers.training.promotion import promote_if
from workers.training.publication import publish_version
from workers.training.request import read_finetune
from workers.training.starting import starting_point


def finetune(context: Context) -> dict[str, Any]:
    """Runs the job to a published version; the answer is the job's result.

    Raises the errors of `models.training`, `models.weights` and `storage`, ExportMismatch and Interrupted.
    """
    reporter = context.reporter
    request = read_finetune(
        context.request, default_recipe=RECIPE if context.request.get("dataset") == BUILTIN else "default"
    )
    device = training_device(context.settings.training_device)
    dataset = open_dataset(context, request.dataset)
    division = plan(dataset, fraction=request.fraction, seed=request.seed)
    seed_everything(request.seed, "network")
    start = starting_point(context, request, division.labels)
    use_threads(context.settings.training_threads or usable_cores(), start.preprocessing)
    choice = choose(request.strategy, division.train.targets, len(division.labels), pretrained=start.pretrained)
    reporter.remember(strategy=choice.strategy, strategy_reason=choice.reason)
    images = prepare_images(context, division, start.preprocessing)
    learnt = learn(context, Lesson(request, division, images, start, choice, device))
    # From here on there is a model, which a cancellation with `keep_best` shall not lose.
    context.lease.keep()
    reporter.phase("evaluating")
    figures = assess(learnt, division, reporter)
    work = Work(request, dataset, division, images, start, choice, learnt, figures)
    reporter.phase("exporting")
    folder = export_model(context, work)
    context.exported(folder)
    reporter.phase("verifying")
    parity = verify_model(folder, work)
    reporter.phase("publishing")
    manifest = write_artifact(context, work, folder, parity)
    version = publish_version(context, folder, manifest)
    promotion = promote_if(context, request.promote, version, work)
    reporter.end_phase()
    return {
        "model": version.model,
        "version": version.number,
        "metrics": figures.summary(),
        "promoted": promotion.promoted,
        "promotion": dataclasses.asdict(promotion),
        "strategy": dataclasses.asdict(choice),
        "stopped": learnt.outcome.stopped,
        "seconds": reporter.seconds,
    }
