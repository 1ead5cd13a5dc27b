"""A model description is checked against the model it describes."""

import pytest

from compress.spec import SpecError, load_spec
from edge.bundle import TensorSpec
from edge.heads import ClassifyHead

INPUTS = (TensorSpec(name="images", shape=(1, 3, 32, 40)),)
OUTPUTS = (TensorSpec(name="logits", shape=(1, 5)), TensorSpec(name="boxes", shape=(1, 9, 4)))


@pytest.fixture
def spec(tmp_path):
    def read(text):
        path = tmp_path / "spec.toml"
        path.write_text(text)
        return load_spec(path, INPUTS, OUTPUTS)

    return read


def test_the_size_comes_from_the_model_and_the_head_from_the_file(spec):
    read = spec('[head]\ntype = "classify"\noutput = "logits"\n')
    assert (read.preprocess.height, read.preprocess.width) == (32, 40)
    assert read.head == ClassifyHead(output="logits")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[head]\ntype = "classify"\noutput = "logit"\n', r"output: .*did you mean 'logits'\?"),
        ('[head]\ntype = "ssd"\nscores = "logits"\nboxes = "x"\n', "boxes: .*logits, boxes"),
        ("preprocess = 3\n", r"\$\.preprocess"),
        ("[preprocess]\nheight = 99\n", "99 x 40 px; expected 32 x 40 px"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(spec, text, said):
    with pytest.raises(SpecError, match=said):
        spec(text)
