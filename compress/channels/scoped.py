"""A traced net in which every operation is a module of its own, so that an export names it.

torch's exporter calls each ONNX node after the modules it is in: `/at_conv2d_3/.../Conv` is then of
node `conv2d_3` of the graph, whatever the operation was turned into.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import fx, nn

__all__ = ["SCOPE", "operation_of", "readable_names", "scoped"]

SCOPE = "at_"


def operation_of(onnx_name: str) -> str:
    """The graph's node that an ONNX node came from; "" when it is of none.

    >>> operation_of("/at_conv2d_3/cv1.0/Conv"), operation_of("Identity_4")
    ('conv2d_3', '')
    """
    first = onnx_name.strip("/").partition("/")[0]
    return first[len(SCOPE) :] if first.startswith(SCOPE) else ""


def readable_names(module: fx.GraphModule) -> dict[str, str]:
    """Operation -> the path of the layer that does it, or its own name where there is none.

    A layer that is called again gets a number. Paths are slashed, as the exporter writes them.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for node in module.graph.nodes:
        layer = node.op == "call_module"
        name = str(node.target).replace(".", "/") if layer else node.name
        while name in taken:
            name = f"{name}_{node.name}"
        taken.add(name)
        names[node.name] = name
    return names


def scoped(module: fx.GraphModule) -> nn.Module:
    """A module that runs `module`, node by node; it shares its tensors."""
    from torch import nn

    class Operation(nn.Module):
        def __init__(self, run: object) -> None:
            super().__init__()
            self._run = [run]  # in a list, so that a layer keeps its one place in the tree

        def forward(self, *args: object, **kwargs: object) -> object:
            return self._run[0](*args, **kwargs)  # type: ignore[operator]  # a layer or operator

    class Scoped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = module
            for node in module.graph.nodes:
                if node.op == "call_module":
                    self.add_module(SCOPE + node.name, Operation(module.get_submodule(node.target)))
                elif node.op == "call_function":
                    self.add_module(SCOPE + node.name, Operation(node.target))

        def forward(self, *inputs: object) -> object:
            return _run(self.net, dict(self.named_children()), inputs)

    return Scoped().eval()


def _run(
    net: fx.GraphModule, operations: Mapping[str, nn.Module], inputs: tuple[object, ...]
) -> object:
    from torch import fx

    class Running(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            operation = operations.get(SCOPE + n.name)
            if operation is None:
                return super().run_node(n)
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            if "lift_fresh_copy" in str(n.target):  # of a constant; ONNX has no such thing
                return args[0]
            return operation(*args, **kwargs)

    return Running(net).run(*inputs)
