"""Times one training step of every mixer beside Mamba-1, at two sizes, on whatever device there is.

    python benchmarks/mixers.py [--device auto] [--size small|large|both] [--kinds mamba,mamba2] [--steps 10] [--rounds 3] [--batch 4]
                                [--eager] [--out table.md]

    small   the paper's task: 8 blocks of width 16, batch 64, 1,537 tokens (1,025 patches and 512 queries)
    large   4 blocks of width 256, batch 256, 64 tokens

A step is a forward and a backward pass of the blocks on random tokens, with want_state=False as in training; on CUDA it is in bfloat16
autocast and recorded as a graph, as in `lgmamba train`; with --eager it is not recorded. Mixers take turns, a round each; the times are
medians over rounds, ratios are to Mamba-1 in the same round. Sizes are those of `lgmamba.mixers.sizes`. Peak memory is that of the first
step. A mixer that fails is a row with its error.
"""

import argparse
import platform
import statistics
import time

import torch
from torch import Tensor

from lgmamba.config.run import ModelConfig
from lgmamba.devices import torch_device
from lgmamba.files import write_atomic
from lgmamba.mixers.sizes import LARGE, SMALL
from lgmamba.model.stack import Stack
from lgmamba.train.graph import WARM_UP, Replayed

SIZES = {"small": (SMALL, 16, 8, 64, 1537), "large": (LARGE, 256, 4, 256, 64)}
"""Name -> mixers, d, blocks, batch, tokens."""


class Step:
    """Forward and backward pass of a stack."""

    def __init__(self, mixer: dict, d: int, blocks: int, batch: int, tokens: int, device: torch.device, recorded: bool):
        values = {"d_model": d, "n_layer": blocks, "mixer": mixer, "adaptive": None, "scan_backend": "auto"}
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


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak(step: Step, device: torch.device) -> float:
    """GB that the first step takes; 0 on a CPU, where nobody counts."""
    if device.type != "cuda":
        step.seconds(1)
        return 0.0
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step.seconds(1)
    return (torch.cuda.max_memory_allocated(device) - before) / 1e9


def measure(size: str, kinds: list[str] | None, device: torch.device, args: argparse.Namespace) -> list[str]:
    """Rows of a table; each mixer is timed next to Mamba-1, and freed before the next one."""
    mixers, d, blocks, batch, tokens = SIZES[size]
    batch = args.batch or batch
    recorded = device.type == "cuda" and not args.eager
    warm = WARM_UP + 1 if recorded else 1
    known = Step(mixers["mamba"], d, blocks, batch, tokens, device, recorded)
    base_memory, base_parameters = peak(known, device), known.parameters
    known.seconds(warm)
    rows = []
    for name, mixer in mixers.items():
        if kinds and name not in kinds:
            continue
        try:
            mine = known if name == "mamba" else Step(mixer, d, blocks, batch, tokens, device, recorded)
            memory = base_memory if mine is known else peak(mine, device)
            mine.seconds(warm)
            times, ratios = [], []
            for _ in range(args.rounds):
                base, own = known.seconds(args.steps), mine.seconds(args.steps)
                times.append(own)
                ratios.append(own / base)
            found = f"{1e3 * statistics.median(times):.2f} | {statistics.median(ratios):.2f} | {memory:.2f}"
        except (RuntimeError, NotImplementedError) as error:
            found = f"{type(error).__name__}: {str(error).splitlines()[0][:160]} | |"
            mine = None
        if mine is None:
            rows.append(f"| {size} | {name} | | | {found} |")
        else:
            rows.append(
                f"| {size} | {name} | {mine.parameters:,} | {mine.parameters / base_parameters - 1:+.1%} | {found} |"
            )
        print(rows[-1], flush=True)
        del mine
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--size", default="both", choices=["small", "large", "both"])
    parser.add_argument("--kinds", help="names, with commas; all by default")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, help="in place of the size's own, for a CPU")
    parser.add_argument("--eager", action="store_true", help="record no CUDA graph")
    parser.add_argument("--out")
    args = parser.parse_args()
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
    rows = []
    for size in SIZES if args.size == "both" else [args.size]:
        kinds = args.kinds.split(",") if args.kinds else None
        rows += measure(size, kinds, device, args)
    if args.out:
        write_atomic(args.out, "\n".join([*head, *rows]) + "\n")


if __name__ == "__main__":
    main()
