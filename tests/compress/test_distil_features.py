"""Named layers of a student learn what a teacher's layers say; adapters are thrown away after."""

from __future__ import annotations

import numpy as np
import pytest

from compress.distil_features import FeatureError, adapters, feature_loss, with_features
from compress.distill import DistilError, DistilOptions, Pair, Run, distil_outputs, distil_scene
from compress.per_frame import takes_batches
from compress.train import Checkpoint, deterministic
from tests.compress.tiny_nets import box_scene, tiny_net

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")

RUN = Run(threads=1)
PAIRS = (("body.2", "body.2"), ("head", "head"))


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with deterministic(seed=0, threads=1):
        yield


class Net(torch.nn.Module):
    """`width` channels; an activation in place follows the layer that is looked at."""

    def __init__(self, width, seed, stride=2):
        super().__init__()
        torch.manual_seed(seed)
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(3, width, 3, 2, 1), torch.nn.ReLU(inplace=True),
            torch.nn.Conv2d(width, 2 * width, 3, stride, 1), torch.nn.ReLU(inplace=True),
        )  # fmt: skip
        self.head = torch.nn.Linear(2 * width, 3)

    def forward(self, images):
        return self.head(self.body(images).mean((2, 3)))


def batch_at(step):
    return np.random.default_rng(step % 4).normal(0, 1, (8, 3, 16, 16)).astype(np.float32)


def pair(**student):
    return Pair(student=Net(**{"width": 4, "seed": 1, **student}), teacher=Net(16, 2), names=("y",))


def widened():
    """A teacher whose 32 features hang together: 8 of a narrow net, mixed."""
    teacher = Net(4, 2)
    mixed = torch.nn.Conv2d(8, 32, 1)
    teacher.body[2] = torch.nn.Sequential(teacher.body[2], mixed)
    teacher.head = torch.nn.Linear(32, 3)
    return teacher


def distance(found):
    """How well the teacher's features follow from the student's by the best matrix there is."""
    images = torch.from_numpy(batch_at(0))
    with torch.no_grad():
        mine = found.student.body[:3](images).permute(0, 2, 3, 1).reshape(-1, 8)
        theirs = found.teacher.body[:3](images).permute(0, 2, 3, 1).reshape(-1, 32)
        mine = torch.cat([mine, torch.ones(len(mine), 1)], 1)
        best = torch.linalg.lstsq(mine, theirs).solution
        return float((mine @ best - theirs).square().mean() / theirs.var())


def test_a_narrower_student_comes_nearer_to_its_teachers_features_than_by_outputs_alone():
    reached = []
    for features in ((), PAIRS[:1]):
        found = Pair(student=Net(4, 1), teacher=widened(), names=("y",))
        options = DistilOptions(steps=150, lr_max=2e-2, features=features, feature_weight=5)
        log = distil_outputs(found, batch_at, options, RUN)
        reached.append(distance(found))
    start = distance(Pair(student=Net(4, 1), teacher=widened(), names=("y",)))
    assert reached[1] < 0.6 * start
    assert reached[1] < 0.7 * reached[0]
    assert np.mean(log.losses[-4:]) < 0.5 * np.mean(log.losses[:4])


def test_what_surrounds_the_student_is_gone_afterwards():
    found = pair()
    names = list(found.student.state_dict())
    teacher = {name: value.clone() for name, value in found.teacher.state_dict().items()}
    distil_outputs(found, batch_at, DistilOptions(steps=2, features=PAIRS), RUN)
    assert list(found.student.state_dict()) == names
    assert all(torch.equal(teacher[name], v) for name, v in found.teacher.state_dict().items())
    hooks = [module for module in (*found.student.modules(), *found.teacher.modules())
             if module._forward_hooks]  # fmt: skip
    assert hooks == []


def test_features_change_what_is_learnt_and_the_adapter_is_trained_with_it():
    plain, taught = pair(), pair()
    distil_outputs(plain, batch_at, DistilOptions(steps=3), RUN)
    distil_outputs(taught, batch_at, DistilOptions(steps=3, features=PAIRS), RUN)
    assert not torch.equal(plain.student.body[0].weight, taught.student.body[0].weight)
    images = torch.from_numpy(batch_at(0))
    around = adapters(taught.student, taught.teacher, PAIRS, images, seed=0)
    net = with_features(taught.student, ["body.2", "head"], around)
    _, features = net(images)
    feature_loss(features, [f.detach() + 1 for f in features]).backward()
    assert around[0].weight.grad.abs().sum() > 0


