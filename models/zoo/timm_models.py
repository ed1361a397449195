"""timm's networks as architectures named `timm/NAME`, found when asked for. Knows no weights."""

import difflib
from collections.abc import Callable
from typing import Any

import timm
from timm.models import group_modules
from torch import nn

from models.errors import InvalidArchitecture, UnknownArchitecture
from models.zoo.architecture import Architecture, InputSize, Layout

PREFIX = "timm/"


def find(name: str) -> tuple[Architecture, Callable[..., nn.Module]]:
    """The architecture `timm/NAME` and its builder. Raises UnknownArchitecture with the nearest names."""
    plain, _, tag = name.removeprefix(PREFIX).partition(".")
    if tag:
        raise UnknownArchitecture(
            f"{name!r} names weights: the architecture is {PREFIX}{plain}, its weights are {tag!r}"
        )
    if not timm.is_model(plain):
        near = difflib.get_close_matches(plain, timm.list_models(), n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(PREFIX + other for other in near)}?" if near else ""
        raise UnknownArchitecture(f"timm {timm.__version__} has no model {plain!r}{hint}")
    return _entry(plain), _builder(plain)


def timm_stages(network: nn.Module) -> list[nn.ModuleList]:
    """The stages by timm's own coarse grouping, without the classifiers; [] where timm has no grouping."""
    matcher = getattr(network, "group_matcher", None)
    if matcher is None:
        return []
    head = network.pretrained_cfg.get("classifier")  # type: ignore[union-attr, operator]
    heads = {head} if isinstance(head, str) else set(head or ())
    try:
        groups: dict[int, list[str]] = group_modules(network, matcher(coarse=True))
    except AssertionError:
        return []
    found = []
    for _, paths in sorted(groups.items()):
        modules = [network.get_submodule(path) for path in paths if path not in heads]
        kept = [module for module in modules if any(True for _ in module.parameters())]
        if kept:
            found.append(nn.ModuleList(kept))
    return found


def _entry(plain: str) -> Architecture:
    config = timm.get_pretrained_cfg(plain)
    heads = config.classifier if config is not None else None
    # Distilled transformers name two heads and answer with their mean.
    head, *others = [heads] if isinstance(heads, str) else (heads or [""])
    size = config.input_size[-1] if config is not None else 224
    fixed = bool(config is not None and config.fixed_input_size)
    return Architecture(
        name=PREFIX + plain,
        family=timm.models.model_entrypoint(plain).__module__.rpartition(".")[2],
        source="timm",
        year=None,
        paper=None,
        layout=Layout(head, grouping="timm", auxiliary=tuple(others), separable=not others),
        input=InputSize(size, fixed=fixed, reason="timm says that its input size is fixed" if fixed else ""),
        parameters={"...": "any keyword of timm.create_model for this model"},
    )


def _builder(plain: str) -> Callable[..., nn.Module]:
    def build(num_classes: int, channels: int, **params: Any) -> nn.Module:
        try:
            network: nn.Module = timm.create_model(
                plain, pretrained=False, num_classes=num_classes, in_chans=channels, **params
            )
        except (TypeError, ValueError, RuntimeError, AssertionError) as exc:
            raise InvalidArchitecture(f"timm cannot build {plain} with {params}: {exc}") from exc
        return network

    return build
