"""The answers that are facts alone: models, versions, datasets, architectures, who did what."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fovea_client.record import MOMENT, TUPLE, Record, part, parts


@dataclass(frozen=True)
class Model(Record):
    """A name that can be called. `versions` is how many there are, `aliases` at which version each alias is."""

    name: str
    versions: int
    latest: int | None
    aliases: Mapping[str, int]
    created_at: datetime = field(metadata=MOMENT)
    updated_at: datetime = field(metadata=MOMENT)
    description: str | None = field(default=None, repr=False)
    tags: tuple[str, ...] = field(default=(), metadata=TUPLE)

    @property
    def reference(self) -> str:
        """What `classify` calls it by."""
        return self.name


@dataclass(frozen=True)
class Version(Record):
    """One version of a model. `manifest` is there where it was asked for by its number."""

    model: str
    version: int
    aliases: tuple[str, ...] = field(metadata=TUPLE)
    architecture: str
    labels: tuple[str, ...] = field(repr=False, metadata=TUPLE)
    metrics: Mapping[str, Any] = field(repr=False)
    size_bytes: int
    job_id: str | None
    created_at: datetime = field(metadata=MOMENT)
    manifest: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def reference(self) -> str:
        """What `classify` calls it by."""
        return f"{self.model}:{self.version}"


@dataclass(frozen=True)
class AliasMove(Record):
    """One time that an alias was set; `at` is None where an earlier release did, which kept no time."""

    version: int
    at: datetime | None = field(metadata=MOMENT)
    rolled_back_at: datetime | None = field(metadata=MOMENT)


@dataclass(frozen=True)
class Alias(Record):
    """Where an alias is; a rollback goes to version `previous`; `history` has the newest move first."""

    model: str
    alias: str
    version: int
    previous: int | None
    history: tuple[AliasMove, ...] = field(metadata=parts(AliasMove))


@dataclass(frozen=True)
class Variants(Record):
    """The `precisions` that a version can be asked for, and the report of each that was tried."""

    model: str
    version: int
    precisions: tuple[str, ...] = field(metadata=TUPLE)
    variants: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Filters(Record):
    """What a version's network sees: its first `kernels`, and what excites filters of deeper `layers` most.

    `images` says how many validation images were shown to it, None where there were none; `left_out` what is
    missing and why.
    """

    model: str
    version: int
    kernels: Mapping[str, Any] = field(repr=False)
    images: Mapping[str, Any] | None = None
    layers: tuple[Mapping[str, Any], ...] = field(default=(), repr=False, metadata=TUPLE)
    left_out: tuple[str, ...] = field(default=(), metadata=TUPLE)

    @property
    def pictures(self) -> tuple[str, ...]:
        """The names of all pictures, the kernels' first."""
        return tuple(shown["picture"] for shown in (self.kernels, *self.layers) if shown["picture"])


@dataclass(frozen=True)
class ComparedQuantity(Record):
    """One quantity of served images beside that of the validation images; `text` says what differs, in words.

    `distance` is 0 to 1, and for the embedding in spreads of the validation images. `adjusted_p_value` is for all
    comparisons together.
    """

    name: str
    label: str | None
    distance: float
    p_value: float
    adjusted_p_value: float
    drifted: bool
    text: str = field(repr=False)


@dataclass(frozen=True)
class Drift(Record):
    """Whether `images` that were served differ from the validation images; `conclusion` says it in words.

    `state` is `none`, `drift`, `too_few` (images), `no_reference` or `off`. Of the quantities there are none
    unless it is `none` or `drift`. `since` is when the first hour of the window began in which any was served.
    """

    model: str
    version: int
    window: str
    state: str
    conclusion: str
    images: int
    reference_images: int | None
    since: datetime | None = field(metadata=MOMENT)
    until: datetime | None = field(metadata=MOMENT)
    quantities: tuple[ComparedQuantity, ...] = field(repr=False, metadata=parts(ComparedQuantity))
    embedding: ComparedQuantity | None = field(repr=False, metadata=part(ComparedQuantity))


