"""Any ONNX file as a module: what converts, how exactly, which channels can go, and how fast it is.

    python -m tests.bench.from_onnx [FOLDER] [--zoo] [--groups]

Each .onnx of FOLDER is converted and proven against ONNX Runtime with every optimization off;
--groups traces each and counts its groups of channels (slow). --zoo exports the zoo's nets and
times the converted module beside the net it came from, alternating, two threads.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import onnx
import torch

from compress.channels.prune import groups_of
from compress.export import Names, export_onnx
from compress.from_onnx.convert import module_from_onnx
from compress.from_onnx.prove import prove, random_feeds
from compress.onnx_source import fixed_shapes
from devices.errors import JetpressError

ROUNDS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--zoo", action="store_true")
    parser.add_argument("--groups", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(2)
    warnings.simplefilter("ignore")
    if options.folder is not None:
        files = sorted(options.folder.rglob("*.onnx"))
        converted = sum(one_file(path, options.groups) for path in files)
        print(f"{converted} of {len(files)} files convert")
    if options.zoo:
        with tempfile.TemporaryDirectory() as folder:
            for name, net, picture in zoo():
                beside(name, net, picture, Path(folder))


def one_file(path: Path, groups: bool) -> bool:
    started = time.perf_counter()
    try:
        model = fixed_shapes(onnx.load(path), path.name, None)
        module = module_from_onnx(model)
        proof = prove(model, module)
    except JetpressError as error:
        print(f"{path.name:28} refused: {error}")
        return False
    seconds = time.perf_counter() - started
    node = "" if proof.node_error_ratio is None else f", worst node {proof.node_error_ratio:.1e}"
    print(f"{path.name:28} {len(model.graph.node):4} nodes, {len(list(module.parameters())):4} "
          "weights, "
          f"outputs {proof.output_error_ratio:.1e} apart{node}, {seconds:.1f} s")  # fmt: skip
    if groups:
        example = tuple(torch.from_numpy(value) for value in random_feeds(model).values())
        found = groups_of(module, example)
        kept = [group.refusal for group in found if group.refusal is not None]
        print(f"{'':28} {len(found)} groups, {len(found) - len(kept)} can be cut; "
              f"kept: {'; '.join(sorted(set(map(str, kept))))[:300]}")  # fmt: skip
    return True


def zoo():
    from compress.zoo import c2f, mobilenet_v2, resnet

    picture = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    yield "MobileNetV2", mobilenet_v2.build(mobilenet_v2.MobileNetV2()), picture
    yield "ResNet-18", resnet.build(resnet.ResNet()), picture
    yield "C2f detector", c2f.build(c2f.C2fDetector(image_hw=(224, 224))), picture


def beside(name: str, net: torch.nn.Module, picture: torch.Tensor, folder: Path) -> None:
    net.eval()
    with torch.no_grad():
        made = net(picture)
    count = len(made) if isinstance(made, tuple | list | dict) else 1
    names = Names(inputs=("x",), outputs=tuple(f"y{at}" for at in range(count)))
    export_onnx(net, (picture,), folder / "net.onnx", names=names, opset=13)
    module = module_from_onnx(folder / "net.onnx", feeds={"x": picture.numpy()})
    for what, work in (("forward", forward), ("forward and backward", both_ways)):
        ours, theirs = [], []
        for _ in range(ROUNDS):
            theirs.append(seconds(work, net, picture))
            ours.append(seconds(work, module, picture))
        a, b = (statistics.median(times) * 1e3 for times in (theirs, ours))
        print(f"{name:14} {what:22} net {a:7.1f} ms, converted {b:7.1f} ms, ratio {b / a:.2f}")


def seconds(work, module, picture) -> float:
    started = time.perf_counter()
    work(module, picture)
    return time.perf_counter() - started


def forward(module, picture) -> None:
    with torch.no_grad():
        module(picture)


def both_ways(module, picture) -> None:
    made = module(picture)
    parts = made if isinstance(made, tuple | list) else [made]
    sum(part.square().mean() for part in parts).backward()


if __name__ == "__main__":
    main()
