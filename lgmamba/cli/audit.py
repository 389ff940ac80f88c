"""`lgmamba audit`: how far somebody's language model can read, and what repairs it."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from lgmamba.cli.options import Device


def audit(
    model: Annotated[
        str, typer.Argument(help="folder of a checkpoint (config.json, model.safetensors), or a name on the hub")
    ],
    L0: Annotated[int, typer.Option("--L0", min=1, help="length that the model was trained to read, tokens")],
    out: Annotated[Path, typer.Option(help="folder of the page, its frames and figures")],
    text: Annotated[
        list[Path] | None,
        typer.Option(help="text file, or folder of *.txt; several times. Python's own sources by default"),
    ] = None,
    of_bytes: Annotated[
        bool, typer.Option("--bytes", help="tokens are bytes: for a model without a tokenizer")
    ] = False,
    length_ratio: Annotated[
        list[float] | None, typer.Option(help="T / L0 that is read; several times. 1 2 4 8 by default")
    ] = None,
    passkey: Annotated[bool, typer.Option("--passkey", help="also ask for numbers told once in a long text")] = False,
    windows: Annotated[int, typer.Option(min=2, help="windows of text reported on; as many are calibrated on")] = 16,
    remedies: Annotated[
        Path | None,
        typer.Option(help="YAML file with `remedies:` as in params.yaml; ten that need no search by default"),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="iterations of a search, for remedies that have one")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="of random signs")] = 0,
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], typer.Option(help="of the weights")] = "float32",
    device: Device = "auto",
) -> None:
    """Read a text at several lengths with a language model, with and without remedies: what breaks, and what repairs it."""
    from lgmamba import devices
    from lgmamba.hosts.audit.run import LENGTH_RATIOS
    from lgmamba.hosts.audit.run import audit as run_audit
    from lgmamba.hosts.loading import load_encoder, load_model, load_tokens

    entries = None if remedies is None else read_remedies(remedies)
    length_ratios = tuple(length_ratio or LENGTH_RATIOS)
    devices.claim(device)
    loaded = load_model(model, dtype, devices.torch_device(device))
    encode = load_encoder(loaded, model, of_bytes)
    tokens = load_tokens(encode, text or [], 2 * windows * (round(max(length_ratios) * L0) + 1))
    name = Path(model).name if Path(model).is_dir() else model
    found = run_audit(
        loaded,
        tokens,
        L0,
        length_ratios=length_ratios,
        remedies=entries,
        windows=windows,
        steps=steps,
        seed=seed,
        out=out,
        named=name,
        encode=encode if passkey else None,
    )
    for line in found.answer:
        typer.echo(line.replace("**", ""))
    typer.echo(
        f"{out / 'audit.html'}: {len(found.kinds)} rows at {len(found.about['lengths'])} lengths, in {found.about['seconds']} s"
    )


def read_remedies(path: Path) -> list[dict[str, Any]]:
    """Entries of a YAML file with `remedies:` and nothing else.

    Raises:
        ConfigError: says what is in the file.
    """
    from lgmamba.config.base import ConfigError
    from lgmamba.config.text import read_yaml

    values = read_yaml(path)
    if set(values) != {"remedies"} or not isinstance(values["remedies"], list):
        found = f"keys {sorted(values)}" if set(values) != {"remedies"} else f"remedies: {values['remedies']!r}"
        raise ConfigError(f"{path}: found {found}, expected `remedies:` with a list, as in params.yaml")
    return values["remedies"]