@dataclass(frozen=True)
class Report(Record):
    """What the check of a dataset found. `refusals` say why it was refused, in sentences.

    `images` are those that can be used, of so many `files`; `width` and `height` have `min` and `max`, in pixels.
    `revision` says of a revision what was changed: `relabelled`, `removed`, `moved`, `added`.
    """

    images: int = 0
    files: int = 0
    litter: int = 0
    formats: Mapping[str, int] = field(default_factory=dict)
    width: Mapping[str, int] | None = None
    height: Mapping[str, int] | None = None
    counts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    faults: tuple[Mapping[str, Any], ...] = field(default=(), repr=False, metadata=TUPLE)
    faults_by_code: Mapping[str, int] = field(default_factory=dict)
    refusals: tuple[str, ...] = field(default=(), metadata=TUPLE)
    revision: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Dataset(Record):
    """Labelled images. `state` is `checking`, `ready` or `refused`; `job_id` is the job that checks it.

    `counts` (images by label and split) is there where it was asked for by its id, `job_id` where it was just
    sent. A revision has a `parent`, and `revision` is its number in the line; `size_bytes` are those that it does
    not share.
    """

    id: str
    name: str
    state: str
    labels: tuple[str, ...] = field(metadata=TUPLE)
    content_hash: str | None = field(repr=False)
    size_bytes: int
    created_at: datetime = field(metadata=MOMENT)
    counts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    job_id: str | None = field(default=None, repr=False)
    parent: str | None = None
    revision: int = 1


@dataclass(frozen=True)
class DatasetImage(Record):
    """One image of a dataset. `name` is the path that it was sent under, `split` None where there are none."""

    name: str
    sha256: str
    label: str
    split: str | None
    width: int
    height: int
    thumbnail: str = field(repr=False)


@dataclass(frozen=True)
class MeasuredVersion(Record):
    """How good a version is, on the `images` whose class it knows; the other figures are in `raw`.

    `accuracy_interval` is where the accuracy lies with a confidence of 95 %. `unknown_images` are of a class that
    it does not know. `seen_share` is how much of what was measured it is known to have learnt from, None where
    that is not known.
    """

    model: str
    version: int
    reference: str
    precision: str
    images: int
    accuracy: float
    accuracy_interval: tuple[float, float] = field(metadata=TUPLE)
    top5_accuracy: float | None
    macro_f1: float
    loss: float
    brier: float
    calibration_error: float
    unknown_images: int
    seen_share: float | None
    classes: tuple[Mapping[str, Any], ...] = field(default=(), repr=False, metadata=TUPLE)
    confusion: Mapping[str, Any] | None = field(default=None, repr=False)
    confused: tuple[Mapping[str, Any], ...] = field(default=(), repr=False, metadata=TUPLE)
    worst: tuple[Mapping[str, Any], ...] = field(default=(), repr=False, metadata=TUPLE)


@dataclass(frozen=True)
class ComparedPair(Record):
    """Two versions on the same images. `difference` is the first's accuracy less the second's, `adjusted_p_value`
    that of McNemar's exact test after the correction for all pairs; None where no image measures both."""

    first: str
    second: str
    images: int | None
    only_first: int | None
    only_second: int | None
    difference: float | None
    difference_interval: tuple[float, float] | None = field(metadata=TUPLE)
    p_value: float | None
    adjusted_p_value: float | None
    conclusion: str


@dataclass(frozen=True)
class Evaluation(Record):
    """What an evaluation found. `warnings` are what a reader of the figures must know."""

    job: str
    dataset: Mapping[str, Any]
    split: str
    images: int
    created_at: datetime = field(metadata=MOMENT)
    warnings: tuple[str, ...] = field(metadata=TUPLE)
    versions: tuple[MeasuredVersion, ...] = field(metadata=parts(MeasuredVersion))
    comparisons: tuple[ComparedPair, ...] = field(metadata=parts(ComparedPair))
    differing_images: int
    differing: tuple[Mapping[str, Any], ...] = field(repr=False, metadata=TUPLE)


@dataclass(frozen=True)
class EvaluatedImage(Record):
    """What each version answered on an image: `answers` have `label`, `probability`, `of_label` (what the true
    class got) and `error`."""

    path: str
    label: str
    answers: tuple[Mapping[str, Any], ...] = field(metadata=TUPLE)