def test_where_widths_agree_there_is_no_adapter():
    twin = Pair(student=Net(16, 3), teacher=Net(16, 2), names=("y",))
    images = torch.from_numpy(batch_at(0))
    around = adapters(twin.student, twin.teacher, PAIRS, images, seed=0)
    assert [type(a).__name__ for a in around] == ["Identity", "Identity"]
    wide = adapters(Net(4, 1), twin.teacher, PAIRS, images, seed=0)
    assert [tuple(p.shape) for p in wide.parameters()] == [(32, 8, 1, 1), (32,)]


def test_loss_is_zero_for_the_teachers_own_features_and_one_for_their_mean():
    images = torch.from_numpy(batch_at(0))
    teacher = Net(16, 2)
    plain = torch.nn.ModuleList([torch.nn.Identity()])
    _, said = with_features(teacher, ["body.2"], plain)(images)
    said = [said[0].detach()]
    assert float(feature_loss(said, said)) == 0
    flat = [said[0].mean().expand_as(said[0])]
    assert float(feature_loss(flat, said)) == pytest.approx(1.0, abs=1e-4)


def test_what_is_looked_at_is_the_layers_own_output_though_an_activation_writes_over_it():
    images = torch.from_numpy(batch_at(0))
    net = Net(4, 1)
    plain = torch.nn.ModuleList([torch.nn.Identity()])
    _, (seen,) = with_features(net, ["body.2"], plain)(images)
    assert float(seen.detach().min()) < 0
    assert torch.allclose(seen, net.body[2](net.body[1](net.body[0](images))))


def test_maps_of_another_size_are_resized_to_the_students():
    found = pair(stride=1)
    log = distil_outputs(found, batch_at, DistilOptions(steps=3, features=PAIRS[:1]), RUN)
    assert np.isfinite(log.losses).all()


def test_net_that_loops_over_frames_gives_the_features_of_all():
    class Single(Net):
        def forward(self, images):
            return super().forward(images.reshape(1, 3, 16, 16))

    single = Single(4, 1)
    found = takes_batches(single, (torch.zeros(1, 3, 16, 16),))
    assert found is not single
    images = torch.from_numpy(batch_at(0))
    plain = torch.nn.ModuleList([torch.nn.Identity()])
    _, (seen,) = with_features(found, ["net.body.2"], plain)(images)
    _, (wanted,) = with_features(Net(4, 1), ["body.2"], plain)(images)
    assert torch.allclose(seen, wanted, atol=1e-6)


class KilledError(Exception):
    pass


def test_killed_run_resumes_with_its_adapters(tmp_path):
    options = DistilOptions(steps=12, features=PAIRS)
    whole, broken, resumed = pair(), pair(), pair()
    distil_outputs(whole, batch_at, options, RUN)
    run = Run(threads=1, checkpoint=Checkpoint(path=tmp_path / "c.pt", key="a", every_steps=4))

    def killed(step):
        if step == 9:
            raise KilledError
        return batch_at(step)

    with pytest.raises(KilledError):
        distil_outputs(broken, killed, options, run)
    assert distil_outputs(resumed, batch_at, options, run).resumed_from == 8
    for name, value in whole.student.state_dict().items():
        assert torch.equal(value, resumed.student.state_dict()[name]), name


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ((("body.9", "body.2"),), r"features of the student: found no layer 'body\.9'.*body"),
        (
            (("body.2", "bdy"),),
            r"features of the teacher: found no layer 'bdy'.*mean 'body",
        ),
        ((("body.2", "head"),), r"shapes \[1, 8, 4, 4\] and \[1, 3\]; expected both"),
        ((("", "head"),), "found no layer ''"),
    ],
)
def test_layers_that_cannot_be_compared_are_refused(pairs, words):
    with pytest.raises(FeatureError, match=words):
        distil_outputs(pair(), batch_at, DistilOptions(steps=1, features=pairs), RUN)


def test_layer_without_a_tensor_is_refused():
    class Twice(Net):
        def forward(self, images):
            return super().forward(self.body[1](images)) + super().forward(images)

    odd = Pair(student=Twice(4, 1), teacher=Net(16, 2), names=("y",))
    with pytest.raises(FeatureError, match=r"features 'body\.1': found 3 outputs of 2 shapes"):
        distil_outputs(odd, batch_at, DistilOptions(steps=1, features=(("body.1", "body.1"),)), RUN)


def test_a_scene_has_boxes_and_no_features():
    with pytest.raises(DistilError, match="features: found a teacher that gave boxes alone"):
        distil_scene(tiny_net(), box_scene(), DistilOptions(steps=1, features=PAIRS), RUN)
