"""What a net's kernels cost when its groups get narrower, without exporting it again.

A kernel of the exported net is scaled from its channels before (a, b) to those after (a', b'):

    operations, weights   * a'/a * b'/b     (depthwise: * b'/b)       bias, written   * b'/b
    read                  * a'/a, and the residual that is added      * b'/b

Predicted time is a sum over kernels, so each (kernel, widths) is timed once and remembered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from compress.groups import Group
from devices.errors import JetpressError

if TYPE_CHECKING:
    from devices.profile import Profile
    from devices.roofline import Costs, Kernel

__all__ = ["KernelError", "Pricing", "ScaledCosts", "as_if_int8", "scaled_kernel"]

_QUANTIZED_OPS = ("conv", "dwconv", "gconv", "gemm")  # what `compress.quantize` puts Q/DQ around


class KernelError(JetpressError):
    """A kernel cannot be traced to the channels of the net."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pricing:
    """Where and how the net is to run: board, precision of the build, power mode (None: default).

    In INT8 a float net is priced as if every convolution and product were quantized.
    """

    profile: Profile
    precision: str
    mode: str | None = None


@dataclass(frozen=True, slots=True)
class _Tie:
    """The groups that rule a kernel's input and output channels; "" for none."""

    source: str
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledCosts:
    """Predicted time of a net as a function of the widths of its groups."""

    costs: Costs
    pricing: Pricing
    ties: tuple[_Tie, ...]  # one for each kernel
    touched: Mapping[str, tuple[int, ...]]  # group -> the kernels it rules
    known_ms: dict[tuple[int, int, int], float] = field(default_factory=dict)  # a memory, no state

    @classmethod
    def of(cls, costs: Costs, groups: Iterable[Group], pricing: Pricing) -> ScaledCosts:
        """Tie every kernel of an exported net to the groups of the net.

        Raises:
            KernelError: the kernels do not belong to the net.
        """
        readers, makers, touched = {}, {}, {}
        for group in groups:
            readers.update(dict.fromkeys(group.readers, group.name))
            for module in (*group.makers, *group.passers):
                makers[f"{module}.conv"] = group.name
            readers.update({f"{passer}.conv": group.name for passer in group.passers})
            touched[group.name] = [n for n, k in enumerate(costs.kernels) if _module(k) in
                                   _modules(group)]  # fmt: skip
        found = tuple(
            _Tie(readers.get(_module(kernel), ""), makers.get(_module(kernel), ""))
            for kernel in costs.kernels
        )
        lost = [name for name, kernels in touched.items() if not kernels]
        if lost:
            raise KernelError(
                "costs of the net",
                found=f"no kernel for {', '.join(lost)}",
                expected="a convolution named after each module, as `compress.export` writes them",
                cure="export the net again and take its costs from that file",
            )
        if pricing.precision == "int8":
            costs = as_if_int8(costs)
        return cls(costs=costs, pricing=pricing, ties=found,
                   touched={name: tuple(kernels) for name, kernels in touched.items()})  # fmt: skip

    def total_ms(self, widths: Mapping[str, int]) -> float:
        """Predicted latency with these widths; groups that are not named keep theirs."""
        return sum(self._kernel_ms(n, widths) for n in range(len(self.costs.kernels)))

    def saved_ms(self, widths: Mapping[str, int], name: str, width: int) -> float:
        """Milliseconds won when one group is narrowed further, the others staying as they are."""
        after = {**widths, name: width}
        return sum(
            self._kernel_ms(n, widths) - self._kernel_ms(n, after) for n in self.touched[name]
        )

    def _kernel_ms(self, number: int, widths: Mapping[str, int]) -> float:
        from devices.roofline import predict

        kernel, tie = self.costs.kernels[number], self.ties[number]
        inward = widths.get(tie.source, kernel.in_channels)
        outward = widths.get(tie.result, kernel.out_channels)
        key = (number, inward, outward)
        if key not in self.known_ms:
            alone = msgspec.structs.replace(
                self.costs, kernels=(scaled_kernel(kernel, inward, outward),)
            )
            where = self.pricing
            timed = predict(alone, where.profile, precision=where.precision, mode=where.mode)
            self.known_ms[key] = timed.latency_ms.value
        return self.known_ms[key]


def as_if_int8(costs: Costs) -> Costs:
    """A float net with every convolution and product behind Q/DQ; what they read is written INT8.

    Against nets that were really quantized this is within half a percent (a test holds it to 1 %);
    it knows neither layers that stay float nor reformats.
    """
    quantized = [kernel.op in _QUANTIZED_OPS for kernel in costs.kernels]
    wanted = [*quantized[1:], False]
    kernels = tuple(
        msgspec.structs.replace(kernel, int8=here, writes_int8=here and after)
        for kernel, here, after in zip(costs.kernels, quantized, wanted, strict=True)
    )
    return msgspec.structs.replace(costs, kernels=kernels)


def scaled_kernel(kernel: Kernel, in_channels: int, out_channels: int) -> Kernel:
    """The same kernel on other channel counts; a depthwise one follows its output."""
    depthwise = kernel.groups > 1
    inward = 1.0 if depthwise else in_channels / kernel.in_channels
    outward = out_channels / kernel.out_channels
    added = kernel.write_elems if any(node.endswith("/Add") for node in kernel.nodes) else 0
    bias = kernel.out_channels
    read_factor = outward if depthwise else inward
    return msgspec.structs.replace(
        kernel,
        in_channels=out_channels if depthwise else in_channels,
        out_channels=out_channels,
        groups=out_channels if depthwise else kernel.groups,
        macs=round(kernel.macs * inward * outward),
        read_elems=round((kernel.read_elems - added) * read_factor + added * outward),
        write_elems=round(kernel.write_elems * outward),
        weight_elems=round((kernel.weight_elems - bias) * inward * outward + bias * outward),
    )


def _modules(group: Group) -> frozenset[str]:
    made = {f"{module}.conv" for module in (*group.makers, *group.passers)}
    return frozenset(made | set(group.readers))


def _module(kernel: Kernel) -> str:
    """The module a kernel's convolution came from: "/stem/conv/Conv" -> "stem.conv"."""
    if kernel.op not in ("conv", "dwconv"):
        return ""
    return ".".join(kernel.nodes[0].strip("/").split("/")[:-1])
