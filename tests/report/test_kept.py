"""What figures and report read is what a study keeps, no more and no less."""

import pytest

from lgmamba.analysis import FOR_READERS, figures_of, frames_of, kept_frames
from lgmamba.analysis.collect import load_study
from lgmamba.analysis.kept import keep
from lgmamba.figures import draw
from lgmamba.records import ArtefactError
from lgmamba.report import context, probes, read_outs, remedies, told_lengths, write_report
from tests.figures.thumbnails import thumbnails


def test_kept_frames_are_those_that_are_read_and_the_levels_of_every_training(study):
    params = load_study(study.study)
    read = {*context.READ, "remedies", *(f"figure_{name}" for name in figures_of(params))}
    read |= {f"remedies_{name}" for name in remedies.READ} | {f"probes_{name}" for name in probes.READ}
    read |= {f"probes_{name}" for name in (*read_outs.READ, *told_lengths.READ)}
    read |= {"curves", "remedies_levels"}  # from these anybody can compute every contrast again
    assert set(kept_frames(params)) == {f"{name}.parquet" for name in read} | {"panel.safetensors"}
    assert {*kept_frames(params), *FOR_READERS} < set(frames_of(params))


def test_figures_and_report_need_nothing_else(study, tmp_path):
    params = load_study(study.study)
    kept = tmp_path / "kept"
    keep(params, kept_frames(params), "evaluate", study.frames, kept)
    assert {path.name for path in kept.iterdir()} == {*kept_frames(params), "study.json", "record.json"}
    for name in kept_frames(params):  # what figures are drawn of is the same
        assert (kept / name).read_bytes() == (study.frames / name).read_bytes()
    figures = tmp_path / "figures"
    with thumbnails(laid_out=False):
        for name in figures_of(params):
            draw(name, study.study, kept, figures)
    made = []
    for frames, out in ((study.frames, tmp_path / "a"), (kept, tmp_path / "b")):
        write_report(study.study, frames, figures, out)
        made.append({str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()})
    assert made[0] == made[1]
    (kept / "runs.parquet").unlink()
    with pytest.raises(ArtefactError, match=r"runs\.parquet: missing; `lgmamba evaluate"):
        write_report(study.study, kept, figures, tmp_path / "b")
