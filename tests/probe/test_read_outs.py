"""Read-outs fitted anew: against the normal equations, against a content that is known, and what is read out of which numbers."""

from dataclasses import replace

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from lgmamba.config.files import ProbesFile, read_config
from lgmamba.config.probes import ProbesConfig
from lgmamba.config.run import RunConfig
from lgmamba.model.runner import read_pieces, run_sequence, target_lengths
from lgmamba.probe import of_read_outs
from lgmamba.probe.content import PENALTIES, fit_read_out, psnr
from lgmamba.probe.context import ProbeContext
from lgmamba.probe.of_read_outs import READ_OUTS, read_outs
from lgmamba.probe.probes import run_probes
from lgmamba.tasks.registry import build_task
from tests.tasks.queried.tiny import SHAPE, exact_model, task_of, tiny_run
from tests.train.tiny import CPU

READ_OUTS_ALONE = {"kinds": ["read_outs"], "order": "permutation", "images": 9, "fit_images": 40, "chunk": 64}


def test_the_penalty_is_the_one_that_does_best_on_the_images_to_choose_by():
    g = torch.Generator().manual_seed(0)
    mixing = torch.randn(5, 12, generator=g, dtype=torch.float64)

    def drawn(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.randn(n, 5, generator=g, dtype=torch.float64)
        return images @ mixing + 0.5 * torch.randn(n, 12, generator=g, dtype=torch.float64), images

    (h, images), judged, test = drawn(30), drawn(40), drawn(10)
    z, y = (h - h.mean(0)) / h.std(0), images - images.mean(0)
    by_hand = {}
    for penalty in PENALTIES:  # the primal form; penalties are in units of the mean eigenvalue of the Gram matrix
        scaled = penalty * z.square().sum() / len(z)
        weights = torch.linalg.solve(z.T @ z + scaled * torch.eye(12, dtype=torch.float64), z.T @ y)
        by_hand[penalty] = lambda x, w=weights: images.mean(0) + (x - h.mean(0)) / h.std(0) @ w
    best = min(PENALTIES, key=lambda penalty: float((by_hand[penalty](judged[0]) - judged[1]).square().mean()))
    found = fit_read_out(h, images, judged)
    assert found.penalty == best
    assert PENALTIES[0] < best < PENALTIES[-1]
    torch.testing.assert_close(found(test[0]), by_hand[best](test[0]), rtol=1e-8, atol=1e-10)


def looked(study, run: str, out) -> pl.DataFrame:
    trained = read_config(study.layout.run_json(run, 0), RunConfig)
    config = ProbesConfig.model_validate(READ_OUTS_ALONE | {"runs": [run]})
    file = ProbesFile(run=trained, probes=config, split="test", steps=config.steps(trained.L0))
    run_probes(file, study.home(run) / "train", study.data, out, CPU)
    assert {path.name for path in out.iterdir()} == {"probes.json", "record.json", "read_outs.parquet"}
    return pl.read_parquet(out / "read_outs.parquet")


@pytest.mark.parametrize("run", ["plain", "told"])
def test_read_outs_of_a_trained_run_beside_its_own(study, tmp_path, run):
    found = looked(study, run, tmp_path)
    steps = [2, 6, 24, 150]  # L0 / 4, L0, 4 L0, 25 L0
    assert found.select("step", "read_out").rows() == [(step, name) for step in steps for name in READ_OUTS]
    task = build_task(read_config(study.layout.run_json(run, 0), RunConfig), study.dataset)
    seq = task.held_out(study.rows(9), "permutation", 0, 150)
    drawn = run_sequence(study.model(run), seq, steps, "prefix")
    want = [psnr(drawn[:, k].flatten(1), seq.targets) for k in range(4)]
    assert found.filter(read_out="trained")["psnr"].to_list() == pytest.approx(want, abs=1e-4)
    by_step = {name: found.filter(read_out=name)["psnr"].to_list() for name in READ_OUTS}
    assert by_step["refitted"][1] == by_step["refitted_at_L0"][1]
    assert by_step["refitted"] != by_step["refitted_at_L0"]
    assert set(found.filter(read_out="refitted")["penalty"]) <= set(PENALTIES)


@pytest.mark.parametrize("run", ["plain", "told"])
def test_sequences_read_in_groups_give_what_all_of_them_do_side_by_side(study, tmp_path, monkeypatch, run):
    whole = looked(study, run, tmp_path / "whole")
    monkeypatch.setattr(of_read_outs, "AT_A_TIME", 7)  # of 40 and 9, neither of which it divides
    parted = looked(study, run, tmp_path / "parted")
    assert_frame_equal(parted, whole, rel_tol=1e-4)


def test_content_that_the_decoder_no_longer_finds_is_found_by_a_refitted_read_out(study, tmp_path):
    """A decoder that is turned round draws nothing, and what it is given has not changed."""
    config = read_config(study.layout.run_json("plain", 0), RunConfig)
    look = ProbesConfig.model_validate(READ_OUTS_ALONE | {"runs": ["plain"], "read_out_at": ["L0"]})
    model, task = study.model("plain"), build_task(config, study.dataset)
    model.requires_grad_(False)
    file = ProbesFile(run=config, probes=look, split="test", steps=[6])
    before = read_outs(ProbeContext(model, task, study.dataset, file))["read_outs"]["psnr"]
    for weight in model.decoder.parameters():
        weight.neg_()
    after = read_outs(ProbeContext(model, task, study.dataset, file))["read_outs"]["psnr"]
    assert after[0] < before[0] - 0.5
    assert after[1:] == before[1:]


@pytest.mark.parametrize("stride", [None, 2])
def test_of_queries_all_latents_of_the_picture_are_read_out(stride):
    """What the decoder makes of the numbers that a read-out is given is the picture that is asked for."""
    run = tiny_run(task={"ask": {"stride": stride}})
    model, task = exact_model(run, SHAPE), task_of(run)
    seq = task.held_out(torch.arange(3), "uniform", 0, 4)
    seq = replace(seq, images=seq.images.double() / 255)
    (chunk,) = read_pieces(model, seq, [4], target_lengths(model, 3, 4))
    latents = model.for_read_out(chunk.outputs[:, -1], chunk.state)
    drawn = model.canvas.picture(model.decode(latents.unflatten(1, (-1, 8))))
    torch.testing.assert_close(drawn, model.ask(chunk.state, seq, 4))
