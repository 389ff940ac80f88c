"""The tables of docs/mixers.md, from what the configurations say: `python -m lgmamba.mixers.table` writes them anew. Imports no torch."""

from pathlib import Path

from pydantic import TypeAdapter

from lgmamba.config.run import ModelConfig
from lgmamba.files import write_atomic
from lgmamba.mixers.base import EXACT, VERBS, MixerBase
from lgmamba.mixers.configs import MixerConfig
from lgmamba.mixers.sizes import LARGE, SMALL

PAGE = Path(__file__).parents[2] / "docs" / "mixers.md"
BEGIN, END = "<!-- generated:mixers -->\n", "<!-- /generated -->\n"
SIGNS = {True: "exact", False: "analogue"}


def configured(values: dict) -> MixerBase:
    """A mixer's configuration."""
    return TypeAdapter(MixerConfig).validate_python(values)


def tables() -> str:
    """Sizes and sources, then verbs, then in words what is analogue or missing."""
    mixers = {name: configured(values) for name, values in LARGE.items()}
    lines = [
        "| name | mixer | source | numbers a layer, width 256 | width 16 | stacked training |",
        "| --- | --- | --- | ---: | ---: | --- |",
    ]
    for name, mixer in mixers.items():
        sizes = []
        for table, width in ((LARGE, 256), (SMALL, 16)):
            known = configured(table[name]) if name in table else None
            sizes.append(
                ""
                if known is None
                else f"{known.numbers(_model(known, width)):,}"
                if known.modes(_model(known, width))
                else "grows"
            )
        alone = f"alone: {mixer.alone}" if mixer.alone else "yes"
        lines.append(
            f"| {name} | {mixer.title}: {mixer.description} | {mixer.SOURCE} | {sizes[0]} | {sizes[1]} | {alone} |"
        )
    lines += ["", f"| mixer |{''.join(f' {verb} |' for verb in VERBS)}", f"| --- |{' --- |' * len(VERBS)}"]
    for name, mixer in mixers.items():
        cells = ["-" if verb not in mixer.supports else SIGNS[mixer.supports[verb] == EXACT] for verb in VERBS]
        lines.append(f"| {name} |{''.join(f' {cell} |' for cell in cells)}")
    for name, mixer in mixers.items():
        said = [f"* `{verb}`: {mixer.supports[verb]}" for verb in VERBS if mixer.supports.get(verb, EXACT) != EXACT]
        said += [f"* no `{verb}`: {mixer.why_not[verb]}" for verb in VERBS if verb in mixer.why_not]
        if said:
            lines += ["", f"**{name}**", "", *said]
    return "\n".join(lines) + "\n"


def _model(mixer: MixerBase, width: int) -> ModelConfig:
    return ModelConfig(d_model=width, n_layer=1, mixer=mixer, adaptive=None, scan_backend="auto")


def page() -> str:
    """The page with its tables as they should be."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + tables() + END + rest.partition(END)[2]


if __name__ == "__main__":
    write_atomic(PAGE, page())
