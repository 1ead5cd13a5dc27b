"""Lower precision trains the same net; a device or precision that is not there is said."""

from __future__ import annotations

import pytest

from compress.train import Checkpoint, Means, Schedule, TrainError, Watch, deterministic, train
from compress.train_means import place_of

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")

SCHEDULE = Schedule(steps=20, lr_max=0.02, live_norm_share=0.5)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with deterministic(seed=0, threads=1):
        yield


def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.BatchNorm2d(8), torch.nn.ReLU(),
        torch.nn.Flatten(), torch.nn.Linear(8 * 36, 2),
    )  # fmt: skip


class Seen(list):
    """A loss that notes the dtype of what the net gave."""

    def __call__(self, model, step=99):
        generator = torch.Generator().manual_seed(step % 4)
        images = torch.randn(8, 3, 8, 8, generator=generator)
        given = model(images)
        self.append(given.dtype)
        return (given - images.mean((1, 2, 3))[:, None]).square().mean()


def products(model):
    """The dtypes that convolutions come out in."""
    seen = []
    model[0].register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    return seen


def state_bytes(model):
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_products_are_in_the_lower_precision_and_losses_and_weights_in_fp32(amp):
    model, loss = net(), Seen()
    seen = products(model)
    log = train(model, loss, SCHEDULE, means=Means(amp=amp, watch=Watch(loss=loss)))
    assert set(seen) == {{"bf16": torch.bfloat16, "fp16": torch.float16}[amp]}
    assert set(loss) == {torch.float32}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert sum(log.losses[-4:]) < 0.5 * sum(log.losses[:4])
    assert (log.device, log.precision) == ("cpu", amp)
    assert log.words.startswith(f"20 steps on cpu in {amp}, best on held-out frames after 20")


def test_bf16_learns_what_fp32_learns_and_not_in_the_same_bytes():
    full, low = net(), net()
    exact = train(full, Seen(), SCHEDULE)
    near = train(low, Seen(), SCHEDULE, means=Means(amp="bf16"))
    assert exact.precision == "fp32"
    assert near.losses[-1] == pytest.approx(exact.losses[-1], rel=0.5)
    assert state_bytes(full) != state_bytes(low)


def test_the_cpu_is_the_default_and_trains_in_fp32_unless_asked():
    for means in (Means(), Means(amp="off"), Means(amp="auto")):
        place = place_of(means)
        assert (str(place.device), place.precision) == ("cpu", "fp32")


class KilledError(Exception):
    pass


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_killed_run_in_lower_precision_resumes_to_the_same_bytes(tmp_path, amp):
    whole, resumed, means = net(), net(), Means(amp=amp)
    train(whole, Seen(), SCHEDULE, means=means)
    checkpoint = Checkpoint(path=tmp_path / "state.pt", key="a", every_steps=4)

    def killed(model, step):
        if step == 11:
            raise KilledError
        return Seen()(model, step)

    with pytest.raises(KilledError):
        train(net(), killed, SCHEDULE, checkpoint=checkpoint, means=means)
    assert train(resumed, Seen(), SCHEDULE, checkpoint=checkpoint, means=means).resumed_from == 8
    assert state_bytes(resumed) == state_bytes(whole)


def test_step_whose_gradient_leaves_fp16_is_left_out_and_the_loss_scaled_down():
    model = net()
    before = state_bytes(model)
    loss = Seen()
    # 65536, the first scale, times this loss is past what half precision holds.
    train(model, lambda m, step: 1e3 * loss(m, step), Schedule(steps=1), means=Means(amp="fp16"))
    assert {name: before[name] for name in ("0.weight", "4.weight")} == {
        name: state_bytes(model)[name] for name in ("0.weight", "4.weight")
    }
    train(model, lambda m, step: 1e3 * loss(m, step), Schedule(steps=12), means=Means(amp="fp16"))
    assert state_bytes(model)["4.weight"] != before["4.weight"]
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_auto_takes_a_gpu_where_there_is_one_and_says_what_it_took():
    log = train(net(), Seen(), Schedule(steps=1), means=Means(device="auto"))
    assert log.device == ("cuda:0" if torch.cuda.is_available() else "cpu")
    assert f"on {log.device} in" in log.words


@pytest.mark.parametrize("name", ["cuda:77", "gpu", "meta"])
def test_device_that_is_not_there_is_an_error_with_a_cure(name):
    with pytest.raises(TrainError, match=rf"device '{name}'.*choose cpu, or auto"):
        train(net(), Seen(), SCHEDULE, means=Means(device=name))


def test_precision_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="amp must be one of auto, off, bf16, fp16"):
        Means(amp="int8")


@pytest.mark.skipif("not torch.cuda.is_available()", reason="needs a GPU")
@pytest.mark.parametrize("amp", ["off", "auto", "fp16"])
def test_net_trained_on_a_gpu_comes_back(amp):
    model = net()
    with deterministic(seed=0, threads=1):
        log = train(model, lambda m, step: Seen()(m, step).cpu(), SCHEDULE,
                    means=Means(device="cuda", amp=amp))  # fmt: skip
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert log.losses[-1] < log.losses[0]
