"""What a job of each kind is asked, and what comes of it.

A job's row keeps both as JSON and outlives the release that wrote it, so a reader ignores fields that it does not
know, and every field added after the first release has a default. A snapshot test holds the JSON of each. What
clients ask for by JSON is validated by the same models.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    field_serializer,
    field_validator,
    model_validator,
)

from models.artifact import PrecisionChoice
from models.dataset.builtin import DIGITS
from models.training.recipe import PresetName, Recipe, RecipeChoice, RecipeOverrides, resolve_recipe, whole
from models.uploaded.kind import FileKind
from models.uploaded.view import PreprocessingFields
from models.validation import BRANCH
from storage.reference import MODEL_NAME
from workers.contract.evaluations import EVALUATED_CHUNK_IMAGES
from workers.contract.messages import ClassScore, UnknownScore
from workers.contract.queues import JobKind
from workers.contract.results import CHUNK_IMAGES
from workers.contract.unknown import ON_UNKNOWN, OnUnknown

# Small letters, as the names of weights and of models are.
WeightsName = Annotated[str, StringConstraints(min_length=1, to_lower=True)]

Variant = Literal["int8", "fp16"]

LONGEST_PREFIX = 1024
MOST_EVALUATED = 8
SplitChoice = Literal["unseen", "train", "validation", "test", "all"]


class JobRequest(BaseModel):
    """Base of the requests. Unknown fields of a client's are rejected; `read_request` ignores those of a row."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class IngestRequest(JobRequest):
    """Make a dataset of an uploaded archive."""

    dataset: str = Field(description="The id that the dataset has already.")
    upload: str = Field(description="The key of the archive's blob.")
    name: str = ""
    on_fault: Literal["skip", "refuse"] = "skip"
    labels: Literal["folders", "none"] = "folders"


class ReviseRequest(JobRequest):
    """Make a dataset of another one with changes, and with the images of an archive added."""

    dataset: str = Field(description="The id that the revision has already.")
    parent: str = Field(description="The dataset that is revised.")
    changes: str = Field(description="The key of the blob that has the `RevisionOptions`.")
    upload: str = Field("", description="The key of the archive's blob; empty where nothing is added.")
    name: str = ""
    on_fault: Literal["skip", "refuse"] = "skip"


class ClassifyRequest(JobRequest):
    """Classify images that lie among the blobs; `names` are the files' names where the client gave any."""

    model: str
    version: int
    top_k: int
    images: tuple[str, ...]
    names: tuple[str | None, ...]
    precision: str = Field("", description="Empty where the worker chooses.")
    coverage: float | None = Field(None, description="Of the set of classes of each image.")
    on_unknown: OnUnknown = Field("mark", description=ON_UNKNOWN)


class ClassifyManyOptions(BaseModel):
    """Classify a dataset, or a folder of images that the operator put beside it; exactly one of the two."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "example": {"model": "ants-bees@production", "dataset": "ds_01J9Z3NDEKTSV4RRFFQ69G5FAV", "top_k": 1}
        },
    )

    model: str = Field(min_length=1, description="A model reference; it stands for the version that it names now.")
    dataset: str | None = Field(None, min_length=1, description="A dataset's id, with labels or without.")
    prefix: str | None = Field(
        None,
        max_length=LONGEST_PREFIX,
        description="A folder below `images/` of the store of files, such as `2026/november/`; empty for all.",
    )
    top_k: Annotated[int, BeforeValidator(whole)] = Field(
        5, ge=1, le=1000, strict=True, description="Classes to name for each image."
    )
    precision: PrecisionChoice = Field(
        "auto",
        description="`auto`: the fastest that the worker may serve. Or one that the version has.",
    )
    coverage: float | None = Field(
        None,
        gt=0,
        lt=1,
        strict=True,
        description="Also the smallest set of classes that holds the truth with that probability.",
    )
    on_unknown: OnUnknown = Field("mark", description=ON_UNKNOWN)

    @field_validator("prefix")
    @classmethod
    def _names_a_folder(cls, prefix: str | None) -> str | None:
        if not prefix:
            return prefix
        parts = prefix.removesuffix("/").split("/")
        if any(part in ("", ".", "..") for part in parts) or set(prefix) & {"\\", "\0"}:
            raise ValueError("names of folders below images/, with one / between them and none before the first")
        return "/".join(parts)

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.dataset is None) == (self.prefix is None):
            raise ValueError("exactly one of dataset and prefix says which images are classified")
        return self


class ClassifyManyRequest(JobRequest):
    """`ClassifyManyOptions` with the version that its reference named; `chunk` images are in a file of results."""

    model: str
    version: int
    dataset: str | None = None
    prefix: str | None = None
    top_k: int
    precision: str = Field("", description="Empty where the worker chooses.")
    coverage: float | None = Field(None, description="Of the set of classes of each image.")
    chunk: int = Field(CHUNK_IMAGES, ge=1)
    on_unknown: OnUnknown = Field("mark", description=ON_UNKNOWN)


class ValidationOptions(BaseModel):
    """How validation images are chosen where the dataset has no split of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    fraction: float = Field(0.2, ge=0.01, le=0.9, description="Share of each class that validates.")


