"""Reads trained weights from a file or a folder, and writes unlearned ones in the same format.

A server that loaded the old file can load the new one: only the values differ. A file has either PyTorch's names, of
torchvision's ResNet or timm's ViT, or those of the model's Flax tree, such as ``params.backbone.conv1.kernel``;
``names.flax_places`` lists the supported arrangements of that tree.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.serialization
import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from ltu_jax.interop import orbax_folder, pytorch_file
from ltu_jax.interop.names import NOT_WEIGHTS, Place, canonical_names, flax_place, flax_places, num_found, pytorch_place
from ltu_jax.setting import ConfigError
from ltu_jax.types import ArrayTree

SUFFIXES = (".safetensors", *pytorch_file.SUFFIXES, ".msgpack")
SHOWN = 5
_SAFETENSORS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"}
_SAFETENSORS |= {f"{kind[0].upper()}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}


def load_weights(path: Path, template: ArrayTree, field: str = "config.weights") -> ArrayTree:
    """Reads weights into the structure of a model, without running code from the file.

    Args:
      path: ``.safetensors``, ``.pth``, ``.pt``, ``.bin`` or ``.ckpt`` (``torch.save``), ``.msgpack``
        (``flax.serialization``), or a folder (Orbax).
      template: ``{"params": ..., **model_state}`` of arrays or their shapes.
      field: the setting, for messages.

    Returns:
      The tree, NumPy arrays in float32.

    Raises:
      ConfigError: if the file cannot be read, or its tensors or their shapes are not those of the model.
    """
    tensors = _read(path, field)
    shapes: dict[tuple[str, ...], Any] = flax.traverse_util.flatten_dict(template)
    leaves, wrong = {}, []
    for place in _places(path, template, tensors, field):
        tensor, shape = tensors[place.name], tuple(shapes[place.path].shape)
        wanted = place.to_file_layout(np.broadcast_to(np.float32(0), shape)).shape
        whole = wanted if place.third is None else (3 * wanted[0], *wanted[1:])
        if tensor.shape != whole or not jnp.issubdtype(tensor.dtype, jnp.floating):
            wrong.append(f"{place.name} of {tensor.dtype.name} {list(tensor.shape)}, the model {list(whole)}")
        else:
            leaves[place.path] = np.array(place.from_file_layout(place.part_of(tensor), shape), np.float32, order="C")
    if wrong:
        allowed = "floating point in the shapes of config.model"
        raise ConfigError(f"{field}: {str(path)!r} holds {_first(wrong, '; ')}; allowed: {allowed}")
    return flax.traverse_util.unflatten_dict(leaves)


def save_weights(path: Path, target: Path, weights: ArrayTree, field: str = "config.weights") -> None:
    """Writes a copy of a file or folder with new values.

    Args:
      path: a file or folder that ``load_weights`` can read.
      target: the file or folder to write, with the same suffix.
      weights: a tree like that of ``load_weights``; the values are cast to the types in the file.
      field: the setting, for messages.
    """
    tensors, leaves, new = _read(path, field), flax.traverse_util.flatten_dict(weights), {}
    for place in _places(path, weights, tensors, field):
        new[place.name] = tensors[place.name]
        part = place.part_of(new[place.name])
        part[...] = place.to_file_layout(np.asarray(leaves[place.path])).astype(part.dtype)
    if path.is_dir():
        orbax_folder.rewrite(path, target, new, field)
    elif path.suffix == ".msgpack":
        nested = flax.serialization.msgpack_restore(path.read_bytes())
        flat = flax.traverse_util.flatten_dict(nested, keep_empty_nodes=True, sep=".") | new
        target.write_bytes(flax.serialization.msgpack_serialize(flax.traverse_util.unflatten_dict(flat, sep=".")))
    elif path.suffix == ".safetensors":
        _write_safetensors(path, target, new)
    else:
        pytorch_file.rewrite(path, target, new, field)


def _places(path: Path, template: ArrayTree, tensors: Mapping[str, Any], field: str) -> list[Place]:
    """The place of each leaf of the model in the file; refuses a file with other tensors than these."""
    leaves = flax.traverse_util.flatten_dict(template)
    places, called = flax_places(leaves, tensors), {name: name for name in tensors}
    found = num_found(places, called)
    in_pytorch, pytorch_names = [place for leaf in leaves if (place := pytorch_place(leaf))], canonical_names(tensors)
    if len(in_pytorch) == len(leaves) and (not found or num_found(in_pytorch, pytorch_names) > found):
        places, called = in_pytorch, pytorch_names
    elif not found:
        example = flax_place(next(iter(leaves))).name
        raise ConfigError(f"{field}: {str(path)!r} names no tensor of the model; allowed: names like {example!r}")
    if missing := [place.name for place in places if place.name not in called]:
        raise ConfigError(f"{field}: {str(path)!r} lacks {_first(missing)}; allowed: all of config.model's tensors")
    # Floats that are not rewritten would still contain the forgotten data: optimizer moments, averaged weights.
    known = {place.name for place in places}
    others = [name for known_as, name in called.items() if known_as not in known and not name.endswith(NOT_WEIGHTS)]
    if more := [name for name in others if jnp.issubdtype(tensors[name].dtype, jnp.inexact)]:
        raise ConfigError(f"{field}: {str(path)!r} holds {_first(more)}; allowed: config.model's tensors and no others")
    return [place._replace(name=called[place.name]) for place in places]


def _first(items: list[str], separator: str = ", ") -> str:
    """The first of them, and their number if there are several."""
    items = list(dict.fromkeys(items))
    shown = separator.join(items[:SHOWN]) + (" ..." if len(items) > SHOWN else "")
    return shown if len(items) == 1 else f"{len(items)} tensors ({shown})"


def _read(path: Path, field: str) -> dict[str, np.ndarray]:
    """The tensors of a file by name, as writable arrays."""
    if os.path.isdir(path):
        return orbax_folder.read_arrays(path, field)
    if path.suffix not in SUFFIXES:
        allowed = f"{', '.join(SUFFIXES)}, or a folder by Orbax"
        raise ConfigError(f"{field}: {str(path)!r} is of no known kind; allowed: {allowed}")
    if not os.path.isfile(path):  # Path.is_file raises for some invalid paths
        raise ConfigError(f"{field}: {str(path)!r} is not there; allowed: a file")
    if path.suffix in pytorch_file.SUFFIXES:
        return pytorch_file.read_state_dict(path, field)
    try:
        return _read_msgpack(path) if path.suffix == ".msgpack" else _read_safetensors(path)
    except Exception as error:  # each library raises its own types
        why = str(error).strip().splitlines()[:1]
        raise ConfigError(
            f"{field}: {str(path)!r} cannot be read ({type(error).__name__}: {''.join(why)[:160]});"
            f" allowed: a whole {path.suffix} file"
        ) from error


def _read_msgpack(path: Path) -> dict[str, np.ndarray]:
    nested = flax.serialization.msgpack_restore(path.read_bytes())
    flat = flax.traverse_util.flatten_dict(nested, sep=".")
    return {name: np.array(value) for name, value in flat.items()}


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    import safetensors

    out = {}
    for name, tensor in safetensors.deserialize(path.read_bytes()):
        dtype = jnp.dtype(_SAFETENSORS[tensor["dtype"]])
        out[name] = np.frombuffer(bytearray(tensor["data"]), dtype).reshape(tensor["shape"])
    return out


def _write_safetensors(path: Path, target: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Copies the file with new values; the header stays the same."""
    raw = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(raw[:8], "little")
    for name, described in json.loads(raw[8:start]).items():
        if name in tensors:
            first, last = described["data_offsets"]
            raw[start + first : start + last] = tensors[name].tobytes()
    target.write_bytes(raw)
