"""What `fovea up` says when everything is ready: addresses, and curl lines that work as they stand."""

import os
import shlex
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fovea_client import Prediction


@dataclass(frozen=True)
class Banner:
    """`answer` is what the first of the `lines` says in short, `first_key` an API key that is shown only now.

    `grpc` is the address of the Open Inference Protocol, empty where there is none.
    """

    url: str
    data: Path
    lines: tuple[str, ...]
    answer: str = ""
    first_key: str | None = None
    grpc: str = ""

    def render(self) -> str:
        first, *others = self.lines
        return "\n".join(
            [
                "",
                f"Fovea is ready at {self.url}",
                f"  documentation of its API: {self.url}/docs",
                *([f"  Open Inference by gRPC:   {self.grpc}"] if self.grpc else []),
                f"  everything it keeps:      {self.data}",
                *self._key_lines(),
                "",
                "Try it:",
                f"  {first}",
                *([f"    -> {self.answer}"] if self.answer else []),
                *(f"  {line}" for line in others),
                "",
                "Ctrl-C ends it.",
                "",
            ]
        )

    def _key_lines(self) -> list[str]:
        if not self.first_key:
            return []
        words = "There was no API key, so one with every scope was made. It is shown only now:"
        return ["", words, f"  export FOVEA_KEY={self.first_key}"]


def curl_lines(url: str, sample: Path | None, *, needs_key: bool = False) -> tuple[str, ...]:
    """Three commands for a POSIX shell in the current directory; the first classifies `sample` if there is one."""
    curl = "curl -s" + _past_proxy(url)
    if needs_key:
        curl += ' -H "Authorization: Bearer $FOVEA_KEY"'
    first = f"{curl} '{url}/v1/architectures?limit=3'"
    if sample:
        image = shlex.quote("@" + _from_here(sample))
        first = f"{curl} -H 'Content-Type: image/png' --data-binary {image}"
        first += f" '{url}/v1/models/digits/classify?top_k=3'"
    return (first, f"{curl} {url}/v1/models", f"{curl} {url}/readyz")


def summary(prediction: Prediction) -> str:
    """A classification in one line: `digits version 1: 7 99.9 %, 9 0.1 %`."""
    best = ", ".join(f"{found.label} {100 * found.probability:.1f} %" for found in prediction.classes)
    return f"{prediction.model} version {prediction.version}: {best}"


def _from_here(path: Path) -> str:
    """The path as a person in the current directory would type it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _past_proxy(url: str) -> str:
    """curl would send even a loopback request to a proxy of the environment."""
    host = urlsplit(url).hostname or ""
    if "http" in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return f" --noproxy {host}"
    return ""
