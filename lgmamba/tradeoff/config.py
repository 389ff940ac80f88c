"""Params of a study of classification against reconstruction; imports no torch.

workflow/tradeoff/<preset>.yaml  <-  values given by hand  ->  TradeoffParams  ->  {name: StackFile}
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from lgmamba.config.base import ConfigError, Name, Positive, Seed, Strict, validate
from lgmamba.config.data import DataConfig
from lgmamba.config.overlays import merge
from lgmamba.config.report import WordsConfig
from lgmamba.config.study import OutputsConfig, check_folders, check_seeds, named_outputs
from lgmamba.config.text import read_yaml
from lgmamba.tradeoff.claims import TradeoffClaims
from lgmamba.tradeoff.encoders import Encoder
from lgmamba.tradeoff.encoders.base import Shape
from lgmamba.tradeoff.stack_file import HeadsConfig, HeadTrainConfig, StackFile, StackTrainConfig, Variant, Weight

PRESETS = Path("workflow/tradeoff")

Control = Literal["raw", "split", "random_labels", "random_encoder", "doubled", "linear"]


class FrontierConfig(Strict):
    """An encoder at several latent sizes."""

    encoder: Name
    latents: list[Positive] = Field(min_length=1, description="latent sizes m")
    weights: list[Weight] | None = Field(None, description="weights of classification; null: those of the study")


class ControlsConfig(Strict):
    """Controls, all at one encoder and latent size."""

    encoder: Name
    latent: Positive
    kinds: list[Control] = Field(min_length=1)
    weights: list[Weight] | None = Field(
        None,
        description="weights of classification of `raw` and `random_labels`; null: those of the study",
        exclude_if=lambda weights: weights is None,  # files of studies without it stay what they are, to the byte
    )


class PicturesConfig(Strict):
    """Which stack's reconstructions are kept as pictures; of the first seed."""

    encoder: Name
    latent: Positive
    images: Positive = Field(description="test images, the first of the split")


class TradeoffConfig(Strict):
    """What is trained."""

    encoders: dict[Name, Encoder] = Field(min_length=1)
    heads: HeadsConfig
    weights: list[Weight] = Field(min_length=3, description="weights of classification; 0 and 1 must be among them")
    train: StackTrainConfig
    probes: HeadTrainConfig
    frontier: list[FrontierConfig] = Field(min_length=1)
    controls: ControlsConfig | None = None
    pictures: PicturesConfig
    test_images: Positive | None = Field(None, description="test images used, at most; null: all")

    @model_validator(mode="after")
    def _consistent(self):
        stacks = {(f.encoder, m) for f in self.frontier for m in f.latents}
        for path, name in self._named():
            if name not in self.encoders:
                raise ValueError(f"{path}.encoder: found {name!r}, expected: one of {sorted(self.encoders)}")
        for path, weights in (
            ("weights", self.weights),
            *((f"frontier.{i}.weights", f.weights) for i, f in enumerate(self.frontier) if f.weights is not None),
            *([("controls.weights", self.controls.weights)] if self.controls and self.controls.weights else []),
        ):
            if not {0.0, 1.0} <= set(weights):
                raise ValueError(f"{path}: found {weights}, expected: 0 and 1 among them, the ends of the frontier")
            if len(set(weights)) != len(weights):
                raise ValueError(f"{path}: found {weights}, expected: each weight once")
        if len(stacks) != sum(len(f.latents) for f in self.frontier):
            raise ValueError("frontier: found an encoder twice at one latent size, expected: once")
        for path, chosen in (("controls", self.controls), ("pictures", self.pictures)):
            if chosen is not None and (chosen.encoder, chosen.latent) not in stacks:
                raise ValueError(
                    f"{path}: found {chosen.encoder!r} at latent {chosen.latent}, expected: one of the frontier's stacks"
                )
        if self.controls is not None and "split" in self.controls.kinds:
            if self.controls.latent % 2:
                raise ValueError(
                    f"controls.latent: found {self.controls.latent}, expected an even number, since `split` halves it"
                )
            self.encoders[self.controls.encoder].halved()
        return self

    def _named(self) -> list[tuple[str, str]]:
        named = [(f"frontier.{i}", f.encoder) for i, f in enumerate(self.frontier)]
        named += [("pictures", self.pictures.encoder)]
        return named + ([("controls", self.controls.encoder)] if self.controls is not None else [])


