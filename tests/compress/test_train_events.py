"""What is written down for people to watch: a resumed run's curves are those of an unbroken one."""

from __future__ import annotations

import sys
import types

import pytest

from compress.train import Checkpoint, Means, Schedule, TrainError, Watch, deterministic, train
from compress.train_events import EVENTS, open_events
from devices.errors import MissingExtraError

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")

SCHEDULE = Schedule(steps=20, lr_max=0.05)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with deterministic(seed=0, threads=1):
        yield


def net():
    torch.manual_seed(0)
    return torch.nn.Linear(3, 1)


def loss_at(model, step=99):
    inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
    return (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()


def means(text):
    return Means(watch=Watch(loss=loss_at, every_steps=5), events=open_events(text))


class KilledError(Exception):
    pass


def killed(model, step):
    if step == 11:
        raise KilledError
    return loss_at(model, step)


def curves(folder):
    """{tag: [(step, value)]} as TensorBoard's own reader shows them."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs 'tensorboard'"
    )
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_every_step_is_told_with_its_rate_and_its_held_out_loss(tmp_path):
    log = train(net(), loss_at, SCHEDULE, means=means(f"tensorboard:{tmp_path}"))
    found = curves(tmp_path)
    assert set(found) == {"loss/train", "learning_rate", "loss/held_out"}
    assert [step for step, _ in found["loss/train"]] == list(range(20))
    assert [value for _, value in found["loss/train"]] == pytest.approx(log.losses)
    assert [step for step, _ in found["loss/held_out"]] == [4, 9, 14, 19]
    assert max(value for _, value in found["learning_rate"]) == pytest.approx(0.05, rel=0.01)


def test_resumed_run_has_the_curves_of_an_unbroken_one(tmp_path):
    train(net(), loss_at, SCHEDULE, means=means(f"tensorboard:{tmp_path / 'whole'}"))
    checkpoint = Checkpoint(path=tmp_path / "state.pt", key="a", every_steps=4)
    broken = f"tensorboard:{tmp_path / 'broken'}"
    with pytest.raises(KilledError):
        train(net(), killed, SCHEDULE, checkpoint=checkpoint, means=means(broken))
    assert len(curves(tmp_path / "broken")["loss/train"]) == 11  # three of them past its checkpoint
    log = train(net(), loss_at, SCHEDULE, checkpoint=checkpoint, means=means(broken))
    assert log.resumed_from == 8
    assert curves(tmp_path / "broken") == curves(tmp_path / "whole")


def test_run_begun_anew_in_the_same_folder_shows_nothing_of_the_one_before(tmp_path):
    longer = Schedule(steps=30, lr_max=0.05)
    train(net(), loss_at, longer, means=means(f"tensorboard:{tmp_path}"))
    train(net(), loss_at, SCHEDULE, means=means(f"tensorboard:{tmp_path}"))
    assert [step for step, _ in curves(tmp_path)["loss/train"]] == list(range(20))


def test_who_writes_down_does_not_change_what_is_learnt(tmp_path):
    told, untold = net(), net()
    train(told, loss_at, SCHEDULE, means=means(f"tensorboard:{tmp_path}"))
    train(untold, loss_at, SCHEDULE, means=Means(watch=Watch(loss=loss_at, every_steps=5)))
    assert torch.equal(told.weight, untold.weight)


def test_without_tensorboard_the_extra_is_named_before_a_step_is_trained(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'jetpress\[tensorboard\]'"):
        train(net(), lambda model, step: pytest.fail("trained"), SCHEDULE,
              means=means(f"tensorboard:{tmp_path}"))  # fmt: skip
    assert list(tmp_path.iterdir()) == []


class Repository(types.ModuleType):
    """What this project asks of Aim: runs named by Aim, one value for each name and step."""

    def __init__(self):
        super().__init__("aim")
        self.runs = {}

    def Repo(self, path, init):  # noqa: N802  # Aim's name
        assert init
        return self

    def Run(self, run_hash, repo, force_resume, **quiet):  # noqa: N802  # Aim's name
        assert repo is self
        assert force_resume == (run_hash is not None)
        assert run_hash is None or run_hash in self.runs
        return Kept(self, run_hash or f"run{len(self.runs)}")


class Kept:
    def __init__(self, aim, run_hash):
        self.hash, self.open = run_hash, True
        self.values = aim.runs.setdefault(run_hash, {})

    def track(self, value, name, step):
        assert self.open
        self.values[name, step] = value

    def close(self):
        self.open = False


def test_aim_is_told_the_same_and_a_resumed_run_goes_on_in_its_own(tmp_path, monkeypatch):
    aim = Repository()
    monkeypatch.setitem(sys.modules, "aim", aim)
    train(net(), loss_at, SCHEDULE, means=means(f"aim:{tmp_path / 'a'}"))
    checkpoint = Checkpoint(path=tmp_path / "state.pt", key="a", every_steps=4)
    with pytest.raises(KilledError):
        train(net(), killed, SCHEDULE, checkpoint=checkpoint, means=means(f"aim:{tmp_path / 'b'}"))
    train(net(), loss_at, SCHEDULE, checkpoint=checkpoint, means=means(f"aim:{tmp_path / 'b'}"))
    assert list(aim.runs) == ["run0", "run1"]
    assert aim.runs["run0"] == aim.runs["run1"]
    assert len(aim.runs["run0"]) == 20 + 20 + 4
    train(net(), loss_at, SCHEDULE, means=means(f"aim:{tmp_path / 'b'}"))
    assert list(aim.runs) == ["run0", "run1", "run2"]  # another training, another run


def test_without_aim_the_cure_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "aim", None)
    with pytest.raises(TrainError, match="pip install aim"):
        train(net(), loss_at, SCHEDULE, means=means(f"aim:{tmp_path}"))


@pytest.mark.parametrize("text", ["tensorbord:x", "tensorboard:", "tensorboard", ""])
def test_events_of_another_kind_or_without_a_folder_are_refused(text):
    with pytest.raises(TrainError, match="tensorboard:FOLDER or aim:FOLDER"):
        open_events(text)


@pytest.mark.parametrize("name", EVENTS)
def test_every_entry_of_the_table_opens(name, tmp_path):
    events = open_events(f"{name}:{tmp_path}")
    for promise in ("begin", "scalar", "flush", "close"):
        assert callable(getattr(events, promise))
