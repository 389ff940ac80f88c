"""Times one training step of every mixer beside Mamba-1, at two sizes, on whatever device there is.

    python benchmarks/mixers.py [--device auto] [--size small|large|both] [--mixers mamba,mamba2] [--backend fla]
                                [--plans 6] [--steps 10] [--rounds 3] [--batch 4] [--eager] [--out table.md]

    small   the paper's task: 8 blocks of width 16, batch 64, 1,537 tokens (1,025 patches and 512 queries)
    large   4 blocks of width 256, batch 256, 64 tokens

A step is a forward and a backward pass of the blocks on random tokens, with want_state=False as in training; on CUDA it is in bfloat16
autocast and recorded as a graph, as in `lgmamba train`; with --eager it is not recorded. Mixers take turns, a round each; the times are
medians over rounds, ratios are to Mamba-1 in the same round. Sizes are those of `lgmamba.mixers.sizes`. Peak memory is that of the
second step. A mixer that fails is a row with its error. With --backend fla, mixers for which flash-linear-attention has kernels have a second
row, `name, fla`; its first step, which is not timed, tries hundreds of plans, one after the other, and takes many minutes: with --plans each
kernel tries so many of its plans at most, evenly spread from the least to the largest. Triton keeps what it compiled (TRITON_CACHE_DIR): with a
time limit, give each mixer a process of its own with --rounds 1 --steps 1 first, then time them all in one. --out is written after every row.
"""

import argparse
import math
import platform
import statistics
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from lgmamba.config.run import ModelConfig
from lgmamba.devices import torch_device
from lgmamba.files import write_atomic
from lgmamba.mixers.sizes import LARGE, SMALL
from lgmamba.mixers.table import configured
from lgmamba.model.stack import Stack
from lgmamba.train.graph import WARM_UP, Replayed

SIZES = {"small": (SMALL, 16, 8, 64, 1537), "large": (LARGE, 256, 4, 256, 64)}
"""Name -> mixers, d, blocks, batch, tokens."""


class Step:
    """Forward and backward pass of a stack."""

    def __init__(
        self,
        mixer: dict,
        backend: str,
        d: int,
        blocks: int,
        batch: int,
        tokens: int,
        device: torch.device,
        recorded: bool,
    ):
        values = {"d_model": d, "n_layer": blocks, "mixer": mixer, "adaptive": None, "scan_backend": backend}
        torch.manual_seed(0)
        self.stack = Stack(ModelConfig.model_validate(values), tokens).to(device).train()
        self.x = torch.randn(batch, tokens, d, device=device)
        self.device = device
        self.parameters = sum(p.numel() for p in self.stack.blocks[0].mixer.parameters())
        self.run = Replayed(self._run, self.stack.zero_grad) if recorded else self._run

    def _run(self, x: Tensor) -> tuple[Tensor]:
        self.stack.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = self.stack.encode(x, want_state=False)[0].float().square().mean()
        loss.backward()
        return (loss.detach(),)

    def seconds(self, steps: int) -> float:
        """Of one step."""
        synchronize(self.device)
        begun = time.perf_counter()
        for _ in range(steps):
            self.run(self.x)
        synchronize(self.device)
        return (time.perf_counter() - begun) / steps


def limit_plans(most: int) -> None:
    """Triton's kernels choose among so many of their plans at most, evenly spread from the least to the largest, whose loads take most memory."""
    from triton.runtime.autotuner import Autotuner

    def size(plan) -> tuple[int, ...]:
        return math.prod(plan.kwargs.values()), plan.num_stages, plan.num_warps

    def spread(tuner: Autotuner, given: dict) -> list:
        plans = sorted(left(tuner, given), key=size)
        return [plans[round(i * (len(plans) - 1) / max(most - 1, 1))] for i in range(min(most, len(plans)))]

    left = Autotuner.prune_configs
    Autotuner.prune_configs = spread


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak(step: Step, device: torch.device) -> float:
    """GB that a step takes; 0 on a CPU, where nobody counts. The step before it, not counted, is that which compiles."""
    step.seconds(1)
    if device.type != "cuda":
        return 0.0
    step.stack.zero_grad(set_to_none=True)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step.seconds(1)
    return (torch.cuda.max_memory_allocated(device) - before) / 1e9


def forms(mixers: dict[str, dict], names: list[str] | None, backend: str) -> Iterator[tuple[str, dict, str]]:
    """Label, mixer and backend of every row: our form of each, and that of the backend where it serves the mixer."""
    for name, mixer in mixers.items():
        if names and name not in names:
            continue
        yield name, mixer, "auto"
        if backend != "auto" and configured(mixer).FLA:
            yield f"{name}, {backend}", mixer, backend


def measure(size: str, names: list[str] | None, device: torch.device, args: argparse.Namespace) -> Iterator[str]:
    """Rows of a table; each mixer is timed next to Mamba-1, and freed before the next one."""
    mixers, d, blocks, batch, tokens = SIZES[size]
    batch = args.batch or batch
    recorded = device.type == "cuda" and not args.eager
    warm = WARM_UP + 1 if recorded else 1
    known = Step(mixers["mamba"], "auto", d, blocks, batch, tokens, device, recorded)
    base_memory, base_parameters = peak(known, device), known.parameters
    known.seconds(warm)
    for name, mixer, backend in forms(mixers, names, args.backend):
        try:
            mine = known if name == "mamba" else Step(mixer, backend, d, blocks, batch, tokens, device, recorded)
            memory = base_memory if mine is known else peak(mine, device)
            mine.seconds(warm)
            times, ratios = [], []
            for _ in range(args.rounds):
                base, own = known.seconds(args.steps), mine.seconds(args.steps)
                times.append(own)
                ratios.append(own / base)
            found = f"{1e3 * statistics.median(times):.2f} | {statistics.median(ratios):.2f} | {memory:.2f}"
        except Exception as error:  # of any library below
            found = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]} | |"
            mine = None
        if mine is None:
            yield f"| {size} | {name} | | | {found} |"
        else:
            yield f"| {size} | {name} | {mine.parameters:,} | {mine.parameters / base_parameters - 1:+.1%} | {found} |"
        del mine
        if device.type == "cuda":
            torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--size", default="both", choices=["small", "large", "both"])
    parser.add_argument("--mixers", help="names, with commas; all by default")
    parser.add_argument("--backend", default="auto", choices=["auto", "fla"], help="fla: its kernels beside our form")
    parser.add_argument("--plans", type=int, help="that each kernel of the backend tries at most; all by default")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, help="in place of the size's own, for a CPU")
    parser.add_argument("--eager", action="store_true", help="record no CUDA graph")
    parser.add_argument("--out")
    args = parser.parse_args()
    if unknown := set((args.mixers or "mamba").split(",")) - {*SMALL, *LARGE}:
        parser.error(f"--mixers: {', '.join(sorted(unknown))} unknown; expected some of {', '.join(LARGE)}")
    if args.plans:
        limit_plans(args.plans)
    device = torch_device(args.device)
    name = (
        torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {platform.processor() or platform.machine()}"
    )
    head = [
        f"One training step on {name}, torch {torch.__version__}.",
        "",
        "| size | mixer | parameters a layer | to Mamba-1's | ms a step | times Mamba-1's | GB |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    print("\n".join(head), flush=True)
    lines = head
    for size in SIZES if args.size == "both" else [args.size]:
        for row in measure(size, args.mixers.split(",") if args.mixers else None, device, args):
            print(row, flush=True)
            lines.append(row)
            if args.out:
                write_atomic(args.out, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