class TradeoffParams(Strict):
    """A preset of workflow/tradeoff as a whole."""

    study: Name
    data: DataConfig
    tradeoff: TradeoffConfig
    seeds: list[Seed] = Field(min_length=1)
    claims: TradeoffClaims
    report: WordsConfig
    outputs: OutputsConfig
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto = CUDA where there is one")

    @model_validator(mode="before")
    @classmethod
    def _outputs_by_study(cls, values: Any) -> Any:
        return named_outputs(values)

    @model_validator(mode="after")
    def _consistent(self):
        check_folders(self.outputs)
        check_seeds(self.seeds)
        self._check_labels()
        if self.data.size is not None:
            shape = (1 if self.data.channels == "grey" else 3, *self.data.size)
            if problems := misfits(self.tradeoff, shape):
                raise ValueError("\n  ".join(problems))
        mains = {stack.name: stack for stack in self.stacks().values() if stack.variant == "main"}
        self.claims.check({(s.encoder_name, s.latent): s.weights for s in mains.values()})
        return self

    def _check_labels(self) -> None:
        source, splits = self.data.source, self.data.splits
        if source.kind == "none":
            raise ValueError("data.source.kind: found 'none', expected: a source of images with classes")
        if getattr(source, "label_column", "") is None:
            raise ValueError(
                "data.source.label_column: found null, expected: the column with the classes that are told apart"
            )
        if self.data.n_classes == 1:
            raise ValueError("data.n_classes: found 1, expected: at least 2 classes to tell apart, or null")
        official = getattr(source, "test_path", None) is not None
        for name, share, why in (
            ("val", splits.val, "heads converge by it"),
            ("test", 1.0 if official else splits.test, "every number is of it"),
        ):
            if share == 0:
                raise ValueError(f"data.splits.{name}: found 0, expected: more than 0, since {why}")

    def stacks(self) -> dict[str, StackFile]:
        """Name -> stack, those of the frontier first."""
        chosen, found = self.tradeoff, []
        for entry in chosen.frontier:
            for latent in entry.latents:
                found.append(self._stack(entry.encoder, latent, "main", entry.weights or chosen.weights))
        if chosen.controls is not None:
            found += [self._control(chosen.controls, kind) for kind in chosen.controls.kinds]
        return {stack.name: stack for stack in found}

    def _stack(self, encoder: str, latent: int, variant: Variant, weights: list[float], **other: Any) -> StackFile:
        chosen = self.tradeoff
        pictured = variant == "main" and (encoder, latent) == (chosen.pictures.encoder, chosen.pictures.latent)
        given = {
            "study": self.study,
            "name": f"{encoder}_m{latent}" + ("" if variant == "main" else f"_{variant}"),
            "variant": variant,
            "encoder_name": encoder,
            "encoder": chosen.encoders[encoder],
            "latent": latent,
            "weights": sorted(weights),
            "seeds": self.seeds,
            "heads": chosen.heads,
            "train": chosen.train,
            "probes": chosen.probes,
            "pictures": chosen.pictures.images if pictured else 0,
            "test_images": chosen.test_images,
            "images": self.images_digest,
        }
        return StackFile(**(given | other))

    def _control(self, controls: ControlsConfig, kind: Control) -> StackFile:
        encoder, latent, chosen = controls.encoder, controls.latent, self.tradeoff
        along = controls.weights or chosen.weights
        weights = {
            "raw": along,
            "split": [0.0, 1.0],
            "random_labels": [w for w in along if w < 1],
            "doubled": [0.0, 1.0],
        }
        other: dict[str, Any] = {}
        if kind == "doubled":
            other = {"train": chosen.train.model_copy(update={"steps": 2 * chosen.train.steps})}
        stack = self._stack(encoder, latent, kind, weights.get(kind, [0.0]), **other)
        if kind == "split":
            halved = {"encoder": stack.encoder.halved(), "latent": latent // 2}
            stack = stack.model_copy(update=halved)
        return stack

    @property
    def images_digest(self) -> str:
        """Digest of the configuration of the images."""
        from lgmamba.files import digest_of

        return digest_of(self.data.model_dump(mode="json"))

    @property
    def patch_sizes(self) -> list[int]:
        """Sides of patches that must divide the images."""
        return sorted({e.patch for e in self.tradeoff.encoders.values() if hasattr(e, "patch")})


def misfits(config: TradeoffConfig, shape: Shape) -> list[str]:
    """Why images of this shape do not fit the study: latents larger than the image, patches that do not divide it."""
    pixels = shape[0] * shape[1] * shape[2]
    found = [
        f"tradeoff.frontier.{i}.latents.{j}: found {m}, expected: at most the {pixels:,} numbers of an image"
        for i, entry in enumerate(config.frontier)
        for j, m in enumerate(entry.latents)
        if m > pixels
    ]
    for name, encoder in config.encoders.items():
        if problem := encoder.misfit(shape):
            found.append(f"tradeoff.encoders.{name}.{problem}")
    return found


def load_tradeoff(preset: str, overrides: dict[str, Any] | None = None, root: str | Path = ".") -> TradeoffParams:
    """Read and validate such a study.

    Args:
        preset: name of a file in workflow/tradeoff, or the path of a YAML file.
        overrides: further values on top, nested as in the file.
        root: the repository.
    Raises:
        ConfigError: missing or unreadable file, or invalid values; names each key.
    """
    path = Path(root) / PRESETS / f"{preset}.yaml"
    if not path.is_file() and not (path := Path(preset)).is_file():
        known = sorted(p.stem for p in (Path(root) / PRESETS).glob("*.yaml"))
        raise ConfigError(f"preset {preset!r}: neither one of {known} nor a YAML file")
    values = read_yaml(path)
    if base := values.pop("extends", None):
        values = merge(read_yaml(Path(root) / PRESETS / f"{base}.yaml"), values)
    return validate(TradeoffParams, merge(values, overrides) if overrides else values, str(path))
