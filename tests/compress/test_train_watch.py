"""Held-out frames choose the weights and end a training that only learns its frames by heart."""

from __future__ import annotations

import dataclasses

import pytest

from compress.train import Checkpoint, Means, Schedule, TrainError, Watch, deterministic, train

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")

STEPS = 60
SCHEDULE = Schedule(steps=STEPS, lr_max=0.05, ema_decay=0.5, live_norm_share=0.5)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with deterministic(seed=0, threads=1):
        yield


def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(6, 32), torch.nn.BatchNorm1d(32), torch.nn.ReLU(), torch.nn.Linear(32, 1)
    )


def noisy(seed, count=12):
    """Few examples whose answers are mostly noise: learning them by heart does not help."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 6, generator=generator)
    return inputs, inputs[:, :1] + 1.5 * torch.randn(count, 1, generator=generator)


def loss_at(model, step):
    inputs, answers = noisy(1)
    return (model(inputs) - answers).square().mean()


def held_out(model):
    inputs, answers = noisy(2, 64)
    return (model(inputs) - answers).square().mean()


def watched(**more):
    return Means(watch=Watch(loss=held_out, **{"every_steps": 3, "patience": 4, **more}))


def state_bytes(model):
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def loss_of(model):
    with torch.no_grad():
        return float(held_out(model))


def test_training_ends_when_held_out_frames_gain_no_more_and_the_best_weights_are_kept():
    model = net()
    log = train(model, loss_at, SCHEDULE, means=watched())
    steps, losses = zip(*log.held_out, strict=True)
    assert log.stopped_at == len(log.losses) < STEPS
    assert steps == tuple(range(3, log.stopped_at + 1, 3))
    assert log.stopped_at - log.best_step == 4 * 3
    assert log.best_step == steps[losses.index(min(losses))]
    assert loss_of(model) == pytest.approx(min(losses), abs=1e-6)
    assert loss_of(model) < losses[-1]
    assert f"best on held-out frames after {log.best_step}; stopped" in log.words


def test_without_patience_training_runs_to_its_end_and_keeps_the_best_weights():
    model = net()
    log = train(model, loss_at, SCHEDULE, means=watched(patience=0, every_steps=7))
    assert len(log.losses) == STEPS
    assert [step for step, _ in log.held_out] == [7, 14, 21, 28, 35, 42, 49, 56, 60]
    assert log.stopped_at is None
    assert loss_of(model) == pytest.approx(min(loss for _, loss in log.held_out), abs=1e-6)


def test_who_watches_does_not_change_what_is_learnt():
    seen, unseen = net(), net()
    log = train(seen, loss_at, SCHEDULE, means=watched(patience=0, every_steps=STEPS))
    plain = train(unseen, loss_at, SCHEDULE)
    assert log.losses == plain.losses
    assert state_bytes(seen) == state_bytes(unseen)  # the only evaluation came last
    assert (plain.held_out, plain.best_step) == ((), None)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.99])
def test_killed_run_stops_where_the_unbroken_one_does_with_the_same_bytes(tmp_path, share):
    whole, resumed = net(), net()
    unbroken = train(whole, loss_at, SCHEDULE, means=watched())
    last = int(share * unbroken.stopped_at)

    def killed(model, step):
        if step == last:
            raise KilledError
        return loss_at(model, step)

    checkpoint = Checkpoint(path=tmp_path / "state.pt", key="a", every_steps=4)
    with pytest.raises(KilledError):
        train(net(), killed, SCHEDULE, checkpoint=checkpoint, means=watched())
    log = train(resumed, loss_at, SCHEDULE, checkpoint=checkpoint, means=watched())
    assert log.resumed_from == last // 4 * 4
    assert (log.held_out, log.stopped_at) == (unbroken.held_out, unbroken.stopped_at)
    assert state_bytes(resumed) == state_bytes(whole)


def test_killed_between_the_end_of_patience_and_the_result_trains_no_step_more(tmp_path):
    checkpoint = Checkpoint(path=tmp_path / "state.pt", key="a", every_steps=1)
    unbroken = train(net(), loss_at, SCHEDULE, means=watched())
    kept = tmp_path / "kept.pt"

    class Copying:
        def update(self, done):
            if (tmp_path / "state.pt").exists():
                kept.write_bytes(checkpoint.path.read_bytes())

    train(net(), loss_at, SCHEDULE, checkpoint=checkpoint, means=watched(), tick=Copying())
    checkpoint.path.write_bytes(kept.read_bytes())  # after the last step but one
    log = train(net(), loss_at, SCHEDULE, checkpoint=checkpoint, means=watched())
    assert len(log.losses) == 1
    assert log.stopped_at == unbroken.stopped_at


def test_held_out_loss_that_is_not_a_number_is_an_error():
    means = Means(watch=Watch(loss=lambda model: held_out(model) * float("nan"), every_steps=2))
    with pytest.raises(TrainError, match=r"after step 2: found a held-out loss of nan"):
        train(net(), loss_at, SCHEDULE, means=means)


@pytest.mark.parametrize("wrong", [{"every_steps": 0}, {"patience": -1}])
def test_watch_outside_its_ranges_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Watch(loss=held_out, **wrong)


def test_zero_steps_are_not_judged():
    log = train(net(), loss_at, dataclasses.replace(SCHEDULE, steps=0), means=watched())
    assert log.held_out == ()
