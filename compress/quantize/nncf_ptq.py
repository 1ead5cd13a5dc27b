"""Calibrate with NNCF's public recipe; what it returns is not yet what TensorRT should get.

The recipe, and why each setting is what it is (all public API of NNCF 3.4):

- `per_channel=False` for activations: TensorRT takes one scale per activation tensor;
- `OverflowFix.DISABLE`: the default halves the first layer's weight range for an AVX2 flaw;
- `COMPRESS_WEIGHTS: False`: FP32 -> Q -> DQ weights, the one form every TensorRT takes;
- fast bias correction: the full one fails on residual nets in the ONNX backend;
- the PERFORMANCE preset (default): symmetric, so no zero point other than 0.

Signed activations cannot be asked for through NNCF's public options; `rewrites/symmetric.py` makes
them. NNCF sends usage events unless `NNCF_CI` is set when it is imported; it is set here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compress.quantize.errors import QuantizeError
from devices.errors import MissingExtraError

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["ESTIMATOR", "calibrate", "check_request"]

ESTIMATOR = "mean-minmax"  # NNCF's default: the mean over frames of each frame's extremes


def calibrate(
    model: ModelProto,
    feeds: Iterable[Mapping[str, NDArray[np.float32]]],
    keep_float: tuple[str, ...] = (),
    on_frame: Callable[[], None] | None = None,
) -> ModelProto:
    """`model` with Q/DQ where NNCF puts them; ranges from every item of `feeds`.

    `keep_float` names nodes that stay float. `feeds` is read once; an item maps each input to an
    array of its shape; `on_frame` is called as each is used for the first time. Raises
    QuantizeError for no feeds or unknown names.
    """
    items = list(feeds)
    check_request(model, items, keep_float)
    nncf, quantization, backend = _nncf()
    settings = quantization.AdvancedQuantizationParameters(
        overflow_fix=quantization.OverflowFix.DISABLE,
        activations_quantization_params=quantization.QuantizationParameters(per_channel=False),
        backend_params={backend.BackendParameters.COMPRESS_WEIGHTS: False},
    )
    scope = nncf.IgnoredScope(names=list(keep_float)) if keep_float else None
    with _quiet(nncf):
        return nncf.quantize(
            model,
            nncf.Dataset(items, _transform(len(items), on_frame)),
            subset_size=len(items),
            ignored_scope=scope,
            fast_bias_correction=True,
            advanced_parameters=settings,
        )


def _transform(
    count: int, on_frame: Callable[[], None] | None
) -> Callable[[Mapping[str, NDArray[np.float32]]], Mapping[str, NDArray[np.float32]]]:
    """What NNCF calls for each frame it takes; bias correction takes some a second time."""
    left = [count]

    def transform(item: Mapping[str, NDArray[np.float32]]) -> Mapping[str, NDArray[np.float32]]:
        if on_frame is not None and left[0]:
            left[0] -= 1
            on_frame()
        return item

    return transform


def check_request(
    model: ModelProto, items: list[Mapping[str, NDArray[np.float32]]], keep_float: tuple[str, ...]
) -> None:
    """Raise QuantizeError for no frames, frames that do not fit the inputs, or unknown names."""
    if not items:
        raise QuantizeError(
            "calibration",
            found="no frames",
            expected="at least one; a few hundred that look like the camera's",
            cure="pass --data with a folder of images or a video",
        )
    _check_names(model, keep_float)
    _check_feeds(model, items)


def _nncf() -> tuple[Any, Any, Any]:
    """NNCF and the two of its modules that the recipe names, with telemetry off."""
    os.environ["NNCF_CI"] = "1"  # set for the import; NNCF offers no other switch
    try:
        import nncf
        from nncf.onnx.quantization import backend_parameters
        from nncf.quantization import advanced_parameters
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            error.name or "nncf", extra="compress", needed_for="INT8 calibration"
        ) from error
    return nncf, advanced_parameters, backend_parameters


@contextmanager
def _quiet(nncf: Any) -> Iterator[None]:  # noqa: ANN401  # a module without types
    """NNCF's log at errors only and its bars, on rich's global console, off while inside."""
    import rich

    nncf.set_log_level(logging.ERROR)
    console = rich.get_console()
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


def _check_names(model: ModelProto, names: tuple[str, ...]) -> None:
    from devices.errors import nearest

    known = tuple(node.name for node in model.graph.node if node.name)
    for name in names:
        if name not in known:
            raise QuantizeError(
                f"keep_float {name!r}",
                found="no node of that name",
                expected="the name of a node in the ONNX graph",
                cure=nearest(name, known) if len(known) < 20 else _close(name, known),
            )


def _close(name: str, known: tuple[str, ...]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(known[:3])
    return f"{len(known)} nodes, such as {', '.join(close)}"


def _check_feeds(model: ModelProto, items: list[Mapping[str, NDArray[np.float32]]]) -> None:
    constants = {tensor.name for tensor in model.graph.initializer}
    wanted = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in model.graph.input
        if value.name not in constants
    }
    for index, item in enumerate(items):
        found = {name: tuple(array.shape) for name, array in item.items()}
        if found != wanted:
            raise QuantizeError(
                f"calibration frame {index}",
                found=f"arrays {found}",
                expected=f"{wanted}",
                cure="use the preprocessing the model was exported with",
            )
        if not all(np.isfinite(array).all() for array in item.values()):
            raise QuantizeError(
                f"calibration frame {index}",
                found="values that are not finite",
                expected="finite pixels",
                cure="check the preprocessing's mean and std",
            )
