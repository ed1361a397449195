"""The first layer of every network of Fovea: from prepared pixels to the floats that the network was trained on.

Training, evaluation and the exported graph all begin with this module, so they cannot disagree about it.
"""

import torch
from torch import Tensor, nn

from models.errors import InvalidPreprocessing
from models.spec import LUMINANCE, Preprocessing


class Normalise(nn.Module):
    """uint8 `[n, height, width, 3]` RGB to float32 `[n, channels, height, width]`: `(pixel / 255 - mean) / std`.

    With `channels=1` it gives the luminance of the normalised channels. It has no parameters and nothing in the
    state dict. Why it is written in this order: docs/decisions/0003-preprocessing-in-the-graph.md.

    Raises InvalidPreprocessing for any other number of channels.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, preprocessing: Preprocessing, channels: int = 3) -> None:
        super().__init__()
        if channels not in (1, 3):
            raise InvalidPreprocessing(f"a network takes 3 channels (RGB) or 1 (grey), not {channels}")
        mean = torch.tensor(preprocessing.mean, dtype=torch.float64)
        std = torch.tensor(preprocessing.std, dtype=torch.float64)
        self.channels = channels
        scale, shift = 1 / (255 * std), -mean / std
        if channels == 1:
            luminance = torch.tensor(LUMINANCE, dtype=torch.float64)
            scale, shift = luminance * scale, (luminance * shift).sum().reshape(1)
        self.register_buffer("scale", scale.float().reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", shift.float().reshape(1, channels, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        # Turned while it is a quarter of the size. Without `contiguous` the tracer carries channels-last strides
        # to the end of the network, where `flatten` then becomes a slow gather.
        pixels = images.permute(0, 3, 1, 2).contiguous().float()
        if self.channels == 1:
            return nn.functional.conv2d(pixels, self.scale, self.shift.reshape(1))
        return pixels * self.scale + self.shift
