"""The examples of docs/add_a_mixer.md and docs/add_a_remedy.md are run, and are what they say."""

import re
import sys
import types
from pathlib import Path

import pytest
import torch

from lgmamba.config.base import ConfigError, validate
from lgmamba.config.run import ModelConfig
from lgmamba.remedies.read import read_with
from lgmamba.remedies.remedy import remedy_of
from tests.mixers import test_contract as conformance
from tests.mixers.contract import D_MODEL
from tests.model.models import BASE, EXACT, L0, along, exact, sequence
from tests.model.passes import in_pieces

DOCS = Path(__file__).parents[2] / "docs"


def run_page(name: str) -> types.ModuleType:
    """The Python of a page, as one module."""
    module = types.ModuleType(name)
    sys.modules[name] = module  # where dataclasses look up annotations
    for block in re.findall(r"```python\n(.*?)```", (DOCS / f"{name}.md").read_text(), re.DOTALL):
        exec(block, module.__dict__)
    return module


@pytest.fixture(scope="module")
def leaky():
    return run_page("add_a_mixer")


ROW = [
    conformance.test_parameters_are_counted,
    conformance.test_outputs_are_those_of_the_step_by_step_oracle,
    conformance.test_in_single_precision_a_hook_changes_nothing_to_a_millionth,
    conformance.test_a_start_is_what_no_state_stands_for,
    conformance.test_states_end_where_the_recurrence_ends,
]


@pytest.fixture
def build_leaky(leaky, monkeypatch):
    def build(row, double=True):
        config = ModelConfig.model_validate(BASE | {"d_model": D_MODEL})
        config = config.model_copy(update={"mixer": leaky.LeakyConfig(**row.mixer)})
        torch.manual_seed(0)
        mixer = leaky.LeakyMixer(config, layer=0)
        return mixer.double() if double else mixer

    monkeypatch.setattr(conformance, "build", build)
    return leaky.ROW


@pytest.mark.parametrize("check", ROW, ids=lambda check: check.__name__)
def test_the_example_of_a_mixer_conforms(check, build_leaky):
    check(build_leaky)


@pytest.mark.parametrize("hook", [None, lambda call: call])
def test_the_example_of_a_mixer_reads_in_pieces(hook, build_leaky):
    conformance.test_pieces_and_steps_equal_the_whole_with_and_without_a_hook(build_leaky, hook, (1, 5, 1))
    conformance.test_gradients_are_those_of_finite_differences(build_leaky, hook is not None)
    conformance.test_what_is_retained_follows_from_score_and_rates(build_leaky, "eigenmodes")
    conformance.test_masking_steps_equals_dropping_them(build_leaky, "mask")
    conformance.test_a_sequence_that_is_masked_throughout_leaves_the_memory_bit_for_bit(build_leaky, "mask")


def test_the_example_of_a_mixer_means_what_it_says_of_its_verbs(leaky, build_leaky):
    config = leaky.LeakyConfig
    assert set(config.SUPPORTS) | set(config.WHY_NOT) == set(conformance.VERBS)
    for verb in conformance.LOUD.keys() & config.SUPPORTS.keys() - {
        "eigenmodes",
        "score",
    }:  # of one mode and equal scores
        conformance.test_a_verb_that_is_supported_is_noticed(build_leaky, verb)
    for verb in ("slow", "decay"):
        conformance.test_factors_in_double_precision_leave_a_mixer_in_its_own(build_leaky, verb)
    for verb in conformance.QUIET.keys() & config.SUPPORTS.keys():
        conformance.test_a_verb_with_nothing_to_do_changes_nothing(build_leaky, verb)


def test_the_example_of_a_mixer_runs_from_a_module_of_the_users_own(leaky):
    mixer = {"kind": "python", "path": "add_a_mixer:LeakyMixer", "options": {"width": 5}}
    model = exact(mixer=mixer)
    assert isinstance(model.blocks[0].mixer, leaky.LeakyMixer)
    assert (model.config.channels, model.config.modes) == (5, 1)
    assert type(model.config).model_validate_json(model.config.model_dump_json()) == model.config
    assert model.config.mixer.refusal(["slow", "mask"]) is None
    assert model.config.mixer.refusal(["window"]) == "no window: nobody has written it yet"
    patches, cells = sequence(model)
    want, _ = model.encode(model.embed(patches, cells))
    got, _ = in_pieces(model, patches, cells, None, (3, 4, 6), lambda call: call)
    torch.testing.assert_close(got, want, **EXACT)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"path": "add_a_mixer:Missing"}, "module 'add_a_mixer' has no attribute 'Missing'"),
        ({"path": "no_such_module:Mixer"}, "No module named 'no_such_module'"),
        ({"path": "add_a_mixer:LeakyCall"}, "LeakyCall has no Config"),
        ({"path": "add_a_mixer"}, "path: found 'add_a_mixer', expected: module:Class, such as mymodule:MyMixer"),
        ({"options": {"wide": 5}}, "wide: unknown key"),
        ({"options": {"width": 0}}, "width: found 0"),
    ],
    ids=str,
)
def test_a_module_that_has_no_mixer_is_refused_with_the_reason(changes, found, leaky):
    mixer = {"kind": "python", "path": "add_a_mixer:LeakyMixer", "options": {"width": 5}} | changes
    with pytest.raises(ConfigError) as e:
        validate(ModelConfig, BASE | {"mixer": mixer}, "params.yaml")
    assert found in str(e.value)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("\nclass M(:", "wrong_mixer.py, line 2: invalid syntax"),
        ("def f():\n    return 1 / 0\nf()", "wrong_mixer.py, line 2: ZeroDivisionError: division by zero"),
        ("\nimport no_such_module", "wrong_mixer.py, line 2: No module named 'no_such_module'"),
        ("import json\njson.loads('{')", "wrong_mixer.py, line 2: JSONDecodeError: Expecting property name"),
        ("assert False", "wrong_mixer.py, line 1: AssertionError"),
        ("raise SystemExit(0)", "wrong_mixer.py, line 1: SystemExit: 0"),
    ],
)
def test_a_module_that_cannot_be_loaded_is_refused_with_the_line(source, found, tmp_path, monkeypatch):
    (tmp_path / "wrong_mixer.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=re.escape(found)):
        validate(ModelConfig, BASE | {"mixer": {"kind": "python", "path": "wrong_mixer:M"}}, "params.yaml")


@pytest.mark.parametrize("mode", ["prefix", "stream"])
def test_the_example_of_a_remedy_acts_beyond_the_training_length_only(mode):
    page, model = run_page("add_a_remedy"), exact().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    patches = torch.rand(2, 6, 8, generator=generator, dtype=torch.float64)
    sequences = along(patches, torch.randint(6, (2, 5 * L0), generator=generator))
    keys = torch.rand(2, 5 * L0, generator=generator)

    def read(share: float, chunk: int = 7):
        entry = page.FadeConfig(name="fade", kind="fade", mode=mode, share=share)
        assert model.config.mixer.refusal(entry.requires) is None
        remedy = remedy_of(entry, page.KIND.build(entry, None, model, 5 * L0))
        return read_with(model, remedy, sequences, keys, [3, L0, 5 * L0], chunk)

    plain, faded = read(1.0), read(0.3)
    torch.testing.assert_close(faded[:, :2], plain[:, :2], **EXACT)
    assert (faded[:, 2] - plain[:, 2]).abs().max() > 1e-4
    torch.testing.assert_close(read(0.3, chunk=1), faded, **EXACT)
    page.check(model, sequences, lambda share: page.fade(share, L0))
