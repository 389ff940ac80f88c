"""What limits the scan kernels: a table from Nsight Compute's counters.

    ncu --set full --clock-control none -k regex:scan_ -o profile python benchmarks/scan_gpu_profile.py run
    ncu --import profile.ncu-rep --page details > details.txt
    ncu --import profile.ncu-rep --page source --csv > source.csv
    python benchmarks/scan_gpu_profile.py read details.txt source.csv [--out reports/benchmarks]

Writes scan_gpu_profile.{json,md}: per kernel its time, instructions per (sample, step, channel, state), instructions per
cycle (at most 4), occupancy, registers, memory rate, the commonest instructions and the commonest reasons for waiting.
"""

import argparse
import csv
import json
import re
from collections import Counter
from pathlib import Path

SHAPES = ((256, 64, 512), (32, 4096, 512))
"""(B, L, D), the shortest and the longest of the benchmark; N = 16."""
KERNELS = ("scan_forward", "scan_backward")
STATES = 16
LABELS = {
    "Duration": "duration",
    "Executed Ipc Active": "ipc",
    "Achieved Occupancy": "occupancy_percent",
    "Registers Per Thread": "registers",
    "Memory Throughput": "memory_gb_per_s",
    "Issue Slots Busy": "issue_slots_percent",
}
TO_MS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0}


def run() -> None:
    """One forward that keeps checkpoints and one backward per shape."""
    import torch
    from scan_gpu import call, make_inputs, ours

    for B, L, D in SHAPES:
        call(ours, make_inputs(B, L, D, STATES, 1, seed=0), "forward + backward")
        torch.cuda.synchronize()


def read_details(path: Path) -> list[dict]:
    """Counters per launch, in order."""
    launches: list[dict] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if re.match(r"  scan_(forward|backward) \(", line):
            launches.append({"kernel": line.split()[0]})
        for label, key in LABELS.items():
            match = re.match(rf"    {re.escape(label)} +(\S+) +([\d.,]+)$", line)
            if match and launches and (key != "memory_gb_per_s" or match[1].endswith("byte/s")):
                value = float(match[2].replace(",", ""))
                scale = {"Tbyte/s": 1e3}.get(match[1], TO_MS[match[1]] if key == "duration" else 1.0)
                launches[-1]["ms" if key == "duration" else key] = value * scale
    return launches


def read_source(path: Path) -> list[dict]:
    """Instructions executed, their mix and the reasons for waiting, per launch, in order."""
    launches: list[dict] = []
    columns: list[str] = []
    with path.open(encoding="utf-8", newline="") as f:
        for row in csv.reader(f):
            if row and row[0] == "Kernel Name":
                launches.append({"kernel": row[1], "instructions": 0.0, "mix": Counter(), "waiting": Counter()})
            elif row and row[0] == "Address":
                columns = row
            elif row and launches:
                _count(launches[-1], dict(zip(columns, row, strict=False)))
    return launches


def _count(launch: dict, line: dict[str, str]) -> None:
    words = line["Source"].split()
    name = words[1 if words[0].startswith("@") else 0].split(".")[0]
    executed = float(line["Instructions Executed"])
    launch["instructions"] += executed
    launch["mix"][name] += executed
    for column, value in line.items():
        if column.startswith("stall_") and "Not Issued" not in column:
            launch["waiting"][column.removeprefix("stall_")] += float(value or 0)


def shares(counts: Counter, most: int) -> str:
    total = sum(counts.values())
    return ", ".join(f"{name} {100 * n / total:.0f} %" for name, n in counts.most_common(most))


def summarise(details: list[dict], sources: list[dict]) -> list[dict]:
    sources = [s for s in sources if s["kernel"] in KERNELS]  # not those that cut a sequence and add parts up
    shapes = [shape for shape in SHAPES for _ in KERNELS]
    assert [d["kernel"] for d in details] == [s["kernel"] for s in sources] == list(KERNELS) * len(SHAPES)
    rows = []
    for (B, L, D), counters, source in zip(shapes, details, sources, strict=True):
        per_state = source["instructions"] * 32 / (B * L * D * STATES)
        mixes = {"mix": shares(source["mix"], 8), "waiting": shares(source["waiting"], 6)}
        rows.append({"B": B, "L": L, "D": D, **counters, "instructions_per_state": per_state, **mixes})
    return rows


def markdown(rows: list[dict]) -> str:
    names = ("B, L, D", "kernel", "ms", "instructions per state", "per cycle (of 4)", "occupancy", "registers", "GB/s")
    text = ["# Profile of the CUDA scan", "", "Made by `benchmarks/scan_gpu_profile.py`; bfloat16, N 16.", ""]
    text += ["| " + " | ".join(names) + " |", "| --- " * len(names) + "|"]
    for r in rows:
        cells = (f"{r['B']}, {r['L']}, {r['D']}", r["kernel"], f"{r['ms']:.3f}", f"{r['instructions_per_state']:.1f}")
        cells += (
            f"{r['ipc']:.2f}",
            f"{r['occupancy_percent']:.0f} %",
            f"{r['registers']:.0f}",
            f"{r['memory_gb_per_s']:.0f}",
        )
        text.append("| " + " | ".join(cells) + " |")
    text += ["", "Instructions and what warps wait for (`selected` is none: they issue), in shares:", ""]
    text += [f"- {r['B']}, {r['L']}, {r['D']} {r['kernel']}: {r['mix']}; waiting: {r['waiting']}." for r in rows]
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run")
    reading = commands.add_parser("read")
    reading.add_argument("details", type=Path)
    reading.add_argument("source", type=Path)
    reading.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    args = parser.parse_args()
    if args.command == "run":
        return run()
    rows = summarise(read_details(args.details), read_source(args.source))
    (args.out / "scan_gpu_profile.json").write_text(json.dumps(rows, indent=1) + "\n")
    (args.out / "scan_gpu_profile.md").write_text(markdown(rows))


if __name__ == "__main__":
    main()
