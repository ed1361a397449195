"""Devices and number formats, as far as a machine without a GPU can tell."""

import numpy as np
import pytest
import torch
from support.gpu import needs_gpu
from support.teaching import CPU, Watching, digit_pixels, small_training

from models.errors import DeviceUnavailable
from models.spec import Preprocessing
from models.training.loop import fit, take_step
from models.training.precision import (
    Precision,
    compute_in_float32,
    out_of_memory,
    training_device,
    use_threads,
)


def test_auto_takes_what_there_is() -> None:
    assert training_device("cpu") == CPU
    assert training_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_is_required_and_absent() -> None:
    with pytest.raises(DeviceUnavailable, match="auto or cpu"):
        training_device("cuda")


def test_without_hardware_for_it_nothing_is_mixed() -> None:
    assert Precision(CPU, "off").describe() == "float32"
    expected = "mixed bfloat16" if torch.cpu._is_amx_tile_supported() else "float32"
    assert Precision(CPU, "auto").describe() == expected


def test_mixed_precision_learns_as_well() -> None:
    """On the CPU, whatever it costs there: the loop is the same as on a GPU."""
    training = small_training(digit_pixels(160), digit_pixels(80, seed=1), epochs=4)
    training.precision.dtype = torch.bfloat16
    outcome = fit(training, Watching())
    assert outcome.history[-1].validation_accuracy > 0.5
    assert {p.dtype for p in training.network.parameters()} == {torch.float32}


@needs_gpu
def test_a_gpu_trains_what_a_cpu_trains() -> None:
    data, held_out = digit_pixels(320), digit_pixels(80, seed=1)
    accuracies = []
    for device in (CPU, torch.device("cuda")):
        training = small_training(data, held_out, epochs=5, device=device)
        outcome = fit(training, Watching())
        accuracies.append(outcome.history[outcome.best_epoch - 1].validation_accuracy)
    assert np.allclose(accuracies[0], accuracies[1], atol=0.08)


@needs_gpu
def test_a_gpu_computes_in_float32_what_a_cpu_does() -> None:
    compute_in_float32()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 64, 56, 56, generator=generator)
    weights = torch.randn(64, 64, 3, 3, generator=generator)
    expected = torch.nn.functional.conv2d(images, weights)
    found = torch.nn.functional.conv2d(images.cuda(), weights.cuda()).cpu()
    # Of sums of 576 products; with TF32 the largest difference is 0.03.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


@needs_gpu
def test_a_batch_too_large_for_the_gpu_goes_through_in_parts() -> None:
    training = small_training(digit_pixels(64), digit_pixels(16, seed=1), device=torch.device("cuda"))
    image = 256 * 2**20

    def take_memory(_network: torch.nn.Module, given: tuple[torch.Tensor]) -> None:
        torch.empty(len(given[0]) * image, dtype=torch.uint8, device="cuda")

    training.network.register_forward_pre_hook(take_memory)
    inputs, targets = next(training.batches.epoch(0, 0))
    torch.cuda.empty_cache()
    mine = torch.cuda.memory_reserved() + 10 * image
    torch.cuda.set_per_process_memory_fraction(mine / torch.cuda.mem_get_info()[1])
    try:
        take_step(training, inputs, targets)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert training.progress.micro_batch == 8


def test_small_images_are_not_spread_over_threads() -> None:
    use_threads(4, Preprocessing(32, 32, 32))
    assert torch.get_num_threads() == 1
    use_threads(2, Preprocessing(224, 224, 256))
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("x"), False),
    ],
)
def test_a_shortage_of_memory_is_told_from_other_errors(error: BaseException, expected: bool) -> None:
    assert out_of_memory(error) == expected
