"""`Fovea.models`: what can be called, its versions and aliases."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from fovea_client import calls
from fovea_client.errors import NotFound
from fovea_client.file import pieces, saved
from fovea_client.image import shown
from fovea_client.jobs import Job, job_by
from fovea_client.model_file import form_of
from fovea_client.operation import Mode, Resource, listing, operation
from fovea_client.plan import Feed, Plan, compute
from fovea_client.progress import ShownUpload, UploadProgress
from fovea_client.records import Alias, Dataset, Drift, Filters, Model, Variants, Version
from fovea_client.session import Session

PRODUCTION = "production"
Promote = Literal["never", "if_better", "always"]


class Models(Resource[Mode]):
    """A `version` that is left out is the one that answers to the bare name: `production`, else the latest."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @listing
    def list(self, *, search: str | None = None, tag: str | None = None) -> Feed[Model]:
        """By name; `search` is a part of name or description, `tag` one of its tags."""
        return (yield from self._session.items(calls.list_models(search, tag=tag)))

    @operation
    def get(self, model: str) -> Plan[Model]:
        """One model. Raises NotFound."""
        return (yield from self._session.answer(calls.get_model(model)))

    @operation
    def describe(
        self, model: str, *, description: str | None = None, tags: Sequence[str] | None = None
    ) -> Plan[Model]:
        """Set its description and tags: None leaves what there is, an empty one removes it.

        Raises NotFound, InvalidRequest.
        """
        fields = given(description=description, tags=listed(tags))
        return (yield from self._session.answer(calls.describe_model(model, fields)))

    @listing
    def versions(self, model: str) -> Feed[Version]:
        """A model's versions, the newest first."""
        return (yield from self._session.items(calls.list_versions(model)))

    @operation
    def version(self, model: str, version: int | None = None) -> Plan[Version]:
        """One version with its manifest. Raises NotFound."""
        number = yield from self._number(model, version)
        return (yield from self._session.answer(calls.get_version(model, number)))

    @operation
    def publish(
        self,
        model: str,
        *,
        architecture: str,
        weights: str | None = None,
        architecture_params: Mapping[str, Any] | None = None,
        promote: Promote | None = None,
    ) -> Plan[Job[Mode]]:
        """Start a `publish` job: weights of the zoo become the model's next version."""
        fields = given(
            architecture=architecture, weights=weights, architecture_params=architecture_params, promote=promote
        )
        return (yield from job_by(self._session, calls.publish(model, fields)))

    @operation
    def upload(
        self,
        model: str,
        file: str | os.PathLike[str],
        *,
        labels: Sequence[str] | Literal["imagenet"] | None = None,
        preprocessing: Mapping[str, Any] | Literal["imagenet"] | None = None,
        architecture: str | None = None,
        architecture_params: Mapping[str, Any] | None = None,
        output: str | None = None,
        values: Literal["logits", "probabilities"] | None = None,
        licence: str | None = None,
        trained_on: str | None = None,
        promote: Promote | None = None,
        progress: bool | Callable[[UploadProgress], object] = False,
    ) -> Plan[Job[Mode]]:
        """Send an ONNX file or a checkpoint and start the `publish` job that makes it the model's next version.

        A checkpoint needs its `architecture` and `labels`; an ONNX file `labels` and `preprocessing`, unless its
        metadata has them, as a `model.onnx` of Fovea's has. `progress`: True shows a bar, a function is called
        with each `UploadProgress`. What is wrong with the file the job says.

        Raises OSError, ApiError, Unreachable.
        """
        options = given(
            labels=labels if isinstance(labels, str) or labels is None else list(labels),
            preprocessing=preprocessing,
            architecture=architecture,
            architecture_params=architecture_params,
            output=output,
            values=values,
            licence=licence,
            trained_on=trained_on,
            promote=promote,
        )
        with ShownUpload(shown(Path(file).name), progress) as upload:
            form, content_type = yield from compute(lambda: form_of(file, options, upload))
            return (yield from job_by(self._session, calls.publish_file(model, form, content_type)))

    @operation
    def promote(self, model: str, version: int) -> Plan[Model]:
        """Point `production` at a version; from the next request on it answers. Raises Conflict if it cannot."""
        return (yield from self._session.answer(calls.set_alias(model, PRODUCTION, version)))

    @operation
    def alias(self, model: str, alias: str) -> Plan[Alias]:
        """Where an alias is, and was. Raises NotFound."""
        return (yield from self._session.answer(calls.get_alias(model, alias)))

    @operation
    def set_alias(self, model: str, alias: str, version: int) -> Plan[Model]:
        """Point an alias at a version. Raises Conflict where that cannot be loaded."""
        return (yield from self._session.answer(calls.set_alias(model, alias, version)))

    @operation
    def rollback(self, model: str, alias: str = PRODUCTION, *, present: int | None = None) -> Plan[Model]:
        """Undo the last move of an alias, which is at version `present`; without it, wherever it is.

        Raises Conflict where it has no earlier version or was moved meanwhile.
        """
        if present is None:
            present = (yield from self._session.answer(calls.get_alias(model, alias))).version
        return (yield from self._session.answer(calls.roll_back_alias(model, alias, present)))

    @operation
    def delete_alias(self, model: str, alias: str) -> Plan[None]:
        """The version stays."""
        yield from self._session.answer(calls.delete_alias(model, alias))

    @operation
    def delete(self, model: str, version: int | None = None, *, force: bool = False) -> Plan[None]:
        """Delete a version, or a model with all of its versions.

        Raises InUse while an alias points at it, unless `force`, which deletes such aliases too.
        """
        if version is None:
            yield from self._session.answer(calls.delete_model(model, force=force))
        else:
            yield from self._session.answer(calls.delete_version(model, version, force=force))

    @operation
    def card(self, model: str, version: int | None = None, *, form: Literal["md", "html"] = "md") -> Plan[str]:
        """How good a version is and where it comes from, as Markdown or as a self-contained page."""
        number = yield from self._number(model, version)
        return (yield from self._session.answer(calls.get_card(model, number, form)))

    @listing
    def artifact(self, model: str, version: int | None = None) -> Feed[bytes]:
        """The version's files as a zip, piece by piece. Raises Unreachable where it is cut off."""
        number = yield from self._number(model, version)
        return (yield from pieces(self._session, calls.get_artifact(model, number)))

    @operation
    def download(
        self,
        model: str,
        version: int | None = None,
        to: str | os.PathLike[str] = ".",
        *,
        progress: Callable[[int], object] | None = None,
    ) -> Plan[Path]:
        """The version's files as a zip, in the file or folder `to`: whole or not at all; its path.

        `progress` is called with the bytes that are there by then. Raises OSError, NotFound, Unreachable.
        """
        number = yield from self._number(model, version)
        target = Path(to)
        target = target / f"{model}-{number}.zip" if target.is_dir() else target
        return (yield from saved(self._session, calls.get_artifact(model, number), target, progress))

    @operation
    def variants(self, model: str, version: int | None = None) -> Plan[Variants]:
        """Which precisions a version can be asked for, and the report of each that was tried."""
        number = yield from self._number(model, version)
        return (yield from self._session.answer(calls.get_variants(model, number)))

    @operation
    def filters(self, model: str, version: int | None = None) -> Plan[Filters]:
        """What its network sees. Raises NotFound for a version whose filters nobody looked at."""
        number = yield from self._number(model, version)
        return (yield from self._session.answer(calls.get_filters(model, number)))

    @operation
    def filters_picture(self, model: str, picture: str, version: int | None = None) -> Plan[bytes]:
        """One of the `pictures` of its filters, as a PNG or WebP file. Raises NotFound."""
        number = yield from self._number(model, version)
        return (yield from self._session.answer(calls.get_filters_picture(model, number, picture)))

    @operation
    def try_variants(
        self,
        model: str,
        version: int | None = None,
        *,
        dataset: str | Dataset,
        precisions: Literal["auto"] | Sequence[str] | None = None,
    ) -> Plan[Job[Mode]]:
        """Start a `variants` job: faster forms of a version, judged on a dataset's images."""
        number = yield from self._number(model, version)
        fields = given(dataset=id_of(dataset), precisions=precisions)
        return (yield from job_by(self._session, calls.try_variants(model, number, fields)))

    @operation
    def drift(
        self, model: str, version: int | None = None, *, window: Literal["hour", "day", "all"] = "day"
    ) -> Plan[Drift]:
        """Whether what a version is sent differs from its validation images. Raises NotFound."""
        number = yield from self._number(model, version)
        return (yield from self._session.answer(calls.get_drift(model, number, window)))

    def _number(self, model: str, version: int | None) -> Plan[int]:
        if version is not None:
            return version
        found = yield from self._session.answer(calls.get_model(model))
        number = found.aliases.get(PRODUCTION) or found.latest
        if number is None:
            raise NotFound("unknown_version", f"{model} has no version yet", 404)
        return number


def given(**fields: Any) -> dict[str, Any]:
    """Those that are not None: what is left out has the server's default."""
    return {name: value for name, value in fields.items() if value is not None}


def listed(values: Sequence[str] | None) -> Sequence[str] | None:
    """As JSON has it, whatever kind of sequence it is."""
    return None if values is None else [*values]


def id_of(dataset: str | Dataset) -> str:
    return dataset.id if isinstance(dataset, Dataset) else dataset