class FinetuneRequest(JobRequest):
    """Learn a dataset's classes; every field but the first three is optional."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "digits",
                "dataset": "builtin:digits",
                "architecture": "lenet5",
                "weights": "none",
                "promote": "always",
            }
        },
    )

    model: str = Field(
        pattern=f"^{MODEL_NAME}$",
        description="The model whose next version this becomes: small letters, digits, `.`, `_`, `-`.",
    )
    dataset: str = Field(min_length=1, description="A dataset's id, or `builtin:digits`.")
    architecture: str = Field(min_length=1, description="A name from `/v1/architectures`.")
    architecture_params: dict[str, Any] = Field(
        default_factory=dict,
        description='What the architecture takes, for instance `{"pattern": "INPUT -> ..."}` of `convnet`.',
    )
    weights: WeightsName = Field(
        "imagenet",
        description="What to start from: `imagenet`, `none`, the id of imported weights, or a model reference.",
    )
    strategy: Literal["auto", "head", "partial", "full"] = Field(
        "auto",
        description="Which layers learn: `head` (the backbone is frozen), `partial` (its last stages too), "
        "`full`; `auto` decides by the images of each class and says why.",
    )
    recipe: RecipeChoice = Field(
        "default", description="A preset, or an object that overrides single fields of one."
    )
    validation: ValidationOptions = Field(
        ValidationOptions(),
        description="How validation images are chosen where the dataset has no split of its own.",
    )
    seed: Annotated[int, BeforeValidator(whole)] = Field(
        0,
        ge=0,
        lt=2**31,
        strict=True,
        description="The same seed gives the same split and, on one kind of machine, the same weights.",
    )
    promote: Literal["never", "if_better", "always"] = Field(
        "never",
        description="Whether `production` moves to the new version; `if_better` compares on the same images.",
    )
    variants: Literal["auto", "none"] = Field(
        "auto",
        description="`auto`: once the version is there, a `variants` job tries faster forms of it.",
    )

    @field_serializer("recipe")
    def _recipe_as_given(self, recipe: str | RecipeOverrides) -> str | dict[str, Any]:
        """The row keeps what was asked for: a preset is what the release that trains knows by its name."""
        return recipe if isinstance(recipe, str) else recipe.model_dump(exclude_unset=True)

    @property
    def preset(self) -> PresetName | None:
        """The recipe's preset; None for overrides. The built-in digits have a default of their own."""
        if isinstance(self.recipe, RecipeOverrides):
            return None
        return "digits" if self.recipe == "default" and self.dataset == DIGITS else self.recipe

    def resolved_recipe(self) -> Recipe:
        """The whole recipe that was asked for. To the built-in digits, `default` is their own there too."""
        if self.preset is not None:
            return resolve_recipe(self.preset)
        if isinstance(self.recipe, RecipeOverrides) and self.dataset == DIGITS and self.recipe.preset == "default":
            return resolve_recipe(self.recipe.model_copy(update={"preset": "digits"}))
        return resolve_recipe(self.recipe)


