"""What lies in a Hugging Face folder: its configuration and where every tensor's bytes are, without loading any.

Every exporter begins here, so that a folder that can't work is refused before an environment is built or a byte is
written. Reads JSON and safetensors headers only. Standard library only.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import EdgeError
from edge.records import Json, PathLike, read_json

ELEMENT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
                 "F8_E4M3": 1, "F8_E5M2": 1}  # fmt: skip
FLOATS = ("F32", "F16", "BF16")  # what a checkpoint for export may hold
_MAX_HEADER = 100 << 20  # the format's own limit
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Tensor:
    """Where one tensor lies. shape: outermost first, as PyTorch says it; offset: in bytes from the file's start."""

    name: str
    dtype: str  # a safetensors word: "BF16"
    shape: tuple[int, ...]
    file: Path
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Folder:
    """A checkpoint that can be read: one `config.json`, and safetensors that are whole."""

    path: Path
    config: Json
    tensors: dict[str, Tensor]

    @property
    def parameters(self) -> int:
        return sum(math.prod(t.shape) for t in self.tensors.values())

    def json(self, name: str) -> Json:
        """A JSON file of the folder, {} if there is none. Raises EdgeError if it is not a JSON object."""
        file = self.path / name
        return _object(file) if file.is_file() else {}

    def text(self, name: str) -> str | None:
        """A UTF-8 file of the folder, None if there is none."""
        file = self.path / name
        try:
            return file.read_text(encoding="utf-8") if file.is_file() else None
        except UnicodeDecodeError as error:
            raise EdgeError(f"{file}: not UTF-8 (byte {error.start})") from None


def inspect(path: PathLike) -> Folder:
    """Look at a checkpoint.

    Raises: EdgeError naming the file and the remedy, for a folder that is none, an adapter that was not merged, a
    quantised checkpoint, weights in another format, a missing or cut-off file.
    """
    folder = Path(path).absolute()
    if not folder.is_dir():
        raise EdgeError(f"{folder}: no such folder", "give the folder that holds config.json and the safetensors")
    _refuse_adapter(folder)
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise EdgeError(f"{folder}: no config.json, so this is not a Hugging Face checkpoint", _what_else(folder))
    config = _object(config_file)
    _refuse_quantised(config, config_file)
    return Folder(folder, config, _tensors(folder))


def read_header(file: Path) -> dict[str, Tensor]:
    """The tensors of one safetensors file.

    Raises EdgeError for a file that is cut off, or is none.
    """
    size = file.stat().st_size
    with file.open("rb") as f:
        start = f.read(8)
        if start.startswith(b"version "):  # what `git clone` leaves without git-lfs
            raise EdgeError(f"{file}: a Git LFS pointer, not the weights", "run `git lfs pull` in the folder")
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= _MAX_HEADER:
            raise EdgeError(f"{file}: not a safetensors file ({size} bytes, no header)", "download or save it again")
        header = f.read(length)
    if len(header) < length:
        raise _cut_off(file, 8 + length, size)
    return _check_extent(file, size, 8 + length, _parse_header(file, header))


def _parse_header(file: Path, header: bytes) -> Json:
    try:
        table = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise EdgeError(f"{file}: the safetensors header is not JSON: {error}", "download or save it again") from None
    if not isinstance(table, dict):
        raise EdgeError(f"{file}: the safetensors header is not an object", "download or save it again")
    table.pop("__metadata__", None)
    return table


def _check_extent(file: Path, size: int, start: int, table: Json) -> dict[str, Tensor]:
    tensors = {name: _tensor(file, name, entry, start) for name, entry in table.items()}
    end = max((t.offset + t.nbytes for t in tensors.values()), default=start)
    if size < end:
        raise _cut_off(file, end, size)
    return tensors


