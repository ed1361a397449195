"""Seeds every source of random numbers that a training draws from."""

import random

import numpy as np
import torch

from models.training.seeds import derive_seed


def seed_everything(*parts: int | str) -> None:
    """Seeds Python, NumPy and every torch device of this process."""
    seed = derive_seed(*parts)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
