"""Calibration inputs that are no pictures: an `.npz` with one array for each input of a model.

The first axis of each array counts samples: for an input (1, 3, 8, 8) an array is (N, 3, 8, 8), or
(N, 1, 3, 8, 8). Values go in as they are; nothing is scaled, and a type is changed only where no
value changes with it (float64 to float32 rounds, which calibration does not see).

ArraysError (a JetpressError)   a file that is no .npz, or whose arrays do not fit the model
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.samples import Fed
from compress.scene import spaced
from devices.errors import JetpressError, nearest
from edge.bundle import TensorSpec
from edge.golden import FEEDS_BYTES_MAX
from edge.goldeninputs import GoldenInputs
from edge.manifest import Manifest

__all__ = ["ArraySamples", "ArraysError", "samples_from_npz"]

_DAMAGE = (OSError, ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile,
           zlib.error)  # fmt: skip  # what NumPy and zipfile raise for bytes that are no .npz


class ArraysError(JetpressError):
    """A file that is no .npz, or whose arrays do not fit the model."""


@dataclass(frozen=True, kw_only=True)
class ArraySamples:
    """`arrays`: input name -> (N, ...); `shapes`: what the model takes of one sample.

    `name` is the file's, `numbers` are the places in it; empty: all of them.
    """

    arrays: Mapping[str, NDArray[Any]]
    shapes: Mapping[str, tuple[int, ...]]
    name: str = ""
    numbers: tuple[int, ...] = ()
    words: str = "samples"

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    @cached_property
    def sha256(self) -> str:
        """Identity of names, shapes, types and values."""
        digest = hashlib.sha256()
        for name, array in sorted(self.arrays.items()):
            digest.update(repr((name, array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def sample(self, index: int) -> dict[str, NDArray[Any]]:
        """Input name -> array of the model's own shape."""
        return {
            name: np.ascontiguousarray(array[index]).reshape(self.shapes[name])
            for name, array in self.arrays.items()
        }

    def at(self, chosen: Sequence[int]) -> ArraySamples:
        """These of them, in this order."""
        numbers = self.numbers or range(len(self))
        return replace(
            self,
            arrays={name: array[list(chosen)] for name, array in self.arrays.items()},
            numbers=tuple(numbers[index] for index in chosen),
        )

    def spread(self, count: int) -> ArraySamples:
        return self if count >= len(self) else self.at(spaced(len(self), count))

    def fed(self, manifest: Manifest) -> Iterator[Fed]:
        pixels = manifest.preprocess
        hw = (1, 1) if pixels is None else (pixels.height, pixels.width)
        for index in range(len(self)):
            yield Fed(self.sample(index), hw)

    def golden(self, manifest: Manifest, count: int) -> GoldenInputs:
        size = sum(array[:1].nbytes for array in self.arrays.values())
        shown = self.spread(max(1, min(count, FEEDS_BYTES_MAX // max(size, 1))))
        rows = [shown.sample(index) for index in range(len(shown))]
        numbers = " and ".join(map(str, shown.numbers or range(len(shown))))
        return GoldenInputs(
            origin=f"sample{'s' if len(rows) > 1 else ''} {numbers} of {self.name or 'arrays'}",
            feeds={name: np.stack([row[name] for row in rows]) for name in self.arrays},
        )


def samples_from_npz(path: Path, inputs: Sequence[TensorSpec]) -> ArraySamples:
    """Read the file and hold it against the model's inputs. Raises ArraysError."""
    arrays = _read(path)
    names = tuple(spec.name for spec in inputs)
    for name in arrays:
        if name not in names:
            raise ArraysError(f"{path}: {name!r}", found="no input of that name",
                              expected=f"one array for each of {', '.join(names)}",
                              cure=nearest(name, names))  # fmt: skip
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ArraysError(str(path), found=f"no array named {missing[0]!r}",
                          expected=f"one array for each of {', '.join(names)}",
                          cure="add it: numpy.savez(path, name=array, ...)")  # fmt: skip
    fitted = {spec.name: _fitted(path, spec, arrays[spec.name]) for spec in inputs}
    counts = {name: len(array) for name, array in fitted.items()}
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise ArraysError(str(path), found=shown, expected="as many samples of each input",
                          cure="the first axis counts samples: make it equal")  # fmt: skip
    if not min(counts.values(), default=0):
        raise ArraysError(str(path), found="no samples", expected="one or more on the first axis",
                          cure="put what the model will be fed into it")  # fmt: skip
    shapes = {spec.name: tuple(spec.shape) for spec in inputs}
    return ArraySamples(arrays=fitted, shapes=shapes, name=path.name)


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        if not path.is_file():
            found = "no plain file" if path.exists() else "no such file"
            raise ArraysError(str(path), found=found, expected="an .npz file",
                              cure="check the path")  # fmt: skip
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.lib.npyio.NpzFile):
                return {name: loaded[name] for name in loaded.files}
    except _DAMAGE as error:
        words = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise ArraysError(
            str(path),
            found=words[:200],
            expected="an .npz of plain arrays",
            cure="write it with numpy.savez(path, name=array)",
        ) from error
    raise ArraysError(str(path), found="one array without a name",
                      expected="an .npz with one array for each input",
                      cure="write it with numpy.savez(path, name=array)")  # fmt: skip


def _fitted(path: Path, spec: TensorSpec, array: NDArray[Any]) -> NDArray[Any]:
    """The array in the input's type."""
    where, shape = f"{path}: {spec.name!r}", tuple(spec.shape)
    takes = [shape, shape[1:]] if shape[:1] == (1,) else [shape]
    if array.ndim == 0 or array.shape[1:] not in takes:
        wanted = ", ".join(["N", *map(str, takes[-1])])
        raise ArraysError(where, found=f"the shape {list(array.shape)}",
                          expected=f"[{wanted}], the first axis counts samples",
                          cure="write the arrays as the model takes them")  # fmt: skip
    dtype = np.dtype(spec.dtype)
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise _type_fault(where, f"{array.dtype} values", dtype)
    with np.errstate(over="ignore"):  # what FP32 cannot hold becomes infinite, refused below
        cast = array.astype(dtype, copy=False)
    if dtype.kind in "iu" and not np.array_equal(cast, array):
        raise _type_fault(where, f"values that {dtype} cannot hold", dtype)
    if dtype.kind == "f" and not np.isfinite(cast).all():
        raise ArraysError(where, found="values that are not finite", expected="finite numbers",
                          cure="leave such samples out")  # fmt: skip
    return cast


def _type_fault(where: str, found: str, dtype: np.dtype[Any]) -> ArraysError:
    return ArraysError(where, found=found, expected=f"{dtype}", cure=f"write it as numpy.{dtype}")
