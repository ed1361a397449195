"""timm's published weights as weights sources, and timm's own translation of old files. Downloads nothing."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import timm
from timm.data.config import resolve_data_config
from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset
from torch import Tensor

from models.errors import WeightsMismatch
from models.spec import Interpolation, Preprocessing
from models.weights.labels import imagenet_labels
from models.weights.source import Checksum, WeightsSource
from models.weights.torchvision_enums import DIGITS
from models.zoo.timm_models import PREFIX

HUB = "https://huggingface.co"
# The hub redirects to its storage; the first answer states the sha256 that git-lfs keeps of the file.
HUB_HEADER = "X-Linked-Etag"
HUB_FILE = "model.safetensors"
SHOWN = 600


def timm_sources(architecture: str) -> list[WeightsSource]:
    """Every published set of weights of `timm/NAME`, by timm's tags; timm's default is marked."""
    plain = architecture.removeprefix(PREFIX)
    default = timm.get_pretrained_cfg(plain)
    found = []
    for full_name in timm.list_pretrained(f"{plain}*"):
        name, _, tag = full_name.partition(".")
        config = timm.get_pretrained_cfg(full_name)
        if name == plain and config is not None:
            is_default = default is not None and config.tag == default.tag
            found.append(_source(architecture, tag or "default", config, is_default))
    return [source for source in found if source is not None]


def translate(architecture: str, source: WeightsSource, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The file's tensors as timm's network of today names and shapes them, for the source's own class count.

    Raises WeightsMismatch with timm's reason.
    """
    plain = architecture.removeprefix(PREFIX)
    tag = "" if source.name == "default" else f".{source.name}"
    try:
        network = timm.create_model(
            plain + tag, pretrained=True, pretrained_cfg_overlay={"state_dict": dict(state)}, **source.params
        )
    except (RuntimeError, KeyError, ValueError) as exc:
        raise WeightsMismatch(f"{source.filename} does not fit timm's {plain}: {brief(exc)}") from exc
    translated: dict[str, Tensor] = network.state_dict()
    return translated


def brief(exc: Exception) -> str:
    """torch's list of misfits on one line, and cut where it would fill pages."""
    text = " ".join(str(exc).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."


def _source(architecture: str, tag: str, config: Any, default: bool) -> WeightsSource | None:
    if config.hf_hub_id:
        file = config.hf_hub_filename or HUB_FILE
        url, filename = f"{HUB}/{config.hf_hub_id}/resolve/main/{file}", f"{config.hf_hub_id}/{file}"
        checksum = Checksum(header=HUB_HEADER)
    elif config.url:
        url, filename = config.url, config.url.rpartition("/")[2]
        digits = DIGITS.search(filename)
        checksum = Checksum(sha256_prefix=digits.group(1) if digits else None)
    else:
        return None
    if filename.rpartition(".")[2] not in ("safetensors", "pth", "pt", "bin"):
        return None  # numpy archives of one early model, which only timm's own loader reads
    return WeightsSource(
        architecture=architecture,
        name=tag,
        origin="timm",
        filename=filename,
        url=url,
        preprocessing=_preprocessing(config),
        labels=_labels(config),
        num_classes=config.num_classes,
        trained_on=_trained_on(config),
        checksum=checksum,
        licence=config.license,
        default=default,
        notes=_notes(config),
    )


def _preprocessing(config: Any) -> Preprocessing:
    data = resolve_data_config(  # type: ignore[no-untyped-call]
        pretrained_cfg=dataclasses.asdict(config)
    )
    height, width = data["input_size"][-2:]
    interpolation: Interpolation = data["interpolation"]
    (m0, m1, m2), (s0, s1, s2) = data["mean"], data["std"]
    return Preprocessing(
        height=height,
        width=width,
        resize=max(int(min(height, width) / data["crop_pct"]), height, width),
        fit="squash" if data["crop_mode"] == "squash" else "crop",
        interpolation=interpolation,
        mean=(m0, m1, m2),
        std=(s0, s1, s2),
    )


def _notes(config: Any) -> tuple[str, ...]:
    """Where timm prepares images in a way that Fovea does not."""
    notes = []
    if config.crop_pct and config.crop_pct > 1:
        notes.append(
            f"timm puts a border around the image (crop {config.crop_pct}); here the view is cut without one"
        )
    if config.crop_mode == "border":
        notes.append("timm fits the whole image into a square with a border; here the centre is cut out")
    return tuple(notes)


def _labels(config: Any) -> tuple[str, ...]:
    if config.num_classes == 1000:
        return imagenet_labels()
    subset = infer_imagenet_subset(dataclasses.asdict(config))
    if subset is None:
        return ()
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(i) for i in range(config.num_classes))


def _trained_on(config: Any) -> str:
    if config.num_classes == 1000:
        return "ImageNet-1k"
    subset = infer_imagenet_subset(dataclasses.asdict(config))
    return subset or (f"{config.num_classes} classes" if config.num_classes else "no classifier")
