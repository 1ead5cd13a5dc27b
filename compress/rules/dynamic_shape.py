"""An input whose shape is open needs an optimization profile."""

from __future__ import annotations

from collections.abc import Iterator

from compress.rules.finding import Place, Rule, Subject

__all__ = ["RULE"]

_BATCH = "fix it to 1; `edge build` can also be told which batches to build for"


def _find(subject: Subject) -> Iterator[Place]:
    for value in subject.model.graph.input:
        shape = value.type.tensor_type.shape.dim
        if value.name in subject.graph.initializers:
            continue
        is_open = [index for index, dim in enumerate(shape) if dim.dim_value < 1]
        if is_open:
            cure = _BATCH if is_open == [0] else None
            text = "x".join(str(dim.dim_value or dim.dim_param or "?") for dim in shape)
            yield Place(value.name, f"an input whose shape is not fixed ({text})", cure)


RULE = Rule(
    name="dynamic-shape",
    severity="error",
    looks_at="the shape of each graph input",
    source='TensorRT-RTX\'s builder, run: "no optimization profile has been defined"',
    consequence="without an optimization profile the build fails; DLA takes no open size at all",
    cure="export with fixed sizes, batch 1",
    find=_find,
    nvidia_says="optimization profile",
)
