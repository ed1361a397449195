"""`Fovea` and `AsyncFovea`: one running Fovea, and everything that it can be asked."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from ssl import SSLContext
from types import TracebackType
from typing import Any, Literal, Self, overload

from fovea_client import calls
from fovea_client.architectures import Architectures
from fovea_client.async_session import AsyncSession
from fovea_client.classification import OnUnknown, Question, classify, form_of
from fovea_client.datasets import Datasets
from fovea_client.explanation import Explanation, Method, WhyQuestion, explain
from fovea_client.image import Image, is_many, source_of
from fovea_client.jobs import Job, Jobs, job_by
from fovea_client.models import Models, given, id_of
from fovea_client.operation import Async, Mode, Resource, Sync, listing, operation
from fovea_client.plan import Feed, Plan, compute
from fovea_client.prediction import Prediction
from fovea_client.records import AuditEntry, Dataset, Model, Readiness, Version
from fovea_client.session import Session
from fovea_client.similar import EmbedQuestion, SimilarQuestion
from fovea_client.sync_session import SyncSession
from fovea_client.webhooks import Webhooks

Reference = str | Model | Version


class Client(Resource[Mode]):
    """What `Fovea` and `AsyncFovea` have in common: all but how they wait."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.models: Models[Mode] = Models(session)
        self.datasets: Datasets[Mode] = Datasets(session)
        self.jobs: Jobs[Mode] = Jobs(session)
        self.architectures: Architectures[Mode] = Architectures(session)
        self.webhooks: Webhooks[Mode] = Webhooks(session)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    @property
    def url(self) -> str:
        """Where Fovea answers, without a slash at the end."""
        return self._session.url

    @operation
    def finetune(
        self,
        *,
        model: str,
        dataset: str | Dataset,
        architecture: str,
        architecture_params: Mapping[str, Any] | None = None,
        weights: str | None = None,
        strategy: Literal["auto", "head", "partial", "full"] | None = None,
        recipe: str | Mapping[str, Any] | None = None,
        validation: Mapping[str, Any] | None = None,
        seed: int | None = None,
        promote: Literal["never", "if_better", "always"] | None = None,
        variants: Literal["auto", "none"] | None = None,
        idempotency_key: str | None = None,
    ) -> Plan[Job[Mode]]:
        """Start to learn a dataset's classes: a job, whose `wait()` gives the result.

        What each argument means, and its default, stands in docs/teach.md. Asked again with the same
        `idempotency_key` it gives the job that it made the first time.
        """
        fields = given(
            model=model,
            dataset=id_of(dataset),
            architecture=architecture,
            architecture_params=architecture_params,
            weights=weights,
            strategy=strategy,
            recipe=recipe,
            validation=validation,
            seed=seed,
            promote=promote,
            variants=variants,
        )
        return (yield from job_by(self._session, calls.finetune(fields, idempotency_key)))

    @operation
    def classify_later(
        self,
        images: Image | Iterable[Image],
        *,
        model: Reference,
        top_k: int = 5,
        precision: str = "auto",
        coverage: float | None = None,
        on_unknown: OnUnknown = "mark",
    ) -> Plan[Job[Mode]]:
        """Send images, as many as a request takes, and do not wait: a `classify` job has them in its result."""
        given_images = list(images) if is_many(images) else [images]  # type: ignore[arg-type]
        sources = [source_of(image) for image in given_images]
        loaded = yield from compute(lambda: [source.load() for source in sources])
        params = Question(reference_of(model), top_k, precision, coverage, on_unknown).params
        call = calls.classify_later(reference_of(model), form_of(sources, loaded), params)
        return (yield from job_by(self._session, call))

    @operation
    def classify_many(
        self,
        *,
        model: Reference,
        dataset: str | Dataset | None = None,
        prefix: str | None = None,
        top_k: int | None = None,
        precision: str | None = None,
        coverage: float | None = None,
        on_unknown: OnUnknown | None = None,
        idempotency_key: str | None = None,
    ) -> Plan[Job[Mode]]:
        """Start to classify all images of a `dataset`, or those below `prefix` in the server's folder of images.

        A job, whose `results()` has a `Prediction` for each of them when it has ended. A dataset of images without
        labels is made by `datasets.create(..., labels="none")`.
        """
        fields = given(
            model=reference_of(model),
            dataset=None if dataset is None else id_of(dataset),
            prefix=prefix,
            top_k=top_k,
            precision=precision,
            coverage=coverage,
            on_unknown=on_unknown,
        )
        return (yield from job_by(self._session, calls.start_classification(fields, idempotency_key)))

    @operation
    def evaluate(
        self,
        *,
        models: Reference | Sequence[Reference],
        dataset: str | Dataset,
        split: Literal["unseen", "train", "validation", "test", "all"] | None = None,
        precision: str | None = None,
        idempotency_key: str | None = None,
    ) -> Plan[Job[Mode]]:
        """Start to measure one version or several on a dataset's labelled images, and to compare them.

        A job, whose `evaluation()` has all figures when it has ended, `card()` a page of them, and `answers()`
        what each version said of each image. By default those images count that none of them has learnt from.
        """
        several = [models] if isinstance(models, str | Model | Version) else models
        fields = given(
            models=[reference_of(model) for model in several],
            dataset=id_of(dataset),
            split=split,
            precision=precision,
        )
        return (yield from job_by(self._session, calls.start_evaluation(fields, idempotency_key)))

    @operation
    def embed(self, images: Image | Iterable[Image], *, model: Reference, precision: str = "auto") -> Plan[Any]:
        """What a model's network makes of an image before it names a class: an `Embedded`, a list for a list.

        Images are given and fail as those of `classify`. Raises Conflict where the network has no embedding.
        """
        question = EmbedQuestion(reference_of(model), precision=precision)
        return (yield from classify(self._session, images, question))

    @operation
    def similar(
        self, images: Image | Iterable[Image], *, model: Reference, k: int = 5, precision: str = "auto"
    ) -> Plan[Any]:
        """The `k` training images that a model finds most similar to an image: a `SimilarTo`, a list for a list.

        Images are given and fail as those of `classify`. Raises Conflict where the version has no embeddings of
        training images.
        """
        question = SimilarQuestion(reference_of(model), precision=precision, k=k)
        return (yield from classify(self._session, images, question))

    @operation
    def readiness(self) -> Plan[Readiness]:
        """Whether everything is there, what is missing, and what each worker really runs."""
        return (yield from self._session.answer(calls.get_readiness()))

    @operation
    def is_alive(self) -> Plan[bool]:
        """True where its gateway answers. Raises Unreachable otherwise."""
        found = yield from self._session.answer(calls.get_liveness())
        return found.get("status") == "alive"

    @operation
    def metrics(self) -> Plan[str]:
        """Prometheus' text format."""
        return (yield from self._session.answer(calls.get_metrics()))

    @listing
    def audit(
        self,
        *,
        actor: str | None = None,
        action: str | None = None,
        subject: str | None = None,
        since: datetime | None = None,
    ) -> Feed[AuditEntry]:
        """Who did what, the newest first. `since` without a zone is a time of this machine's."""
        moment = since.astimezone().isoformat() if since else None
        return (yield from self._session.items(calls.list_audit(actor, action, subject, moment)))