class PublishOptions(BaseModel):
    """Zoo weights to a served version."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"example": {"architecture": "resnet18", "weights": "imagenet", "promote": "always"}},
    )

    architecture: str = Field(min_length=1, description="A name from /v1/architectures.")
    weights: WeightsName = Field("imagenet", description="`imagenet`, or the id of other weights.")
    architecture_params: dict[str, Any] = Field(default_factory=dict)
    promote: Literal["never", "if_better", "always"] = Field(
        "always", description="Whether `production` moves to it; `if_better`: if there is none yet."
    )


def _named_or(form: str, name: str) -> Callable[[object], str | None]:
    """Tells apart what is written by a name and what is written out, a list or an object."""

    def branch(value: object) -> str | None:
        if isinstance(value, list | tuple | dict | BaseModel):
            return f"{BRANCH}{form}"
        return f"{BRANCH}{name}" if value == name else None

    return branch


LabelsChoice = Annotated[
    Annotated[Literal["imagenet"], Tag(f"{BRANCH}imagenet")] | Annotated[tuple[str, ...], Tag(f"{BRANCH}list")],
    Discriminator(
        _named_or("list", "imagenet"),
        custom_error_type="labels",
        custom_error_message="Input should be a list of names, or 'imagenet'",
    ),
]
PreprocessingChoice = Annotated[
    Annotated[Literal["imagenet"], Tag(f"{BRANCH}imagenet")]
    | Annotated[PreprocessingFields, Tag(f"{BRANCH}object")],
    Discriminator(
        _named_or("object", "imagenet"),
        custom_error_type="preprocessing",
        custom_error_message="Input should be an object of fields, or 'imagenet'",
    ),
]


class FileFacts(BaseModel):
    """What a model file needs to be served and may not hold; of an ONNX file of Fovea's own nothing is needed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: LabelsChoice | None = Field(
        None,
        description="The classes' names in the order of the outputs, or `imagenet`. Needed where the file's "
        "metadata has none.",
    )
    preprocessing: PreprocessingChoice | None = Field(
        None,
        description="How pictures become the network's input, or `imagenet` for torchvision's usual way. Needed "
        "of an ONNX file whose metadata does not say it; of a checkpoint the architecture's own where left out.",
    )
    output: str | None = Field(
        None, min_length=1, max_length=200, description="The ONNX output that classifies, where there are several."
    )
    values: Literal["logits", "probabilities"] | None = Field(
        None, description="What that output gives; told by the graph's last node, else by its values."
    )
    licence: str | None = Field(None, min_length=1, max_length=200, description="For the card.")
    trained_on: str | None = Field(None, min_length=1, max_length=200, description="For the card.")


class UploadOptions(FileFacts):
    """A model file of one's own to a served version."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "example": {
                "labels": ["cat", "dog"],
                "preprocessing": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
                "promote": "always",
            }
        },
    )

    architecture: str | None = Field(
        None, min_length=1, description="A name from /v1/architectures: needed of a checkpoint, and of that alone."
    )
    architecture_params: dict[str, Any] = Field(
        default_factory=dict, description="What that architecture takes, as in a fine-tune."
    )
    promote: Literal["never", "if_better", "always"] = Field(
        "always", description="Whether `production` moves to it; `if_better`: if there is none yet."
    )


class UploadedFile(FileFacts):
    """A model file among the blobs, under `key`, with what its sender says of it."""

    key: str
    name: str
    kind: FileKind
    sha256: str
    size_bytes: int


class PublishRequest(PublishOptions, JobRequest):
    """`PublishOptions` with the model that the call names; of a file, `upload` instead of weights."""

    model: str
    upload: UploadedFile | None = None


VariantsChoice = Annotated[
    Annotated[Literal["auto"], Tag(f"{BRANCH}auto")]
    | Annotated[tuple[Variant, ...], Field(min_length=1), Tag(f"{BRANCH}list")],
    Discriminator(
        _named_or("list", "auto"),
        custom_error_type="precisions",
        custom_error_message="Input should be 'auto' or a list of 'int8' and 'fp16'",
    ),
]


class VariantsOptions(BaseModel):
    """Faster forms of a version, each kept only where it is as good and really faster."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"example": {"dataset": "builtin:digits", "precisions": ["int8"]}},
    )

    dataset: str = Field(
        min_length=1,
        description="A dataset's id, or `builtin:digits`. A few of its images calibrate, others judge; those "
        "count whose labels the version has.",
    )
    precisions: VariantsChoice = Field(
        "auto", description="`auto`: `int8`, and `fp16` where the training worker has a GPU."
    )


class VariantsRequest(VariantsOptions, JobRequest):
    """`VariantsOptions` with the version that the call names."""

    model: str
    version: int


class EvaluateOptions(BaseModel):
    """How good versions are on a dataset's labelled images, and whether one is better than another."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "example": {
                "models": ["ants-bees@candidate", "ants-bees@production"],
                "dataset": "ds_01J9Z3NDEKTSV4RRFFQ69G5FAV",
            }
        },
    )

    models: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = Field(
        min_length=1,
        max_length=MOST_EVALUATED,
        description="Model references; each stands for the version that it names now. Two or more are compared.",
    )
    dataset: str = Field(
        min_length=1,
        description="A dataset's id, or `builtin:digits`. Its labels are those of a version by name.",
    )
    split: SplitChoice = Field(
        "unseen",
        description="Which of its images: `unseen`, those that none of the versions is known to have learnt from; "
        "`train`, `validation` or `test` of a dataset that has these; or `all`.",
    )
    precision: PrecisionChoice = Field(
        "auto",
        description="`auto`: the fastest that the worker may serve, as classifying does. Or one that each version "
        "has.",
    )


class EvaluatedVersion(BaseModel):
    """A version, and the reference that named it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str
    version: int
    reference: str

    @property
    def name(self) -> str:
        return f"{self.model}:{self.version}"


