"""The training loop: epochs of steps, an evaluation after each, a checkpoint, the best weights at the end.

Knows networks and batches; not where images come from, who watches, or what happens to the result.
"""

import gc
import math
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from models.training.errors import Diverged, OutOfMemory, SmallerParts
from models.training.eval_inputs import EvalInputs, EvalShare
from models.training.group import share_of
from models.training.interruption import Interrupted
from models.training.precision import out_of_memory
from models.training.progress import EpochRecord, FitResult, StepRecord, Watcher
from models.training.seeding import seed_everything
from models.training.state import TrainingState
from models.zoo.layout import logits_of

# Szegedy et al. 2014: what GoogLeNet's and Inception's auxiliary classifiers add to the loss.
AUXILIARY_WEIGHT = 0.3


def fit(training: TrainingState, watcher: Watcher) -> FitResult:
    """Trains until the epochs are done or nothing improves, from the newest checkpoint if there is one.

    Raises Interrupted from the watcher, after a checkpoint if it is to be resumed, OutOfMemory, Diverged, and in a
    rank SmallerParts. All ranks do the same steps and have the same history.
    """
    recipe, progress = training.recipe, training.progress
    found = training.checkpoints.newest() if training.checkpoints else None
    if found is not None:
        training.restore(found)
        progress = training.progress
    stopped = "epochs"
    try:
        while progress.epoch < recipe.epochs:
            if recipe.patience is not None and progress.epoch - progress.best_epoch >= recipe.patience:
                stopped = "patience"
                break
            if progress.step == 0:
                seed_everything(training.seed, "epoch", progress.epoch)
            rate = train_one_epoch(training, watcher)
            logits = _evaluate_together(training, watcher)
            record = _end_epoch(training, logits, rate)
            training.save()
            watcher.epoch(record)
    except Interrupted as interruption:
        if interruption.keep_best and progress.history:
            stopped = interruption.reason
        else:
            if interruption.resume:
                training.save()
            raise
    training.go_back_to_best()
    training.network.eval()
    return FitResult(tuple(progress.history), progress.best_epoch, stopped)


def train_one_epoch(training: TrainingState, watcher: Watcher) -> float:
    """The rest of the current epoch; returns the last learning rate."""
    progress, steps = training.progress, len(training.batches)
    training.trainable.train()
    group = training.optimizer.param_groups[0]
    rate = group["lr"] / group["scale"]
    started = time.monotonic() - progress.seconds
    for inputs, targets in training.batches.epoch(progress.epoch, progress.step):
        rate = training.schedule.apply(training.optimizer, progress.epoch * steps + progress.step)
        images = training.batches.size(progress.step)
        loss, correct = take_step(training, inputs, targets, images)
        progress.step += 1
        progress.loss_sum += loss * images
        progress.correct += correct
        progress.seen += images
        progress.seconds = time.monotonic() - started
        watcher.step(
            StepRecord(
                epoch=progress.epoch + 1,
                epochs=training.recipe.epochs,
                step=progress.step,
                steps=steps,
                images=images,
                loss=progress.loss_sum / progress.seen,
                accuracy=progress.correct / progress.seen,
            )
        )
    return float(rate)


def take_step(
    training: TrainingState, inputs: Tensor, targets: Tensor, images: int | None = None
) -> tuple[float, int]:
    """One optimizer step over a batch; returns its mean loss and how many of it were right.

    `inputs` and `targets` are this rank's share of its `images`. Where memory runs out, the batch goes through in
    parts that add up to the same gradient, but for what batch normalisation makes of smaller batches.
    """
    images = images or len(inputs)
    random_state = torch.get_rng_state()
    while True:
        try:
            return _accumulate(training, inputs, targets, images)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        # Outside the handler, where the traceback no longer holds the activations.
        size = min(training.progress.micro_batch, len(inputs))
        if size <= 1:
            raise OutOfMemory(
                f"one image of {tuple(inputs.shape[1:])} does not fit into the memory of {training.device}; "
                "choose a smaller architecture, or strategy head"
            )
        training.progress.micro_batch = (size + 1) // 2
        if training.group.size > 1:
            # The others may be half through adding their gradients to those that this rank no longer has.
            raise SmallerParts(training.progress.micro_batch)
        training.optimizer.zero_grad(set_to_none=True)
        torch.set_rng_state(random_state)
        gc.collect()
        if training.device.type == "cuda":
            torch.cuda.empty_cache()


