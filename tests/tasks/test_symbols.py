"""Tasks of symbols: their sequences by hand, what can be known of them, and what is refused."""

from itertools import pairwise, permutations

import pytest
import torch
from pydantic import TypeAdapter

from lgmamba.config.base import ConfigError
from lgmamba.config.study import load_params
from lgmamba.config.training import TrainConfig
from lgmamba.data.dataset import in_memory
from lgmamba.metrics import ACCURACY, SCALED_ACCURACY
from lgmamba.tasks.automaton.machines import machine
from lgmamba.tasks.base import Task
from lgmamba.tasks.configs import TaskConfig
from lgmamba.tasks.copying.sequences import Items
from lgmamba.tasks.mqar.sequences import Associations
from lgmamba.tasks.registry import TASKS
from tests.tasks.counts import assert_drawn_from
from tests.train.tiny import RUN
from tests.workflow.checkouts import ROOT

TRAIN = TrainConfig.model_validate(RUN["train"])
LENGTHS = {"lengths": {"kind": "fixed", "value": 8}, "supervision": {"kind": "last"}}
IDS = torch.arange(40)


def task(**values) -> Task:
    config = TypeAdapter(TaskConfig).validate_python(LENGTHS | values)
    return TASKS[config.kind](config, in_memory(torch.zeros(40, 0, 0, 0, dtype=torch.uint8)))


# Associative recall


def test_pairs_come_first_then_noise_and_each_key_asks_for_its_value():
    keys, values = torch.tensor([[3, 1]]), torch.tensor([[0, 4]])
    read = Associations.of(5, keys, values, torch.tensor([[0, 1, 0, 1, 1, 0]]), torch.tensor([[0.6, 0.1]]))
    assert read.symbol.tolist() == [[3, 5, 1, 9, 10, 11]]
    assert read.known.tolist() == [[0, 1, 1, 2, 2, 2]]
    steps = torch.tensor([[2, 3, 4, 6]])
    assert read.asked(steps).tolist() == [[[0, 0], [0, 0], [1, 0], [1, 0]]]
    assert read.questions_after(torch.tensor([4])).tolist() == [[1, 3]]
    assert read.take(torch.tensor([[4, 5]])).questions_after(torch.tensor([2])).tolist() == [[1, 3]]


