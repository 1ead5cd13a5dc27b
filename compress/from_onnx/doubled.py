"""Which axis of a value grows with the batch: the graph again, in shapes only, at twice the batch.

Exporters write the batch as a literal wherever a shape does. A channel shuffle moves it away from
the front and merges it with channels; so it is followed, not assumed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import fx, nn

__all__ = ["Doubled"]

# what torch raises where a literal no longer fits, or where values and not shapes are asked for
_NO_FIT = (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError)


class Doubled:
    """Shapes at twice the batch, as tensors without values; it lives for one conversion."""

    def __init__(self) -> None:
        self._values: dict[fx.Node, Any] = {}  # a tensor, several, or None where it is not known

    def start(self, node: fx.Node, value: torch.Tensor) -> None:
        """An input, whose first axis is the batch."""
        import torch

        shape = list(value.shape)
        shape[:1] = [2 * size for size in shape[:1]]
        self._values[node] = torch.empty(shape, dtype=value.dtype, device="meta")

    def stored(self, node: fx.Node, value: torch.Tensor) -> None:
        """A weight or constant, which has no batch."""
        self._values[node] = value.detach().to("meta")

    def call(self, node: fx.Node, function: Callable[..., Any]) -> None:
        """What the function gives."""
        self._values[node] = self._made(node, function)

    def call_layer(self, node: fx.Node, layer: nn.Module) -> None:
        """What the layer gives."""
        from torch.func import functional_call

        tensors = {name: value.to("meta") for name, value in layer.state_dict().items()}
        self._values[node] = self._made(node, lambda *x: functional_call(layer, tensors, x))

    def _made(self, node: fx.Node, function: Callable[..., Any]) -> Any:  # noqa: ANN401 - see above
        from torch import fx

        if any(self._values[item] is None for item in node.all_input_nodes):
            return None
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self._values.__getitem__)
        try:
            return function(*args, **kwargs)
        except _NO_FIT:
            return None

    def batch_axis(self, node: fx.Node, shape: tuple[int, ...]) -> int | None:
        """The one axis that is twice as long as in `shape`."""
        wide = getattr(self._values[node], "shape", None)
        if wide is None or len(wide) != len(shape):
            return None
        grown = [axis for axis, (a, b) in enumerate(zip(shape, wide, strict=True)) if a != b]
        return grown[0] if len(grown) == 1 and wide[grown[0]] == 2 * shape[grown[0]] else None
