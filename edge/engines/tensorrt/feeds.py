"""What may be fed, and what comes out: the manifest's tensors held against the engine's."""

from __future__ import annotations

from typing import Any, Dict, Mapping, NoReturn, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.engines.tensorrt.dialect import IoTensor
from edge.errors import EngineError
from edge.manifest import Manifest, TensorSpec

__all__ = ["Shapes"]


class Shapes:
    """The inputs and outputs of one engine, whose batch goes up to `batch_max` where it is open."""

    def __init__(self, manifest: Manifest, tensors: Sequence[IoTensor], batch_max: int) -> None:
        self._inputs, self._outputs = manifest.inputs, manifest.outputs
        self._where = manifest.name
        found = {tensor.name: tensor for tensor in tensors}
        self._check(found, self._inputs, True)
        self._check(found, self._outputs, False)
        extra = set(found) - {spec.name for spec in (*self._inputs, *self._outputs)}
        if extra:
            self._refuse("tensors " + ", ".join(sorted(extra)), "those of the manifest alone")
        self._open = {name for name, tensor in found.items() if tensor.shape[:1] == (-1,)}
        inputs = {spec.name for spec in self._inputs}
        self.batch_max = batch_max if self._open & inputs else 1
        self._dtypes = {name: np.dtype(tensor.dtype) for name, tensor in found.items()}

    @property
    def open_batch(self) -> bool:
        """Whether the batch is open in the engine, if only from 1 to 1."""
        return bool(self._open)

    def batch_of(self, feeds: Mapping[str, NDArray[Any]]) -> int:
        """Frames in these feeds. Raises EngineError unless they are the inputs, all and no more."""
        if set(feeds) != {spec.name for spec in self._inputs}:
            self._misfed(feeds)
        batches = set()
        for spec in self._inputs:
            feed = feeds[spec.name]
            if spec.name not in self._open:
                fits = feed.shape == spec.shape
            else:
                batches.add(feed.shape[0] if feed.ndim else 0)
                fits = feed.shape[1:] == spec.shape[1:]
            if not fits or feed.dtype != np.dtype(spec.dtype):
                self._misfed(feeds)
        if len(batches) > 1 or not all(1 <= batch <= self.batch_max for batch in batches):
            self._misfed(feeds)
        return batches.pop() if batches else 1

    def named(self, outputs: Mapping[str, NDArray[Any]]) -> Dict[str, NDArray[Any]]:
        """The outputs in the manifest's order and types; TensorRT up to 9 gives int32 for int64."""
        return {
            spec.name: outputs[spec.name].astype(spec.dtype, copy=False) for spec in self._outputs
        }

    def samples(self, batch: int) -> Dict[str, NDArray[Any]]:
        """Feeds to warm up with: the same noise every time."""
        rng = np.random.default_rng(0)
        return {
            spec.name: rng.random(self._sized(spec, batch)).astype(spec.dtype)
            for spec in self._inputs
        }

    def _sized(self, spec: TensorSpec, batch: int) -> Tuple[int, ...]:
        return (batch, *spec.shape[1:]) if spec.name in self._open else spec.shape

    def _check(
        self, found: Mapping[str, IoTensor], specs: Sequence[TensorSpec], is_input: bool
    ) -> None:
        for spec in specs:
            tensor = found.get(spec.name)
            if tensor is None or tensor.is_input is not is_input:
                kind = "input" if is_input else "output"
                self._refuse(f"no {kind} {spec.name!r} in the engine", f"{kind} {spec.name!r}")
            shape = (*spec.shape[:1], *tensor.shape[1:]) if tensor.shape[:1] == (-1,) else (
                tensor.shape
            )  # fmt: skip
            if shape != spec.shape or np.dtype(tensor.dtype).kind != np.dtype(spec.dtype).kind:
                self._refuse(
                    f"{spec.name} {tensor.dtype} {tensor.shape} in the engine",
                    f"{spec.dtype} {spec.shape}, as the manifest says",
                )

    def _refuse(self, found: str, expected: str) -> NoReturn:
        raise EngineError(self._where, found=found, expected=expected,
                          cure="compress the model again")  # fmt: skip

    def _misfed(self, feeds: Mapping[str, NDArray[Any]]) -> NoReturn:
        found = ", ".join(f"{name} {feed.dtype} {feed.shape}" for name, feed in feeds.items())
        batch = f", batch 1 to {self.batch_max}" if self._open else ""
        raise EngineError(
            self._where,
            found=f"feeds {found or 'none'}",
            expected=", ".join(f"{s.name} {s.dtype} {s.shape}" for s in self._inputs) + batch,
            cure="feed what the manifest's inputs say",
        )
