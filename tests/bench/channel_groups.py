"""The corpus of coupled channels, cut by us and by Torch-Pruning 1.6.1, side by side.

    python -m tests.bench.channel_groups [--torch-pruning-python PYTHON]

PYTHON is an interpreter of an environment of its own, made once by

    python3.11 -m venv .venv-peer
    .venv-peer/bin/pip install torch==2.13.0 torch-pruning==1.6.1 numpy

Both cut half of every width whose channels are no output (the peer by magnitude, told which layers
are heads). A net passes when the cut net runs, gives the same shapes, and equals the whole net in
which the weights, biases and norms that make the cut channels are zero. Nets marked * turn a zero
into something else on the way, so that there only running and shapes are judged, and for ours the
proof with masked activations as well.
"""

from __future__ import annotations

import argparse
import copy
import resource
import subprocess
import sys
import warnings

import torch

from tests.compress.channels.nets import KEPT, NETS, made

EVERY = {**NETS, **{name: net for name, (net, _) in KEPT.items()}}
LOUD_ZERO = ("Expanded", "Mixed")
HEADS = {"Pyramid": ("fine", "coarse", "head"), "Detector": ("boxes", "scores")}
TOLERANCE = 1e-4
SECONDS_MAX = 60
MEMORY_BYTES_MAX = 8 << 30
PICTURE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-pruning-python", help="an interpreter that has torch-pruning")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        print(verdict(options.peer, by_torch_pruning), flush=True)
        return
    ours = {name: verdict(name, by_us) for name in EVERY}
    peer = peers(options.torch_pruning_python)
    print(f"{'net':18} {'ours':34} Torch-Pruning")
    for name in EVERY:
        mark = "*" if name in LOUD_ZERO else ""
        print(f"{name + mark:18} {ours[name][:33]:34} {peer.get(name, '-')[:90]}")
    for who, found in (("ours", ours), ("Torch-Pruning", peer)):
        if found:
            passed = sum(text.startswith("pass") for text in found.values())
            print(f"{who}: {passed} of {len(EVERY)} pass")


def peers(python: str | None) -> dict[str, str]:
    if python is None:
        print("Torch-Pruning: skipped, no --torch-pruning-python")
        return {}
    return {name: peer_verdict(python, name) for name in EVERY}


def peer_verdict(python: str, name: str) -> str:
    """Of one net, in a process of its own: it may never end, or take all memory."""
    command = [python, "-m", "tests.bench.channel_groups", "--peer", name]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS_MAX, preexec_fn=limit_memory
        )
    except subprocess.TimeoutExpired:
        return f"fail: no end within {SECONDS_MAX} s"
    said = done.stdout.strip().splitlines()
    return said[-1] if said else f"fail: the process ended with {done.returncode}"


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))


def verdict(name: str, method) -> str:
    module = made(EVERY[name])
    before = sum(p.numel() for p in module.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            smaller, silent = method(name, module)
            with torch.no_grad():
                wanted, found = leaves(silent(PICTURE.clone())), leaves(smaller(PICTURE.clone()))
        except Exception as error:  # noqa: BLE001  # whatever a method raises is its result
            return (
                f"fail: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            )
    after = sum(p.numel() for p in smaller.parameters())
    if [item.shape for item in wanted] != [item.shape for item in found]:
        return "fail: other output shapes"
    if after == before:
        return "fail: nothing was cut"
    apart = max(
        float((a - b).abs().max() / a.abs().max()) for a, b in zip(wanted, found, strict=True)
    )
    if apart > TOLERANCE and name not in LOUD_ZERO:
        return f"fail: outputs {apart:.1g} apart"
    return f"pass, {after / before:.0%} of parameters left"


def leaves(value) -> list[torch.Tensor]:
    return torch.utils._pytree.tree_leaves(value)


def by_us(name: str, module):
    from compress.channels.proof import silenced
    from compress.channels.prune import groups_of, prune_module

    groups = groups_of(module, (PICTURE,))
    plan = {group.name: group.free[::2] for group in groups if len(group.free) > 1}
    pruned = prune_module(module, (PICTURE,), plan)
    silent = copy.deepcopy(module)
    silent.load_state_dict(silenced(module.state_dict(), groups, plan))
    return pruned.module, silent


def by_torch_pruning(name: str, module):
    import torch_pruning as tp

    silent = copy.deepcopy(module)
    twins = dict(zip(module.modules(), silent.modules(), strict=True))
    heads = [module.get_submodule(path) for path in HEADS.get(name, ("head",))]
    pruner = tp.pruner.BasePruner(
        module, PICTURE, importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.5, ignored_layers=heads,
    )  # fmt: skip
    for group in pruner.step(interactive=True):
        for dependency, places in group:
            if pruner.DG.is_out_channel_pruning_fn(dependency.handler):
                silence(dependency.target.module, twins, places)
        group.prune()
    return module, silent


def silence(layer, twins, places) -> None:
    """What makes these channels becomes zero in the whole net's copy of the layer."""
    twin = twins.get(layer)
    if twin is None:  # an operation, or a bare parameter
        return
    axis = 1 if isinstance(twin, torch.nn.ConvTranspose2d) and twin.groups == 1 else 0
    with torch.no_grad():
        if isinstance(getattr(twin, "weight", None), torch.Tensor):
            twin.weight.index_fill_(axis, torch.as_tensor(places), 0)
        if isinstance(getattr(twin, "bias", None), torch.Tensor):
            twin.bias.index_fill_(0, torch.as_tensor(places), 0)


if __name__ == "__main__":
    sys.exit(main())
