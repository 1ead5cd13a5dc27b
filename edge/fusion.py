"""Groups the nodes of a Graph into the kernels TensorRT would run.

The rules, each after what TensorRT's builder reports of real engines:

* A convolution or matrix product takes everything pointwise behind it into its epilogue: batch
  norm, any activation (also those spelled with several nodes), and one residual add of a tensor
  that exists by then. It has one output: a chain is taken only up to where one tensor is left.
* Pointwise chains become one kernel.
* Q/DQ costs nothing where the producer can write int8; a tensor wanted both ways is converted once.
* A concat costs nothing for every input that can be written in place; the others are copied.
* Reshapes are views; transposes, gathers and strided slices are copies.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Set, Tuple

import msgspec

from edge.graph import Graph, Node, Views, elements, views_of

__all__ = ["FUSED_OPS", "Group", "Plan", "plan"]

_CLASSES = {  # kernel class: the ONNX operations that become it
    "conv": "Conv",
    "deconv": "ConvTranspose",
    "gemm": "Gemm MatMul",
    "attention": "Einsum Attention",
    "resize": "Resize Upsample",
    "softmax": "Softmax LogSoftmax Hardmax",
    "norm": "LayerNormalization InstanceNormalization GroupNormalization LRN LpNormalization "
    "MeanVarianceNormalization RMSNormalization",
    "pool": "MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool ReduceMean "
    "ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSumExp ReduceSumSquare "
    "ReduceLogSum ArgMax ArgMin",
    "copy": "Transpose Slice Split Gather GatherND GatherElements ScatterND ScatterElements "
    "Scatter Expand Tile Pad DepthToSpace SpaceToDepth Concat ReverseSequence Trilu Range EyeLike "
    "ConstantOfShape",
    "nms": "TopK NonMaxSuppression NonZero EfficientNMS_TRT EfficientNMS_ONNX_TRT BatchedNMS_TRT "
    "BatchedNMSDynamic_TRT",
    "pointwise": "Relu LeakyRelu PRelu Clip Sigmoid HardSigmoid HardSwish Tanh Elu Selu Celu Gelu "
    "Mish Swish Softplus Softsign ThresholdedRelu Erf Exp Log Sqrt Reciprocal Neg Abs Sign Floor "
    "Ceil Round Sin Cos Tan Not IsNaN IsInf Add Sub Mul Div Pow Min Max Sum Mean Mod And Or Xor "
    "Equal Greater GreaterOrEqual Less LessOrEqual Where BatchNormalization",
    "other": "LSTM GRU RNN GridSample RoiAlign DeformConv CumSum OneHot",
}
FUSED_OPS: Dict[str, str] = {op: kind for kind, ops in _CLASSES.items() for op in ops.split()}
_WITH_EPILOGUE = ("conv", "deconv", "gemm", "attention")
_CHAIN_LIMIT = 12  # longest activation spelled in nodes: GELU by tanh has 9


class Group(msgspec.Struct, kw_only=True):
    """Nodes that become one kernel; `out` is the tensor left at the end (a root)."""

    op: str
    nodes: List[Node]
    out: str
    reads: List[str]  # tensors from outside, as the node names them
    copies: int = 0  # elements a concat still has to move
    reformat: bool = False  # reads float, writes int8
    writes_int8: bool = False  # everything that reads `out` does so through Q/DQ

    @property
    def anchor(self) -> Node:
        """The node that gave the group its kind."""
        return self.nodes[0]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The groups in running order, the views, and which tensors share storage with a concat."""

    groups: Tuple[Group, ...]
    views: Views
    storage: Dict[str, str]  # root -> the root that owns its bytes