def _tensor(file: Path, name: str, entry: Any, start: int) -> Tensor:
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(map(int, entry["shape"])), entry["data_offsets"]
        tensor = Tensor(name, dtype, shape, file, start + begin, end - begin)
    except (KeyError, TypeError, ValueError):
        raise EdgeError(f"{file}: the header's entry for {name} can't be read: {entry!r}") from None
    expected = math.prod(shape) * ELEMENT_BYTES.get(dtype, 0)
    if dtype in ELEMENT_BYTES and (tensor.nbytes != expected or begin < 0):
        raise EdgeError(
            f"{file}: {name} is {dtype} {list(shape)}, {expected} bytes, but the header gives it {tensor.nbytes}"
        )
    return tensor


def _tensors(folder: Path) -> dict[str, Tensor]:
    index = folder / _INDEX
    if index.is_file():
        return _sharded(folder, index)
    single = folder / "model.safetensors"
    if single.is_file():
        return read_header(single)
    raise EdgeError(f"{folder}: no model.safetensors and no {_INDEX}", _what_else(folder))


def _sharded(folder: Path, index: Path) -> dict[str, Tensor]:
    where = _object(index).get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(v, str) for v in where.values()):
        raise EdgeError(f"{index}: no weight_map from tensors to files", "download or save it again")
    shards = sorted(set(where.values()))
    absent = [s for s in shards if not (folder / s).is_file()]
    if absent:
        raise EdgeError(f"{folder}: {len(absent)} of {len(shards)} shards are missing: {', '.join(absent)}",
                        "download the missing files; the index names them all")  # fmt: skip
    found: dict[str, Tensor] = {}
    for shard in shards:
        found.update(read_header(folder / shard))
    lost = sorted(name for name in where if name not in found)
    if lost:
        first = f"{lost[0]} (expected in {where[lost[0]]})"
        raise EdgeError(f"{index}: {len(lost)} tensors are in none of the shards, first {first}",
                        "download or save the checkpoint again")  # fmt: skip
    return found


def _refuse_adapter(folder: Path) -> None:
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        base = _object(folder / "adapter_config.json").get("base_model_name_or_path") or "its base model"
        raise EdgeError(
            f"{folder}: an adapter (adapter_config.json), not a model: it holds only what was added to {base}",
            "merge it first: edge merge ADAPTER --base FOLDER --out MODEL",
        )


def _refuse_quantised(config: Json, file: Path) -> None:
    method = config.get("quantization_config")
    if method is not None:
        word = method.get("quant_method", "unknown") if isinstance(method, dict) else method
        raise EdgeError(f"{file}: the checkpoint is quantised already (quantization_config: {word})",
                        "export from the checkpoint in bfloat16 or float32; quantising twice loses twice")  # fmt: skip


def _what_else(folder: Path) -> str:
    """What this folder seems to be instead, as advice."""
    names = sorted(f.name for f in folder.iterdir())
    for suffix, advice in _OTHERWISE.items():
        if any(n.endswith(suffix) for n in names):
            return advice
    below = sorted(f.parent.name for f in folder.glob("*/config.json"))
    if below:
        return f"a checkpoint lies one level down: {folder / below[0]}"
    return "give the folder that `save_pretrained` wrote, or a complete download"


_OTHERWISE = {
    "adapter_model.safetensors": "this is an adapter: merge it into its base model first",
    ".gguf": "there is a GGUF file: it is exported already, and can't be exported again",
    "pytorch_model.bin": "these are pickled weights, which run code when read: "
    "load them with transformers and `save_pretrained(…)` to get safetensors",
    ".pt": "these are pickled weights: load them where they were made and `save_pretrained(…)` to get safetensors",
}


def _object(file: Path) -> Json:
    value = read_json(file)
    if not isinstance(value, dict):
        raise EdgeError(f"{file}: not a JSON object")
    return value


def _cut_off(file: Path, needed: int, size: int) -> EdgeError:
    return EdgeError(
        f"{file}: cut off: its header says {needed:,} bytes, the file has {size:,}", "download or copy it again"
    )