def _accumulate(training: TrainingState, inputs: Tensor, targets: Tensor, images: int) -> tuple[float, int]:
    scaler, group, learner = training.precision.scaler, training.group, training.learner
    training.optimizer.zero_grad(set_to_none=True)
    mine, right = 0.0, 0
    size = training.progress.micro_batch
    # Even parts: a last one of a single image would be no batch to normalise by. As many in every rank.
    parts = math.ceil(math.ceil(images / group.size) / size)
    pairs = zip(torch.tensor_split(inputs, parts), torch.tensor_split(targets, parts), strict=True)
    for number, (part, wanted) in enumerate(pairs, 1):
        with group.part(learner, last=number == parts):
            with training.precision.autocast():
                output = learner(part)
                # Gradients are the mean of the ranks', each of which has its share of the images.
                loss = _loss(training, output, wanted) / (images / group.size)
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        mine += float(loss.detach()) / group.size
        right += int((logits_of(output).argmax(1) == (wanted.argmax(1) if wanted.ndim > 1 else wanted)).sum())
    total, correct = group.sums(mine, right)
    if not math.isfinite(total):
        raise Diverged(
            f"the loss is {total} in epoch {training.progress.epoch + 1}; lower the learning rate "
            f"(now {training.recipe.learning_rate:g}) or set clip_norm"
        )
    if training.recipe.clip_norm is not None:
        scaler.unscale_(training.optimizer)
        nn.utils.clip_grad_norm_(
            [p for group in training.optimizer.param_groups for p in group["params"]], training.recipe.clip_norm
        )
    scaler.step(training.optimizer)
    scaler.update()
    return total, int(correct)


def _loss(training: TrainingState, output: Any, targets: Tensor) -> Tensor:
    """The criterion: the summed cross-entropy of logits and, where there are any, of auxiliary logits."""

    def criterion(logits: Tensor) -> Tensor:
        return F.cross_entropy(
            logits.float(), targets, training.class_weights, reduction="sum",
            label_smoothing=training.recipe.label_smoothing,
        )  # fmt: skip

    if isinstance(output, Tensor):
        return criterion(output)
    main, *auxiliary = [part for part in output if part is not None]
    total: Tensor = criterion(main)
    for part in auxiliary:
        total = total + AUXILIARY_WEIGHT * criterion(part)
    return total


def _end_epoch(training: TrainingState, logits: NDArray[np.float32], rate: float) -> EpochRecord:
    progress, targets = training.progress, training.validation.targets
    loss = float(F.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(targets)))
    accuracy = float(np.mean(logits.argmax(1) == targets))
    record = EpochRecord(
        epoch=progress.epoch + 1,
        loss=progress.loss_sum / max(1, progress.seen),
        accuracy=progress.correct / max(1, progress.seen),
        validation_loss=loss,
        validation_accuracy=accuracy,
        learning_rate=rate,
        seconds=round(progress.seconds, 3),
    )
    progress.history.append(record)
    if (accuracy, -loss) > progress.best_score:
        progress.best_score, progress.best_epoch = (accuracy, -loss), record.epoch
        training.keep_as_best()
    training.schedule.epoch_ended(accuracy)
    progress.next_epoch()
    return record


def _evaluate_together(training: TrainingState, watcher: Watcher) -> NDArray[np.float32]:
    """Logits float32 [n, classes] of every validation image, each computed by one rank."""
    group, inputs = training.group, training.validation.inputs
    group.agree_on_statistics(training.network)
    share = share_of(len(inputs), group.rank, group.size)
    # A share of none has the right shape after one that is thrown away.
    seen = share if share.start < share.stop else slice(0, 1)
    mine = evaluate(training.network, EvalShare(inputs, seen), watcher)
    return group.rows(mine[: share.stop - share.start], len(inputs))


@torch.inference_mode()
def evaluate(
    network: nn.Module, inputs: EvalInputs, watcher: Watcher | None = None, batch_size: int = 64
) -> NDArray[np.float32]:
    """Logits float32 [n, classes] of every input, in evaluation mode and full precision."""
    network.eval()
    found: list[Tensor] = []
    start = 0
    while start < len(inputs):
        stop = min(start + batch_size, len(inputs))
        try:
            found.append(logits_of(network(inputs.batch(start, stop))).float().cpu())
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or batch_size == 1:
                raise
            batch_size = (batch_size + 1) // 2
            continue
        start = stop
        if watcher is not None:
            watcher.evaluating(start, len(inputs))
    return torch.cat(found).numpy()