class _Fuser:
    """State of one grouping, from the first node to the last."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.views = views_of(graph)
        self.order = {node.outputs[0]: i for i, node in enumerate(self.views.nodes)}
        self.users: Dict[str, List[Node]] = {}
        for node in self.views.nodes:
            for root in {self.views.root[name] for name in graph.data_inputs(node)}:
                self.users.setdefault(root, []).append(node)
        self.done: Set[str] = set()  # first output of every node that is in a group
        self.ready: Set[str] = set(graph.inputs)  # roots that exist by now
        self.placed: Set[str] = set()  # roots already written in place into some concat
        self.storage: Dict[str, str] = {}
        self.groups: List[Group] = []

    def run(self) -> Plan:
        for name in self.graph.inputs:
            self._convert(name)
        for node in self.views.nodes:
            if node.outputs[0] not in self.done:
                self._start(node)
        return Plan(groups=tuple(self.groups), views=self.views, storage=self.storage)

    def _start(self, node: Node) -> None:
        if node.op == "Concat":
            self._concat(node)
            return
        op = FUSED_OPS.get(node.op, "other")
        group = Group(op=op, nodes=[], out=node.outputs[0], reads=[])
        self._take(group, node)
        if op in (*_WITH_EPILOGUE, "pointwise", "norm"):
            self._grow(group)
        group.writes_int8 = self.wanted(group.out) == {True}
        self.groups.append(group)
        self.ready.update(name for member in group.nodes for name in member.outputs)
        self._convert(group.out)

    def _take(self, group: Group, node: Node) -> None:
        inside = {name for member in group.nodes for name in member.outputs}
        for name in self.graph.data_inputs(node):
            if self.views.root[name] not in inside and name not in group.reads:
                group.reads.append(name)
        group.nodes.append(node)
        group.out = node.outputs[0]
        self.done.add(node.outputs[0])

    def _grow(self, group: Group) -> None:
        while True:
            chain = self._chain(group)
            if not chain:
                return
            for node in chain:
                self._take(group, node)

    def _chain(self, group: Group) -> List[Node]:
        """The next nodes that can join and leave one tensor behind; empty when there are none."""
        inside = {name for member in group.nodes for name in member.outputs}
        borrowed = self._borrowed(group)
        chain: List[Node] = []
        open_roots = [group.out]
        while len(chain) < _CHAIN_LIMIT:
            if any(root in self.views.outputs for root in open_roots):
                return []
            node = self._first_user(open_roots, chain)
            if node is None or not self._fits(node, group, inside):
                return []
            outside = [r for r in self._roots(node) if r not in inside]
            borrowed += len(outside)
            if (
                group.op in _WITH_EPILOGUE
                and outside
                and (borrowed > 1 or node.op not in ("Add", "Sum"))
            ):
                return []
            chain.append(node)
            inside.add(node.outputs[0])
            open_roots = [r for r in (*open_roots, node.outputs[0]) if self._is_open(r, chain)]
            if open_roots in ([node.outputs[0]], []):
                return chain
        return []

    def _borrowed(self, group: Group) -> int:
        """How many tensors the epilogue already reads beside the anchor's own inputs."""
        return len(group.reads) - len(set(self.graph.data_inputs(group.anchor)))

    def _roots(self, node: Node) -> List[str]:
        return sorted({self.views.root[name] for name in self.graph.data_inputs(node)})

    def _is_open(self, root: str, chain: List[Node]) -> bool:
        waiting = [
            u for u in self.users.get(root, []) if u not in chain and u.outputs[0] not in self.done
        ]
        return bool(waiting) or root in self.views.outputs or root == chain[-1].outputs[0]

    def _first_user(self, roots: List[str], chain: List[Node]) -> Optional[Node]:
        waiting = {
            user.outputs[0]: user
            for root in roots
            for user in self.users.get(root, [])
            if user not in chain and user.outputs[0] not in self.done
        }
        return waiting[min(waiting, key=lambda name: self.order[name])] if waiting else None

    def _fits(self, node: Node, group: Group, inside: Set[str]) -> bool:
        if FUSED_OPS.get(node.op) != "pointwise" or node.outputs[0] in self.done:
            return False
        if self.graph.elems(node.outputs[0]) != self.graph.elems(group.out):
            return False
        return all(root in inside or root in self.ready for root in self._roots(node))

    def _concat(self, node: Node) -> None:
        """Every input that a kernel can write straight into the result costs nothing."""
        self.done.add(node.outputs[0])
        shape = self.graph.shapes[node.outputs[0]]
        axis = int(node.attributes.get("axis", 0)) % max(1, len(shape))
        contiguous = elements(shape[:axis]) == 1
        copied: List[str] = []
        for name in self.graph.data_inputs(node):
            root = self.views.root[name]
            whole = self.graph.elems(name) == self.graph.elems(root)
            free = contiguous and whole and root not in self.placed
            if free and root not in self.graph.inputs and root not in self.views.outputs:
                self.placed.add(root)
                self.storage[root] = node.outputs[0]
            else:
                copied.append(name)
        self.ready.add(node.outputs[0])
        if copied:
            moved = sum(self.graph.elems(name) for name in copied)
            self.groups.append(
                Group(op="copy", nodes=[node], out=node.outputs[0], reads=copied, copies=moved)
            )
        self._convert(node.outputs[0])

    def _convert(self, root: str) -> None:
        """A separate float-to-int8 kernel, where the tensor is wanted both ways or is an input."""
        wanted = self.wanted(root)
        node = self._quantizer(root)
        if node and True in wanted and (False in wanted or root in self.graph.inputs):
            self.groups.append(
                Group(op="reformat", nodes=[node], out=node.outputs[0], reads=[root], reformat=True)
            )

    def wanted(self, root: str) -> Set[bool]:
        """{True}: always through Q/DQ; {False}: never; both: both; empty: by nobody."""
        ways = set()
        for user in self.users.get(root, []):
            if user.outputs[0] in self.done:
                continue
            for name in self.graph.data_inputs(user):
                if self.views.root[name] == root:
                    ways.add(name in self.views.quantized or self._quantized_later(user))
        if root in self.views.outputs:
            ways.add(False)
        return ways

    def _quantized_later(self, node: Node) -> bool:
        """A concat read only through Q/DQ: TensorRT moves the Q in front of it."""
        return node.op == "Concat" and self.wanted(node.outputs[0]) == {True}

    def _quantizer(self, root: str) -> Optional[Node]:
        for node in self.graph.nodes:
            if node.op == "QuantizeLinear" and self.views.root.get(node.inputs[0]) == root:
                return node
        return None


def plan(graph: Graph) -> Plan:
    """Group the whole graph."""
    return _Fuser(graph).run()