class EvaluateRequest(JobRequest):
    """`EvaluateOptions` with the versions that its references named; `chunk` images are in a file of answers."""

    models: tuple[EvaluatedVersion, ...]
    dataset: str
    split: SplitChoice = "unseen"
    precision: str = Field("", description="Empty where the worker chooses.")
    chunk: int = Field(EVALUATED_CHUNK_IMAGES, ge=1)


class DiagnoseOptions(BaseModel):
    """Which version looks at the images of a dataset."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_extra={"example": {"model": "ants-bees@production"}}
    )

    model: str = Field(
        min_length=1,
        description="A model reference; it stands for the version that it names now. Its classes need not be the "
        "dataset's: only its embedding is used.",
    )


class DiagnoseRequest(JobRequest):
    """`DiagnoseOptions` with the version that its reference named, and the dataset that the call names."""

    model: str
    version: int
    dataset: str


class JobResult(BaseModel):
    """Base of the results."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class IngestResult(JobResult):
    """`dataset` is the one to use: another than was asked for where its content was known already."""

    dataset: str
    images: int = Field(description="How many can be used.")
    faults: dict[str, int] = Field(default_factory=dict, description="How many files have each fault.")
    duplicate_of: str | None = Field(None, description="The dataset that had the same content already.")


class PredictionSet(JobResult):
    """The classes that hold the truth with a probability of `coverage`, best first."""

    coverage: float
    classes: tuple[ClassScore, ...]


class ReviseResult(IngestResult):
    """Of the revision, and how many images were changed in which way."""

    parent: str
    relabelled: int = 0
    removed: int = 0
    moved: int = 0
    added: int = 0


class ClassifiedImage(JobResult):
    """One image's answer; `classes` is null where `error` is not, `set` where no coverage was asked for."""

    name: str | None
    classes: tuple[ClassScore, ...] | None
    error: dict[str, str | None] | None
    set: PredictionSet | None = None
    unknown: UnknownScore | None = None


class ClassifyResult(JobResult):
    """A prediction for each image in the order sent."""

    model: str
    version: int
    provider: str = Field(description="The execution provider that really ran.")
    precision: str = Field("float32", description="What the network was computed in.")
    predictions: tuple[ClassifiedImage, ...]


class ClassifyManyResult(JobResult):
    """What was classified; a line for each image is under `/v1/jobs/{id}/results`."""

    model: str
    version: int
    provider: str = Field(description="The execution provider that really ran; empty where no image needed any.")
    precision: str = Field("float32", description="What the network was computed in.")
    images: int = Field(description="How many lines there are.")
    errors: dict[str, int] = Field(default_factory=dict, description="How many of them have each error's code.")
    unknown: int = Field(0, description="How many of the images show none of the classes, refused or not.")


class PromotionResult(JobResult):
    """Whether `production` moved to the new version and why; `previous` is where it was before."""

    promoted: bool
    reason: str
    previous: int | None = None
    previous_accuracy: float | None = None


class StrategyResult(JobResult):
    """Which layers learnt, and why these."""

    strategy: Literal["head", "partial", "full"]
    reason: str


class FinetuneResult(JobResult):
    """The new version and how good it is; `seconds` are those of each phase, after `starting`."""

    model: str
    version: int
    metrics: dict[str, Any]
    promoted: bool
    promotion: PromotionResult
    strategy: StrategyResult
    stopped: str = Field(description="Why the training ended: `epochs`, `patience`, `solved` or `cancelled`.")
    seconds: dict[str, float]
    variants_job: str | None = Field(
        None,
        description="The job that tries faster variants of the version; null where none was asked for or too few "
        "images validate and test to judge one by.",
    )


class PublishResult(JobResult):
    """The new version; `metrics.published` are the publisher's figures, not measured here."""

    model: str
    version: int
    metrics: dict[str, Any]
    promoted: bool
    seconds: dict[str, float]


