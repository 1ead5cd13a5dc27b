"""A .pt2 file gives back the net that was exported, with layers that train and can be cut."""

from __future__ import annotations

import pytest

from compress.channels.prune import groups_of, prune_module
from compress.pt2 import Pt2Error, load_pt2

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")
from torch import nn  # noqa: E402


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 12, 2, 2, groups=2)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        found = torch.relu(self.up(torch.relu(self.norm(self.conv(x)))))
        return {"classes": self.head(self.drop(found.mean((2, 3)))), "map": found}


def saved(net, path, batch=2, dynamic=True):
    free = ({0: torch.export.Dim.AUTO},) if dynamic else None
    program = torch.export.export(net, (torch.zeros(batch, 3, 32, 48),), dynamic_shapes=free)
    torch.export.save(program, path)
    return path


@pytest.fixture
def net():
    torch.manual_seed(0)
    made = Mixed()
    made.norm.running_mean.normal_()
    made.norm.running_var.uniform_(0.5, 2)
    return made.eval()


def test_the_net_answers_as_before_and_keeps_the_names(net, tmp_path):
    read = load_pt2(saved(net, tmp_path / "net.pt2"))
    images = torch.randn(5, 3, 32, 48)
    with torch.no_grad():
        wanted, found = net(images), read(images)
    assert set(found) == {"classes", "map"}
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    assert set(read.state_dict()) == set(net.state_dict())
    assert read.image_hw == (32, 48)


def test_layers_train_as_layers_do(net, tmp_path):
    read = load_pt2(saved(net, tmp_path / "net.pt2")).train()
    before = read.norm.running_mean.clone()
    answers = [read(torch.randn(4, 3, 32, 48))["classes"] for _ in range(2)]
    assert not torch.equal(read.norm.running_mean, before)
    assert isinstance(read.drop, nn.Dropout)
    answers[0].sum().backward()
    assert float(read.conv.weight.grad.abs().sum()) > 0
    assert isinstance(read.up, nn.ConvTranspose2d)
    assert read.up.groups == 2


def test_it_can_be_cut_and_cut_again(net, tmp_path):
    read = load_pt2(saved(net, tmp_path / "net.pt2"))
    example = (torch.zeros(1, 3, 32, 48),)
    names = [group.name for group in groups_of(read, example) if group.free]
    assert names == ["conv"]
    once = prune_module(read, example, {"conv": (1,)})
    twice = prune_module(once.module, example, {"conv": (0,)})
    assert twice.error_ratio < 1e-5
    assert once.module.conv.out_channels == 6  # a unit is one channel of each group of `up`
    assert twice.module.conv.out_channels == 4


def test_a_batch_that_was_baked_in_stays_so(net, tmp_path):
    read = load_pt2(saved(net, tmp_path / "net.pt2", batch=1, dynamic=False))
    with torch.no_grad():
        assert torch.allclose(read(torch.ones(1, 3, 32, 48))["map"],
                              net(torch.ones(1, 3, 32, 48))["map"])  # fmt: skip


def test_a_net_exported_while_training_is_refused(net, tmp_path):
    with pytest.raises(Pt2Error, match="exported in training mode"):
        load_pt2(saved(net.train(), tmp_path / "net.pt2"))


@pytest.mark.parametrize("content", [b"", b"not a file of torch", b"PK\x03\x04 cut short"])
def test_a_file_that_torch_cannot_read_is_named(tmp_path, content):
    path = tmp_path / "net.pt2"
    path.write_bytes(content)
    with pytest.raises(Pt2Error, match=r"net\.pt2.*torch\.export\.save"):
        load_pt2(path)
    with pytest.raises(Pt2Error, match="missing"):
        load_pt2(tmp_path / "missing.pt2")
