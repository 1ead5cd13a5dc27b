"""Outputs of a network, in whatever structure: their shapes, and how far apart two of them are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

__all__ = ["difference", "leading", "outline"]


def difference(wanted: object, found: object) -> float:
    """Largest absolute difference, relative to the largest wanted value of the same output.

    Infinite when structure, shapes or finiteness differ.
    """
    import torch

    if outline(wanted) != outline(found):
        return float("inf")
    worst = 0.0
    for (_, a), (_, b) in zip(_leaves(wanted), _leaves(found), strict=True):
        if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
            worst = max(worst, 0.0 if a == b else float("inf"))
            continue
        if not torch.equal(torch.isfinite(a), torch.isfinite(b)):
            return float("inf")
        a, b = (torch.nan_to_num(side.detach().double(), 0.0, 0.0, 0.0) for side in (a, b))
        if a.numel():
            worst = max(worst, float((a - b).abs().max() / a.abs().max().clamp_min(1e-12)))
    return worst


def outline(outputs: object) -> str:
    """Structure and shapes, to compare and to show.

    >>> outline({"a": [1, (2,)]})
    'a.0: int, a.1.0: int'
    """
    import torch

    return ", ".join(
        f"{path}: " + ("x".join(map(str, leaf.shape)) if isinstance(leaf, torch.Tensor)
                       else type(leaf).__name__)
        for path, leaf in _leaves(outputs)
    )  # fmt: skip


def leading(outputs: object) -> list[int]:
    """The first size of every tensor, 0 of one without axes."""
    import torch

    tensors = (leaf for _, leaf in _leaves(outputs) if isinstance(leaf, torch.Tensor))
    return [len(tensor) if tensor.ndim else 0 for tensor in tensors]


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        items: list[tuple[object, object]] = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    else:
        yield path or "output", value
        return
    for key, item in items:
        yield from _leaves(item, f"{path}.{key}" if path else str(key))