class VariantsResult(JobResult):
    """The report of each precision that was tried; those that `passed` are served from now on."""

    model: str
    version: int
    variants: dict[str, dict[str, Any]]
    calibrated_on: int = Field(description="How many images.")
    judged_on: int = Field(description="How many images, none of which calibrated or, as far as known, trained.")
    left_out: int = Field(0, description="How many images have labels that the version does not have.")
    left_out_labels: tuple[str, ...] = Field((), description="Those labels, the first 20.")
    seconds: dict[str, float]


class EvaluatedScore(JobResult):
    """How good one version is, in a few numbers; `/v1/evaluations/{id}` has the others."""

    model: str
    version: int
    reference: str
    precision: str
    provider: str
    images: int = Field(description="How many are behind the numbers: those whose class the version knows.")
    accuracy: float
    accuracy_interval: tuple[float, float] = Field(description="Wilson's, with a confidence of 95 %.")
    top5_accuracy: float | None = Field(description="Null with five classes or fewer.")
    macro_f1: float
    loss: float = Field(description="The mean negative log-likelihood, in nats.")
    brier: float = Field(description="The mean Brier score over all classes, 0 to 2.")
    calibration_error: float
    unknown_images: int = Field(description="How many have a class that the version does not know: not counted.")
    seen_share: float | None = Field(
        description="The share of the images that it is known to have learnt from; null where that is not known."
    )


class ComparedPair(JobResult):
    """Two versions on the images that both can be measured by."""

    first: str
    second: str
    images: int
    only_first: int = Field(description="How many images the first alone gets right.")
    only_second: int
    difference: float | None = Field(description="Accuracy of the first less that of the second; null: no images.")
    difference_interval: tuple[float, float] | None = Field(description="Newcombe's for pairs, at 95 %.")
    p_value: float | None = Field(description="Of McNemar's exact test.")
    adjusted_p_value: float | None = Field(description="After Holm's correction for all pairs.")
    conclusion: str


class EvaluateResult(JobResult):
    """The numbers in short. All of them are under `/v1/evaluations/{id}`, a line for each image under
    `/v1/jobs/{id}/results`."""

    dataset: str
    split: SplitChoice
    images: int = Field(description="How many were measured, of the dataset's or its split.")
    versions: tuple[EvaluatedScore, ...]
    comparisons: tuple[ComparedPair, ...] = ()
    differing_images: int = Field(0, description="On how many of them not all versions gave the same answer.")
    warnings: tuple[str, ...] = ()


class DiagnoseResult(JobResult):
    """What was found, counted; `/v1/datasets/{id}/diagnosis` names the images."""

    dataset: str
    model: str
    version: int
    images: int
    wrong_labels: int = Field(description="How many labels are probably wrong.")
    outliers: int = Field(description="How many images are like none of their class.")
    near_duplicates: int = Field(description="How many show what another one of their class shows.")
    without_influence: int = Field(description="How many change nothing of what is learnt.")
    overlapping_classes: int = Field(description="How many pairs of classes are not told apart.")
    warnings: tuple[str, ...] = ()
    seconds: dict[str, float]


REQUEST_OF_JOB: Mapping[JobKind, type[JobRequest]] = {
    JobKind.CLASSIFY: ClassifyRequest,
    JobKind.CLASSIFY_MANY: ClassifyManyRequest,
    JobKind.INGEST: IngestRequest,
    JobKind.REVISE: ReviseRequest,
    JobKind.FINETUNE: FinetuneRequest,
    JobKind.PUBLISH: PublishRequest,
    JobKind.VARIANTS: VariantsRequest,
    JobKind.EVALUATE: EvaluateRequest,
    JobKind.DIAGNOSE: DiagnoseRequest,
}
RESULT_OF_JOB: Mapping[JobKind, type[JobResult]] = {
    JobKind.CLASSIFY: ClassifyResult,
    JobKind.CLASSIFY_MANY: ClassifyManyResult,
    JobKind.INGEST: IngestResult,
    JobKind.REVISE: ReviseResult,
    JobKind.FINETUNE: FinetuneResult,
    JobKind.PUBLISH: PublishResult,
    JobKind.VARIANTS: VariantsResult,
    JobKind.EVALUATE: EvaluateResult,
    JobKind.DIAGNOSE: DiagnoseResult,
}
Request = TypeVar("Request", bound=JobRequest)


def read_request(kind: type[Request], row: Mapping[str, Any]) -> Request:
    """A job's request from its row. Raises pydantic's ValidationError.

    What a newer release added is ignored, and numbers are taken in forms that clients may not send any more.
    """
    return kind.model_validate(row, extra="ignore", strict=False)