@dataclass(frozen=True)
class Diagnosis(Record):
    """What a version sees in a dataset's images. Each part has `total`, `checked` (among how many images),
    `reason` (why nothing was looked for, else None) and `entries`, the worst first.

    `warnings` are what a reader must know, `few_images` classes with too few images to judge their labels by.
    """

    dataset: Mapping[str, Any]
    model: str
    version: int
    created_at: datetime = field(metadata=MOMENT)
    images: int
    classes: int
    warnings: tuple[str, ...] = field(metadata=TUPLE)
    few_images: Mapping[str, int] = field(repr=False)
    wrong_labels: Mapping[str, Any] = field(repr=False)
    outliers: Mapping[str, Any] = field(repr=False)
    near_duplicates: Mapping[str, Any] = field(repr=False)
    without_influence: Mapping[str, Any] = field(repr=False)
    overlapping_classes: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Architecture(Record):
    """A network of the zoo; `layers` is there where it was asked for by name and the table is kept."""

    name: str
    family: str
    source: str
    year: int | None
    paper: Mapping[str, Any] | None = field(repr=False)
    input: Mapping[str, Any]
    totals: Mapping[str, Any]
    weights: tuple[Mapping[str, Any], ...] = field(repr=False, metadata=TUPLE)
    layers: tuple[Mapping[str, Any], ...] | None = field(default=None, repr=False, metadata=TUPLE)


@dataclass(frozen=True)
class Webhook(Record):
    """An address that is told when jobs end: of those `kinds` and in the ways of `events`, of all where empty.

    `pending` messages wait for it. `secret` is there where it was just made.
    """

    id: str
    url: str
    events: tuple[str, ...] = field(metadata=TUPLE)
    kinds: tuple[str, ...] = field(metadata=TUPLE)
    description: str | None
    created_at: datetime = field(metadata=MOMENT)
    disabled_at: datetime | None = field(metadata=MOMENT)
    disabled_reason: str | None
    pending: int
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class WebhookTest(Record):
    """What came of a message that was sent for a try: `status` of the answer, None where none came."""

    delivered: bool
    status: int | None
    detail: str | None
    seconds: float


@dataclass(frozen=True)
class Delivery(Record):
    """A message to a webhook: `pending`, `delivered` or `given_up`; `id` is its `webhook-id`."""

    id: str
    event: str
    job_id: str
    payload: Mapping[str, Any] = field(repr=False)
    state: str
    attempts: int
    status: int | None
    error: str | None
    created_at: datetime = field(metadata=MOMENT)
    next_at: datetime | None = field(metadata=MOMENT)
    ended_at: datetime | None = field(metadata=MOMENT)


@dataclass(frozen=True)
class AuditEntry(Record):
    """An entry of the audit log: `actor` did `action` to `subject`, which is a `kind`."""

    id: str
    at: datetime = field(metadata=MOMENT)
    actor: str
    actor_name: str | None
    job_id: str | None
    action: str
    kind: str
    subject: str
    detail: Mapping[str, Any]
    request_id: str | None
    client: str | None


@dataclass(frozen=True)
class Worker(Record):
    """A live worker, and the execution providers that it really runs; `started_at` in seconds since 1970."""

    worker: str
    queues: tuple[str, ...] = field(metadata=TUPLE)
    device: str
    providers: tuple[str, ...] = field(metadata=TUPLE)
    slots: int
    models: tuple[str, ...] = field(metadata=TUPLE)
    started_at: float


@dataclass(frozen=True)
class Part(Record):
    """A part of a Fovea, and in which way it is not `ok`."""

    ok: bool
    reason: str | None = None


@dataclass(frozen=True)
class Readiness(Record):
    """`status` is `ready`, `starting` or `draining`; `missing` names what is not there."""

    status: str
    missing: tuple[str, ...] = field(metadata=TUPLE)
    database: Part = field(metadata=part(Part))
    broker: Part = field(metadata=part(Part))
    transit: Part = field(metadata=part(Part))
    workers: tuple[Worker, ...] = field(metadata=parts(Worker))

    @property
    def is_ready(self) -> bool:
        return self.status == "ready"