class Fovea(Client[Sync]):
    """One running Fovea, whose calls return when they are answered. Thread-safe.

    Args:
        url: Where it answers; else the variable FOVEA_URL, else http://127.0.0.1:8000.
        key: API key; else the variable FOVEA_KEY. Not needed on the machine that Fovea runs on.
        timeout_s: How long each wait for the server may take.
        patience_s: How long a call may take in all with its repetitions, where Fovea is busy or away for a moment;
            with 0 nothing is repeated.
        verify: As httpx has it: an `ssl.SSLContext` for certificates of your own.

    Raises:
        Unreachable: `url` is none.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout_s: float = 60.0,
        patience_s: float = 30.0,
        verify: SSLContext | bool = True,
    ) -> None:
        session = SyncSession(url, key, timeout_s, patience_s, verify)
        super().__init__(session)
        self._close = session.close

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._close()

    @overload
    def classify(
        self,
        images: list[Any] | tuple[Any, ...],
        *,
        model: Reference,
        top_k: int = 5,
        precision: str = "auto",
        coverage: float | None = None,
        on_unknown: OnUnknown = "mark",
    ) -> list[Prediction]: ...
    @overload
    def classify(
        self,
        images: Image,
        *,
        model: Reference,
        top_k: int = 5,
        precision: str = "auto",
        coverage: float | None = None,
        on_unknown: OnUnknown = "mark",
    ) -> Prediction: ...
    def classify(
        self,
        images: Any,
        *,
        model: Reference,
        top_k: int = 5,
        precision: str = "auto",
        coverage: float | None = None,
        on_unknown: OnUnknown = "mark",
    ) -> Any:
        """Say what is in an image, or in each image of a list.

        An image is a path, bytes, a file open in binary mode, a PIL image, or a numpy array uint8 [height, width,
        3] or [height, width]. One gives its prediction; a list gives a list in its order, in which an image that
        failed has its own `error`. `top_k` is how many classes of each; `precision` is `auto` (the fastest),
        `float32`, `int8` or `fp16`. With a `coverage`, such as 0.95, each prediction has the smallest `set` of
        classes that holds the truth with that probability, where the version was calibrated for it. With
        `on_unknown="refuse"` an image that shows none of the classes has the error `unknown_image`; with `mark`
        its `unknown` says so.

        Raises NotFound, InvalidImage and UnknownImage (for one image), OSError, TypeError, ValueError, ApiError,
        Unreachable.
        """
        question = Question(reference_of(model), top_k, precision, coverage, on_unknown)
        return self._session.run(classify(self._session, images, question))

    @overload
    def explain(
        self,
        images: list[Any] | tuple[Any, ...],
        *,
        model: Reference,
        label: str | int | None = None,
        method: Method = "auto",
        precision: str = "auto",
    ) -> list[Explanation]: ...
    @overload
    def explain(
        self,
        images: Image,
        *,
        model: Reference,
        label: str | int | None = None,
        method: Method = "auto",
        precision: str = "auto",
    ) -> Explanation: ...
    def explain(
        self,
        images: Any,
        *,
        model: Reference,
        label: str | int | None = None,
        method: Method = "auto",
        precision: str = "auto",
    ) -> Any:
        """Say where in an image, or in each image of a list, a class was seen.

        Images are as `classify` takes them, at most 16. `label` is a class's label or number; without it each
        image's most probable class is explained. `method` is `cam`, `recipro-cam`, `occlusion`, or `auto`, the
        first of them that the version can be explained by; `precision` is float32 by default. One image gives its
        explanation, a list a list in its order, in which an image that failed has its own `error`.

        Raises NotFound, InvalidRequest (for an unknown class), Conflict (for a method that the version cannot be
        explained by), InvalidImage (for one image), OSError, TypeError, ValueError, ApiError, Unreachable.
        """
        question = WhyQuestion(reference_of(model), label, method, precision)
        return self._session.run(explain(self._session, images, question))


class AsyncFovea(Client[Async]):
    """One running Fovea, whose calls are awaited and whose lists are read with `async for`; else as `Fovea`."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout_s: float = 60.0,
        patience_s: float = 30.0,
        verify: SSLContext | bool = True,
    ) -> None:
        session = AsyncSession(url, key, timeout_s, patience_s, verify)
        super().__init__(session)
        self._close = session.aclose

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close its connections."""
        await self._close()

    @overload
    async def classify(
        self,
        images: list[Any] | tuple[Any, ...],
        *,
        model: Reference,
        top_k: int = 5,
        precision: str = "auto",
        coverage: float | None = None,
        on_unknown: OnUnknown = "mark",
    ) -> list[Prediction]: ...
    @overload
    async def classify(
        self,
        images: Image,
        *,
        model: Reference,
        top_k: int = 5,
        precision: str = "auto",
        coverage: float | None = None,
        on_unknown: OnUnknown = "mark",
    ) -> Prediction: ...
    async def classify(
        self,
        images: Any,
        *,
        model: Reference,
        top_k: int = 5,
        precision: str = "auto",
        coverage: float | None = None,
        on_unknown: OnUnknown = "mark",
    ) -> Any:
        """As `Fovea.classify`."""
        question = Question(reference_of(model), top_k, precision, coverage, on_unknown)
        return await self._session.run(classify(self._session, images, question))

    @overload
    async def explain(
        self,
        images: list[Any] | tuple[Any, ...],
        *,
        model: Reference,
        label: str | int | None = None,
        method: Method = "auto",
        precision: str = "auto",
    ) -> list[Explanation]: ...
    @overload
    async def explain(
        self,
        images: Image,
        *,
        model: Reference,
        label: str | int | None = None,
        method: Method = "auto",
        precision: str = "auto",
    ) -> Explanation: ...
    async def explain(
        self,
        images: Any,
        *,
        model: Reference,
        label: str | int | None = None,
        method: Method = "auto",
        precision: str = "auto",
    ) -> Any:
        """As `Fovea.explain`."""
        question = WhyQuestion(reference_of(model), label, method, precision)
        return await self._session.run(explain(self._session, images, question))


def reference_of(model: Reference) -> str:
    """What a request calls it by."""
    return model if isinstance(model, str) else model.reference
