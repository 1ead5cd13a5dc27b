"""The loop learns, ends in the same bytes whether or not it was killed, and puts torch back."""

from __future__ import annotations

import dataclasses

import pytest

from compress.train import (
    Checkpoint,
    Schedule,
    TrainError,
    deterministic,
    learning_rate,
    train,
)

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Small nets wait longer for a second thread than they work."""
    with deterministic(seed=0, threads=1):
        yield


SCHEDULE = Schedule(steps=20, lr_max=0.05, ema_decay=0.5, live_norm_share=0.5)


def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.BatchNorm2d(4), torch.nn.ReLU6(),
        torch.nn.Flatten(), torch.nn.Dropout(0.2), torch.nn.Linear(4 * 36, 2),
    )  # fmt: skip


def loss_at(model, step):
    generator = torch.Generator().manual_seed(step % 4)
    images = torch.randn(6, 3, 8, 8, generator=generator)
    return (model(images) - images.mean((1, 2, 3))[:, None]).square().mean()


def state_bytes(model):
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


class KilledError(Exception):
    pass


def killed_at(last):
    def loss(model, step):
        if step == last:
            raise KilledError
        return loss_at(model, step)

    return loss


class Ticks(list):
    def update(self, done):
        self.append(done)


def test_loss_falls_and_progress_counts_every_step():
    model, ticks = net(), Ticks()
    log = train(model, loss_at, SCHEDULE, tick=ticks)
    assert sum(log.losses[-5:]) < 0.5 * sum(log.losses[:5])
    assert ticks == list(range(1, 21))
    assert not model.training


def test_same_inputs_give_the_same_bytes():
    first, second = net(), net()
    for model in (first, second):
        with deterministic(seed=3, threads=1):
            train(model, loss_at, SCHEDULE)
    assert state_bytes(first) == state_bytes(second)
    assert state_bytes(first) != state_bytes(net())


@pytest.mark.parametrize("killed", [5, 13, 19])
def test_killed_run_resumes_to_the_same_bytes(tmp_path, killed):
    whole = net()
    train(whole, loss_at, SCHEDULE)
    checkpoint = Checkpoint(path=tmp_path / "state.pt", key="a", every_steps=4)
    with pytest.raises(KilledError):
        train(net(), killed_at(killed), SCHEDULE, checkpoint=checkpoint)
    resumed = net()
    log = train(resumed, loss_at, SCHEDULE, checkpoint=checkpoint)
    assert log.resumed_from == killed // 4 * 4
    assert len(log.losses) == 20 - log.resumed_from
    assert state_bytes(resumed) == state_bytes(whole)
    assert list(tmp_path.iterdir()) == []


def test_what_torch_draws_follows_the_seed_and_leaves_its_generator_alone():
    first, second = net(), net()
    before = torch.get_rng_state()
    train(first, loss_at, SCHEDULE)
    assert torch.equal(torch.get_rng_state(), before)
    train(second, loss_at, dataclasses.replace(SCHEDULE, seed=1))
    assert state_bytes(first) != state_bytes(second)


def test_checkpoint_of_another_run_or_half_a_file_is_not_resumed(tmp_path):
    path = tmp_path / "state.pt"
    mine = Checkpoint(path=path, key="mine", every_steps=4)
    with pytest.raises(KilledError):
        train(net(), killed_at(9), SCHEDULE, checkpoint=Checkpoint(path=path, key="other",
                                                                   every_steps=4))  # fmt: skip
    assert train(net(), loss_at, SCHEDULE, checkpoint=mine).resumed_from == 0
    with pytest.raises(KilledError):
        train(net(), killed_at(9), SCHEDULE, checkpoint=mine)
    path.write_bytes(path.read_bytes()[:500])
    assert train(net(), loss_at, SCHEDULE, checkpoint=mine).resumed_from == 0


def test_ctrl_c_leaves_the_last_checkpoint(tmp_path):
    checkpoint = Checkpoint(path=tmp_path / "state.pt", key="a", every_steps=4)

    def interrupted(model, step):
        if step == 6:
            raise KeyboardInterrupt
        return loss_at(model, step)

    with pytest.raises(KeyboardInterrupt):
        train(net(), interrupted, SCHEDULE, checkpoint=checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
    assert train(net(), loss_at, SCHEDULE, checkpoint=checkpoint).resumed_from == 4


def test_norms_learn_statistics_only_while_live():
    frozen, live = net(), net()
    start = state_bytes(frozen)
    train(frozen, loss_at, Schedule(steps=4, live_norm_share=0.0))
    train(live, loss_at, Schedule(steps=4, live_norm_share=1.0))
    assert state_bytes(frozen)["1.running_mean"] == start["1.running_mean"]
    assert state_bytes(live)["1.running_mean"] != start["1.running_mean"]


def test_zero_steps_change_nothing():
    model = net()
    start = state_bytes(model)
    assert train(model, loss_at, Schedule(steps=0)).losses == ()
    assert state_bytes(model) == start


def test_loss_that_is_not_a_number_stops_with_the_step_and_the_cure():
    with pytest.raises(TrainError, match=r"step 0: found a loss of nan.*lower the learning rate"):
        train(net(), lambda model, step: loss_at(model, step) * float("nan"), SCHEDULE)


def test_net_without_parameters_is_refused():
    with pytest.raises(TrainError, match="no parameter that requires a gradient"):
        train(torch.nn.ReLU(), loss_at, SCHEDULE)


def test_weights_stay_finite_when_a_gradient_explodes():
    schedule = Schedule(steps=3, clip_norm=1.0)
    model = net()
    train(model, lambda m, step: 1e12 * loss_at(m, step), schedule)
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


def test_deterministic_puts_torch_back_after_an_error():
    before = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    torch.manual_seed(11)
    wanted = torch.rand(3)
    torch.manual_seed(11)
    with pytest.raises(KilledError):
        _draw_and_die()
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before
    assert torch.equal(torch.rand(3), wanted)


def _draw_and_die():
    with deterministic(seed=5, threads=1):
        assert torch.get_num_threads() == 1
        torch.rand(7)
        raise KilledError


@pytest.mark.parametrize(
    "wrong", [{"warmup_share": 1.2}, {"steps": -1}, {"ema_decay": 1.0}, {"seed": -1}]
)
def test_schedule_outside_its_ranges_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Schedule(**wrong)


def test_rate_starts_low_peaks_after_the_warm_up_and_ends_low():
    schedule = Schedule(steps=100, lr_max=1.0, warmup_share=0.2)
    rates = [learning_rate(step, schedule) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[20] == 1.0
    assert rates[99] < 0.02
    assert learning_rate(0, Schedule(steps=1, warmup_share=0.0)) > 0