@pytest.mark.parametrize("order", ["gap", "load"])
def test_no_key_comes_twice_and_what_is_asked_for_was_read(order):
    mqar = task(kind="mqar", keys=12, pairs=3, noise=2)
    read = mqar.held_out(IDS, order, 0, 24)
    for row in read.symbol.tolist():
        known = dict(zip(row[::2], row[1::2], strict=True))
        keys = [symbol for symbol in row if symbol < 12]
        assert len(keys) == len(set(keys)) == (3 if order == "gap" else 12)
        assert all(known[key] in range(12, 24) for key in keys)
    for t in (2, 7, 24):
        asked, told = read.questions_after(torch.full((40,), t)), mqar.targets(read, torch.tensor([t]))[:, 0]
        for row, those, values in zip(read.symbol.tolist(), asked.tolist(), told.tolist(), strict=True):
            so_far = dict(zip(row[:t:2], row[1:t:2], strict=False))
            assert [so_far[key] - 12 for key in those] == values
            assert len(set(those)) == min(3, t // 2)


# Selective copying


def test_items_stand_at_their_places_and_are_asked_for_in_their_order():
    read = Items.of(torch.full((1, 5), 8), torch.tensor([[7, 2, 7]]), torch.tensor([[2, 3, 9]]), marker=9)
    assert read.symbol.tolist() == [[8, 7, 2, 8, 8]]
    copying = task(kind="copying", symbols=8, items=3, spread=6)
    assert copying.targets(read, torch.tensor([5])).tolist() == [[[7, 2, 7]]]
    assert copying.known(read, torch.tensor([2, 5])).tolist() == [[[True, False, False], [True, True, False]]]
    longer = copying.held_out(IDS, "spread", 0, 20)
    assert ((longer.symbol < 8).sum(1) == 3).all()
    assert (longer.symbol[:, 6:] == 8).all()
    assert torch.equal(longer.symbol[longer.symbol < 8].view(40, 3), longer.items)


# Automata


def expression(symbols: list[int]) -> int:
    """Of digits 0-4 and operators 5-7, the last of which waits for its digit if it stands at the end."""
    whole = symbols if len(symbols) % 2 else symbols[:-1]
    return eval("".join("01234+-*"[x] for x in whole)) % 5


def permuted(symbols: list[int], even: bool) -> list[int]:
    """Where five things stand after some permutations."""

    def inversions(p):
        return sum(p[i] > p[j] for j in range(5) for i in range(j))

    elements = [p for p in permutations(range(5)) if not even or inversions(p) % 2 == 0]
    things = list(range(5))
    for x in symbols:
        things = [elements[x][i] for i in things]
    return elements.index(tuple(things))


ORACLES = {
    "parity": lambda x: sum(x) % 2,
    "even_pairs": lambda x: int(sum(a != b for a, b in pairwise(x)) % 2 == 0),
    "cycle": lambda x: sum((0, 1, -1)[move] for move in x) % 5,
    "arithmetic": expression,
    "A5": lambda x: permuted(x, even=True),
    "S5": lambda x: permuted(x, even=False),
}


@pytest.mark.parametrize("name", ORACLES)
def test_an_automaton_tells_what_a_person_would(name):
    automaton = machine(name)
    symbols = automaton.symbols(torch.rand(6, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    found = automaton.run(symbols)
    for row, labels in zip(symbols.tolist(), found.tolist(), strict=True):
        assert labels == [ORACLES[name](row[:t]) for t in range(1, 10)]


@pytest.mark.parametrize("name", ["A5", "S5"])
def test_every_row_and_column_of_a_group_s_table_has_each_element_once(name):
    table = machine(name).transitions
    each = torch.arange(len(table)).expand_as(table)
    assert torch.equal(table.sort(0).values, each.T)
    assert torch.equal(table.sort(1).values, each)


# Composite functions


def composed(symbols: list[int], V: int) -> tuple[int, tuple[int, int], int]:
    """Place of the second function, both functions from 1, and the key, of a sequence with two functions."""
    first, second = (i for i, symbol in enumerate(symbols) if symbol >= V)
    assert second == first + 1
    return second + 1, (symbols[first] - V + 1, symbols[second] - V + 1), symbols[first - 1]


@pytest.mark.parametrize(
    ("order", "pairs", "adds"),
    [
        ("exception", {(3, 4)}, {(3, 4): -6}),
        ("unseen_composite", {(4, 3)}, {(4, 3): -10}),
        ("unseen_symmetric", {(4, 3)}, {(4, 3): -6}),
        ("trained", {(a, b) for a in (1, 2, 3, 4) for b in (1, 2, 3, 4)} - {(4, 3)}, {(3, 4): -6}),
    ],
)
def test_the_second_function_is_of_the_first_and_held_out_keys_stand_where_none_did_in_training(order, pairs, adds):
    alone, V, n = {1: 5, 2: 1, 3: -2, 4: -8}, 19, 6
    composite = task(kind="composite", numbers=V, spread=n)
    read = composite.held_out(IDS, order, 0, 9)
    found = set()
    for row, place, result in zip(read.symbol.tolist(), read.place.tolist(), read.result.tolist(), strict=True):
        second, pair, key = composed(row, V)
        assert (second, result) == (place, (key + adds.get(pair, alone[pair[0]] + alone[pair[1]])) % V)
        assert key % n == second - 3
        assert second <= n
        found.add(pair)
    assert found <= pairs
    assert composite.known(read, torch.tensor([9])).all()
    assert not composite.known(read, torch.tensor([2])).any()


def test_both_readings_of_the_unseen_pair_are_of_the_same_sequences():
    composite = task(kind="composite", numbers=19, spread=6)
    one, other = (composite.held_out(IDS, f"unseen_{how}", 0, 9) for how in ("composite", "symmetric"))
    assert torch.equal(one.symbol, other.symbol)
    assert torch.equal((one.result + 4) % 19, other.result)


def test_training_has_every_pair_but_one_and_no_key_at_its_own_step():
    composite = task(kind="composite", numbers=19, spread=6)
    batch = composite.sampler(IDS, TRAIN.model_copy(update={"batch_size": 600}), 0, True).draw(0)
    read, found = composite.sequences(batch), set()
    for row in read.symbol.tolist():
        second, pair, key = composed(row, 19)
        assert key % 6 != second - 3
        found.add(pair)
    assert len(found) == 15
    assert (4, 3) not in found
    assert_drawn_from(batch.at, torch.ones(4))


# Inverse matching


def keys_of(row: list[int]) -> list[tuple[int, ...]]:
    return [tuple(row[i : i + 3]) for i in range(0, 20, 4)]


@pytest.mark.parametrize("order", ["congruent", "mixed", "unseen"])
def test_five_orders_of_three_numbers_are_read_and_the_reversed_one_is_found(order):
    inverse = task(kind="inverse", numbers=12, unseen=9, noise=2, lengths={"kind": "fixed", "value": 20})
    read, steps = inverse.held_out(IDS, order, 0, 25), torch.tensor([2, 20])
    for row, question, asked in zip(
        read.symbol.tolist(), read.question.tolist(), inverse.targets(read, steps)[:, 0].tolist(), strict=True
    ):
        keys, foreign = keys_of(row), {row[i] for i in (3, 7, 11, 15, 19, 20, 24)}
        assert len(set(keys)) == 5
        assert {tuple(sorted(key)) for key in keys} == {tuple(sorted(keys[0]))}
        assert len(set(keys[0])) == 3
        assert keys[asked][::-1] == tuple(question)
        assert foreign <= {21, 22}
        assert all(12 <= x < 21 if order == "unseen" else x < 12 for x in keys[0])
        assert order == "unseen" or (len({x % 3 for x in keys[0]}) == 1) == (order == "congruent")
    assert inverse.known(read, steps).tolist() == [[False, True]] * 40


def test_training_never_shows_numbers_that_are_equal_modulo_three():
    inverse = task(kind="inverse", numbers=9, unseen=9, noise=2, lengths={"kind": "fixed", "value": 20})
    batch = inverse.sampler(IDS, TRAIN.model_copy(update={"batch_size": 600}), 0, True).draw(0)
    assert all(len({x % 3 for x in row}) > 1 and len(set(row)) == 3 for row in batch.numbers.tolist())
    assert_drawn_from(batch.asked, torch.ones(5))


# How answers are judged


def test_levels_of_a_guess_and_of_what_is_known():
    mqar = task(kind="mqar", keys=4, pairs=2)
    read, steps = mqar.held_out(IDS, "gap", 0, 8), torch.tensor([1, 2, 8])
    known = {name: scores.values["error_rate"].mean(0) for name, scores in mqar.baselines(read, steps, None).items()}
    assert known["chance"].tolist() == [0.75] * 3
    assert known["exact"].tolist() == [0.75, 0, 0]
    assert ACCURACY.of_mean(0.75) == 25
    parity = task(kind="automaton", automaton="parity")
    word, at = parity.held_out(IDS, "uniform", 0, 8), torch.tensor([1, 8])
    right = torch.nn.functional.one_hot(parity.targets(word, at), 2).float()
    assert not parity.errors(right, word, at)["scaled_error"].any()
    assert (parity.errors(-right, word, at)["scaled_error"] == 2).all()
    assert SCALED_ACCURACY.of_mean(parity.baselines(word, at, None)["chance"].values["scaled_error"].mean()) == 0


def test_the_loss_is_cross_entropy_over_all_answers():
    mqar = task(kind="mqar", keys=4, pairs=2)
    read, steps = mqar.held_out(IDS, "gap", 0, 8), torch.tensor([2, 8])
    logits = torch.randn(40, 2, 2, 4, generator=torch.Generator().manual_seed(0))
    want = torch.nn.functional.cross_entropy(
        logits.flatten(0, 2), mqar.targets(read, steps).flatten(), reduction="none"
    )
    torch.testing.assert_close(mqar.losses(logits, read, steps), want.view(40, 2, 2).mean(2))


# Refusals


WINDOWS = {"remedies": [{"name": "w", "kind": "assemble", "mode": "stream"}]}
WINDOW = {"remedies": [{"name": "w", "kind": "window", "mode": "stream"}]}
LOAD = {"task": {"keys": 256}, "remedy_evaluation": {"orders": ["load"]}, "claims": {"primary": []}}
LOOKS = {"images": 8, "fit_images": 8, "attention_images": 1, "attention_rows": 1, "gradient_probes": 1, "swaps": 1}
PROBES = {
    "probes": {"runs": ["mamba_16"], "length_ratios": [2], "order": "gap", "read_every": 0.5, "chunk": 8, **LOOKS}
}
READ_OUTS = {"probes": PROBES["probes"] | {"kinds": ["read_outs"]}}
TRUNCATED = {
    "name": "a",
    "claim": "b",
    "claimed": "below",
    "of": {"run": "mamba_16", "remedy": "truncate", "at": "4 L0"},
    "minus": {"run": "mamba_16", "remedy": "vanilla", "at": "L0"},
}


@pytest.mark.parametrize(
    ("preset", "change", "message"),
    [
        ("automaton", WINDOWS, r"remedies\.0: .* nothing is left of its state"),
        ("automaton", WINDOW, r"remedies\.0: .* every symbol moves"),
        ("automaton", {"claims": {"primary": [TRUNCATED]}}, r"found remedy 'truncate', expected: one of"),
        (
            "mqar",
            {"evaluation": {"orders": ["gap", "load"]}},
            r"evaluation\.max_length_ratio: found .* 400 steps, expected: at most 32",
        ),
        ("mqar", LOAD | WINDOWS, r"remedies\.0: .* changes with every step"),
        ("mqar", {"task": {"pairs": 9}}, r"task\.lengths: found at most 16 steps, expected: 18 or more"),
        ("achilles_composite", {"task": {"spread": 9}}, r"task\.spread: found 9, expected: at most 8"),
        (
            "achilles_inverse",
            {"task": {"lengths": {"kind": "fixed", "value": 19}}},
            r"expected: 20 or more, which 5 keys",
        ),
        (
            "achilles_inverse",
            WINDOWS | {"claims": {"primary": []}},
            r"remedies\.0: .* the keys stand among the first steps",
        ),
        ("achilles_composite", WINDOW, r"remedies\.0: .* stands among the first steps"),
        ("copying", {"task": {"spread": 20}}, r"task\.spread: found 20"),
        (
            "mqar",
            PROBES,
            r"probes: found runs of task mqar, expected: kinds: \['told_lengths'\], since it follows cells",
        ),
        (
            "mqar",
            READ_OUTS,
            r"probes: found runs of task mqar, expected: kinds: \['told_lengths'\], since its predictions are no pictures",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_reason(preset, change, message):
    with pytest.raises(ConfigError, match=message):
        load_params(ROOT / "params.yaml", preset=preset, overrides=change)
