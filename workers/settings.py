"""What a worker reads from its environment (`FOVEA_...`). Both kinds of worker share it."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from models.artifact import PrecisionChoice
from storage.settings import StorageSettings
from system.cores import usable_cores
from workers.celery_app import QueueSettings
from workers.logs import LogFormat, LogLevel
from workers.traces import TraceSettings

# Written again, because `models.devices` loads ONNX Runtime.
Device = Literal["auto", "cpu", "cuda", "tensorrt"]
TrainingDevice = Literal["auto", "cpu", "cuda"]


class WorkerSettings(StorageSettings, QueueSettings, TraceSettings):
    """Every field can be set by an environment variable of its name with the prefix `FOVEA_`."""

    weights_dir: Path | None = Field(None, description="Where published weights lie; `weights` under `data`.")

    device: Device = Field(
        "auto",
        description="Device of inference; `cuda` and `tensorrt` refuse to start where they cannot be used.",
    )
    precision: PrecisionChoice = Field(
        "auto",
        description="What a version is served in where it has it: `auto` is the fastest of those that passed.",
    )
    training_device: TrainingDevice = Field("auto", description="Device of training.")
    training_threads: int = Field(
        0, ge=0, description="Threads of one training on the CPU; 0: one per usable core."
    )
    training_devices: int = Field(
        0,
        ge=0,
        description="Devices of one training on images; 0: all CUDA devices that are worth it, on a CPU one.",
    )
    training_silence_s: float = Field(
        900.0, gt=0, description="How long a training on several devices may come no further before it has failed."
    )
    training_cache_bytes: int = Field(
        10 * 2**30,
        gt=0,
        description="Budget of prepared images, features and graphs of backbones; the longest unused go first.",
    )
    spare_trainer: bool = Field(
        True, description="Keep a trainer with everything imported while there is no job; takes about 0.6 GB."
    )
    weights_url: str = Field(
        "", repr=False, description="A mirror that stands for the hosts of published weights."
    )
    offline: bool = Field(False, description="Never download weights.")
    inference_threads: int = Field(0, ge=0, description="ONNX Runtime calls at once; 0: one per usable core.")
    intra_op_threads: int = Field(1, ge=1, description="Threads inside one ONNX Runtime call.")
    model_memory_bytes: int = Field(2 * 2**30, gt=0, description="Budget of loaded models; least recent go first.")
    cuda_memory_bytes: int = Field(
        0, ge=0, description="Limit of ONNX Runtime's CUDA arena per model and batch size; 0: none."
    )
    cuda_tf32: bool = Field(False, description="Let CUDA round float32 to TF32: faster, with other answers.")
    max_pixels: int = Field(64_000_000, gt=0, description="Images with more pixels are refused undecoded.")
    heartbeat_interval_s: float = Field(0.3, gt=0, description="How often a worker says that it lives.")
    heartbeat_ttl_s: float = Field(1.4, gt=0, description="How long after its last word a worker counts as alive.")
    heartbeat_late_s: float = Field(
        5.0, gt=0, description="The same for one whose process lives on a machine too busy to let it speak."
    )
    drift: bool = Field(True, description="Keep sketches of what versions answer, to see drift; no images.")
    lease_s: float = Field(30.0, gt=0, description="How long a job stays a worker's own without renewal.")

    log_format: LogFormat = Field("text", description="`text` for people, `json` for machines.")
    log_level: LogLevel = Field("INFO", description="Lowest level that is logged.")

    @property
    def weights(self) -> Path:
        return self.weights_dir or self.data / "weights"

    @property
    def cache(self) -> Path:
        return self.data / "cache"

    @property
    def concurrent_inferences(self) -> int:
        return self.inference_threads or usable_cores()
