"""What a model file is, by its first bytes: names and content types are the sender's."""

from typing import Literal

FileKind = Literal["onnx", "pth", "safetensors"]

# Enough to tell each kind, and what is often sent instead.
BEGIN_BYTES = 16
ONNX: FileKind = "onnx"
# What the manifest of a version from an ONNX file has as its architecture: its code is known to nobody here.
ONNX_ARCHITECTURE = "onnx"
# What such a version, or one of a checkpoint, has as its weights.
UPLOADED = "uploaded"

# A message begins with one of the model's fields: ir_version, opset_import, producer_name, graph and the like.
_ONNX_BEGINS = b"\x08\x12\x1a\x22\x2a\x32\x3a\x42\x72"
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"\x89HDF", "an HDF5 file, as Keras writes it; export it with tf2onnx, and send the ONNX file"),
    (b"\x1f\x8b", "compressed by gzip; send the file itself"),
    (b"\xff\xd8\xff", "a JPEG"),
    (b"\x89PNG", "a PNG"),
    (b"--", "a form in a form"),
    (b"{", "JSON"),
)
EXPECTED = "an ONNX file, or a checkpoint of tensors alone: .safetensors, or .pth as torch.save writes it"


def kind_of(begin: bytes) -> FileKind | None:
    """None for what is no model file. A whole check comes later, by who reads it."""
    if begin.startswith(b"PK\x03\x04") or begin.startswith(_PICKLES):
        return "pth"
    if len(begin) > 8 and begin[8:9] == b"{" and int.from_bytes(begin[:8], "little") < 2**32:
        return "safetensors"
    if not any(begin.startswith(other) for other, _ in _OTHERS) and begin[:1] and begin[0] in _ONNX_BEGINS:
        return ONNX
    return None


def no_weights_of_a_graph(version: str) -> str:
    """Why nothing can be learnt on from a version of an ONNX file, and what to do."""
    return (
        f"{version} was uploaded as an ONNX file, which can be served but not trained any further: upload the "
        "checkpoint that it was exported from, and learn on from that version"
    )


def no_model(begin: bytes) -> str:
    """What the file is instead, and what was expected."""
    known = next((what for other, what in _OTHERS if begin.startswith(other)), None)
    said = f"it is {known}" if known else f"it begins with {begin[:4]!r}"
    return f"{said}; expected {EXPECTED}"
