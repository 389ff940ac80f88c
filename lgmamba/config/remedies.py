"""Remedies as written in params.yaml: what is done to trained runs beyond their training length, and how it is tried.

An entry has a name, a kind with the keys of that kind, and a mode. prefix: the length T at which the output will be read is
known, and every T is a pass of its own. stream: one pass, in which only the step t is known. Which form runs in which mode is
decided by `MODES`, and nowhere else. An entry `{name, combine: [names]}` applies other entries one after the other.

Glossary: L0 longest training length of a run; T length of the sequence, t step, in patches; s factor.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from lgmamba.config.base import Multiple, Name, Positive, Strict
from lgmamba.config.task import Order

Mode = Literal["prefix", "stream"]
Calibrate = Literal["none", "zeroth_order", "gradient", "closed_form"]
Start = Annotated[Literal["one", "closed_form"], Field(description="where a search of factors begins")]
Above0 = Annotated[float, Field(gt=0, le=1e6)]
Share = Annotated[float, Field(ge=0, le=1)]
Bounds = Annotated[
    tuple[Above0, Above0] | None,
    Field(
        exclude_if=lambda bounds: bounds is None,  # entries without it stay what they are, to the byte
        description="smallest and largest s that calibration may find, with 1 between them; null: any. As released by Mamba "
        "Modulation for the Pile: [0.01, 1]",
    ),
]

CONTROLS = ("truncate", "reset", "subset_random", "subset_cover", "freeze", "paste")
"""Rows of every table besides `vanilla`, the model as it is; see `lgmamba.remedies.controls`."""
RESERVED = ("vanilla", "vanilla_stream", *CONTROLS)

MODES: dict[tuple[str, str], tuple[Mode, ...]] = {
    ("spectrum", "mult"): ("prefix", "stream"),
    ("spectrum", "pow"): ("prefix", "stream"),
    ("spectrum", "clip"): ("prefix", "stream"),
    ("step_size", "uniform"): ("prefix",),
    ("step_size", "power"): ("stream",),
    ("step_size", "layer"): ("prefix", "stream"),
    ("step_size", "channel"): ("prefix", "stream"),
    ("step_size", "norm"): ("prefix",),
    ("decimamba", "step_size"): ("prefix", "stream"),
    ("decimamba", "random"): ("prefix",),
    ("decimamba", "newest"): ("prefix",),
    ("longmamba", "closed_form"): ("prefix", "stream"),
    ("longmamba", "as_released"): ("prefix", "stream"),
    ("longmamba", "bound"): ("prefix",),
    ("longmamba", "random_steps"): ("prefix",),
    ("retain_insert", "gains"): ("prefix", "stream"),
    ("normalise_state", "layer"): ("prefix", "stream"),
    ("normalise_state", "channel"): ("prefix", "stream"),
    ("window", "exact"): ("prefix", "stream"),
    ("window", "overlap"): ("prefix", "stream"),
    ("schedule", "step_size"): ("stream",),
    ("schedule", "modes"): ("stream",),
    ("schedule", "channels"): ("stream",),
    ("assemble", "consecutive"): ("prefix", "stream"),
    ("assemble", "cover"): ("prefix",),
}
"""(kind, form) -> the modes in which it runs."""


class _Entry(Strict):
    name: Name
    mode: Mode = Field(description="prefix: one pass for each T, told T; stream: one pass, which knows t only")

    @property
    def form_name(self) -> str:
        """What decides, with the kind, where the entry can run; a key of `MODES`."""
        raise NotImplementedError

    @property
    def calibrated(self) -> bool:
        """Whether values must be found on calibration images."""
        return False

    @model_validator(mode="after")
    def _runs_in_mode(self):
        modes = MODES[self.kind, self.form_name]
        if self.mode not in modes:
            raise ValueError(
                f"remedy {self.name!r}: found mode: {self.mode}, but {self.kind} of form {self.form_name} runs in "
                f"{' or '.join(modes)} mode only; expected mode: {' or '.join(modes)}"
            )
        return self


class SpectrumRemedy(_Entry):
    """Scale the spectrum of A (Mamba Modulation, arXiv:2509.19633)."""

    kind: Literal["spectrum"]
    form: Literal["mult", "pow", "clip"] = Field(description="|A| <- s |A|, |A|^s, or within quantiles of its layer")
    scope: Literal["global", "layer", "mode", "channel_mode"] = Field(
        "layer",
        description="one factor for all layers; or in each layer one, one for each mode n, or for each (channel, mode)",
    )
    calibrate: Calibrate = "none"
    start: Start = "one"
    bounds: Bounds = None
    factor: Above0 | None = Field(None, description="s at the longest calibration length, where nothing is calibrated")
    band: tuple[Share, Share] | None = Field(None, description="quantiles of |A| that clip keeps")

    @model_validator(mode="after")
    def _complete(self):
        if self.form == "clip":
            if self.band is None or not self.band[0] < self.band[1]:
                raise ValueError(
                    f"remedy {self.name!r}: form clip expects band: [low, high], low < high; got {self.band}"
                )
            if self.calibrate != "none" or self.factor is not None or self.bounds is not None:
                raise ValueError(
                    f"remedy {self.name!r}: form clip has no factor: leave out calibrate, factor and bounds"
                )
            return self
        if self.band is not None:
            raise ValueError(f"remedy {self.name!r}: band belongs to form clip; found form: {self.form}")
        _factor_or_calibration(self.name, self.calibrate, self.factor)
        if "closed_form" in (self.calibrate, self.start) and (self.form, self.scope) != ("mult", "layer"):
            raise ValueError(
                f"remedy {self.name!r}: closed_form knows form: mult with scope: layer; found form: {self.form}, scope: {self.scope}"
            )
        _start_of_a_search(self.name, self.calibrate, self.start)
        _bounds_of_a_calibration(self.name, self.calibrate, self.bounds)
        return self

    @property
    def form_name(self) -> str:
        return self.form

    @property
    def calibrated(self) -> bool:
        return self.calibrate != "none"

    @property
    def words(self) -> str:
        if self.form == "clip":
            return f"|A| within its quantiles {self.band[0]:g} to {self.band[1]:g}"
        of = {"global": "", "layer": " by layer", "mode": " by layer and mode", "channel_mode": " by channel and mode"}
        found = _found(self.calibrate, self.factor, self.start, self.bounds)
        return f"{'s |A|' if self.form == 'mult' else '|A|^s'}{of[self.scope]}, {found}"


class StepSizeRemedy(_Entry):
    """Scale the step sizes (MambaExtend)."""

    kind: Literal["step_size"]
    form: Literal["uniform", "power", "layer", "channel", "norm"] = Field(
        description="uniform: (L0/T)^p; power: (L0/t)^p; layer, channel: a factor for each layer, for each channel of each layer; "
        "norm: sums over T as over L0, by channel"
    )
    p: Annotated[float, Field(ge=0, le=100)] | None = Field(None, description="power of L0/T or L0/t; null: 1")
    calibrate: Calibrate = Field(
        "none", description="for layer and channel; and for power, a factor on p for each layer"
    )
    start: Start = "one"
    bounds: Bounds = None
    factor: Above0 | None = Field(None, description="s at the longest calibration length, where nothing is calibrated")

    @model_validator(mode="after")
    def _complete(self):
        if self.p is not None and self.form not in ("uniform", "power"):
            raise ValueError(f"remedy {self.name!r}: p belongs to forms uniform and power; found form: {self.form}")
        if self.form in ("layer", "channel"):
            _factor_or_calibration(self.name, self.calibrate, self.factor)
        elif self.factor is not None:
            raise ValueError(
                f"remedy {self.name!r}: factor belongs to forms layer and channel; found form: {self.form}"
            )
        elif self.calibrate != "none" and (self.form != "power" or self.calibrate == "closed_form"):
            raise ValueError(
                f"remedy {self.name!r}: found calibrate: {self.calibrate} with form: {self.form}; expected form layer or channel, or "
                "form power with zeroth_order or gradient"
            )
        elif self.bounds is not None:
            raise ValueError(
                f"remedy {self.name!r}: bounds belong to the factors of forms layer and channel; found form: {self.form}"
            )
        if "closed_form" in (self.calibrate, self.start) and self.form != "layer":
            raise ValueError(f"remedy {self.name!r}: closed_form knows form: layer; found form: {self.form}")
        _start_of_a_search(self.name, self.calibrate, self.start)
        _bounds_of_a_calibration(self.name, self.calibrate, self.bounds)
        return self

    @property
    def form_name(self) -> str:
        return self.form

    @property
    def scope(self) -> str:
        """What has a factor of its own, of forms layer and channel."""
        return self.form

    @property
    def power(self) -> float:
        return 1.0 if self.p is None else self.p

    @property
    def calibrated(self) -> bool:
        return self.calibrate != "none" or self.form == "norm"

    @property
    def words(self) -> str:
        if self.form in ("layer", "channel"):
            return f"s dt by {self.form}, {_found(self.calibrate, self.factor, self.start, self.bounds)}"
        if self.form == "norm":
            return "dt summed over T as over L0, by channel"
        ratio = "L0/T" if self.form == "uniform" else "L0/t"
        if self.calibrate != "none":
            return f"dt times ({ratio})^p by layer, {_found(self.calibrate, None)}"
        return f"dt times {ratio}" if self.power == 1 else f"dt times ({ratio})^{self.power:g}"


class DeciMambaRemedy(_Entry):
    """Some layers go on with the steps of the largest step sizes only (DeciMamba)."""

    kind: Literal["decimamba"]
    layers: (
        Literal["best", "best_and_above"] | Annotated[list[Annotated[int, Field(ge=0, le=1000)]], Field(min_length=1)]
    ) = Field(
        "best",
        description="best: chosen on calibration images; best_and_above: and every layer from there up; or numbers",
    )
    base: Above0 = Field(1.0, description="steps kept by the first decimating layer, in units of L0")
    beta: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="factor from one decimating layer to the next")
    protected: Positive = Field(1, description="steps at the end that are always kept")
    score: Literal["step_size", "random", "newest"] = Field(
        "step_size", description="which steps are kept; the others are ablations"
    )

    @model_validator(mode="after")
    def _fits(self):
        if isinstance(self.layers, list) and self.layers != sorted(set(self.layers)):
            raise ValueError(f"remedy {self.name!r}: expected layers ascending, each once; got {self.layers}")
        one = self.layers == "best" or (isinstance(self.layers, list) and len(self.layers) == 1)
        if self.mode == "stream" and (not one or (self.base, self.beta, self.protected) != (1.0, 1.0, 1)):
            raise ValueError(
                f"remedy {self.name!r}: in stream mode one layer decimates, and thresholds say how many steps are kept: expected "
                "layers: best or a single number, and neither base, beta nor protected"
            )
        return self

    @property
    def form_name(self) -> str:
        return self.score

    @property
    def calibrated(self) -> bool:
        return isinstance(self.layers, str) or self.mode == "stream"

    @property
    def words(self) -> str:
        if self.mode == "stream":
            return "keep step t with probability L0/t, by the size of dt in one layer; draw at the last step kept"
        kept = {"step_size": "largest dt", "random": "random steps", "newest": "newest steps"}[self.score]
        where = {"best": "one layer", "best_and_above": "layers from one up"}.get(
            str(self.layers), f"layers {self.layers}"
        )
        return f"keep {self.base:g} L0 steps of {kept}, {where}" + (f", beta {self.beta:g}" if self.beta != 1 else "")


class LongMambaRemedy(_Entry):
    """In channels of long memory, steps of small step size write and erase nothing (LongMamba)."""

    kind: Literal["longmamba"]
    threshold: Literal["closed_form", "as_released", "bound"] = Field(
        "closed_form", description="as_released: clamps first; bound: the largest dt of the sequence, up to the budget"
    )
    channels: Literal["global", "all", "random"] = Field(
        "global", description="filtered channels: of long memory; as ablations, all, or as many at random"
    )
    steps: Literal["largest", "random"] = Field("largest", description="kept steps; random ones are an ablation")
    survival: Literal["slow", "mean", "stepmean"] = Field(
        "slow", description="what survives of a write: of the slowest mode, the mean, or by the mean decay of a step"
    )
    above: Share = Field(0.05, description="a channel has long memory if more than this share survives L0 steps")
    clamp: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="share of a sequence's steps clamped by as_released; null: 0.1"
    )

    @model_validator(mode="after")
    def _fits(self):
        if self.steps == "random" and self.threshold != "closed_form":
            raise ValueError(
                f"remedy {self.name!r}: random steps are kept at the rate of closed_form; found threshold: {self.threshold}"
            )
        if self.clamp is not None and self.threshold != "as_released":
            raise ValueError(f"remedy {self.name!r}: clamp belongs to as_released; found threshold: {self.threshold}")
        return self

    @property
    def form_name(self) -> str:
        return "random_steps" if self.steps == "random" else self.threshold

    @property
    def calibrated(self) -> bool:
        return True

    @property
    def words(self) -> str:
        where = {"global": "channels of long memory", "all": "all channels", "random": "as many random channels"}
        kept = {
            "closed_form": "mask small dt",
            "as_released": "mask small dt as released",
            "bound": "largest dt within budget",
        }
        what = "mask random steps" if self.steps == "random" else kept[self.threshold]
        survival = f", survival {self.survival}" if self.survival != "slow" else ""
        return f"{what} in {where[self.channels]}{survival}"


class RetainInsertRemedy(_Entry):
    """Forget more and write less (Stuffed Mamba, arXiv:2410.07145, method 1)."""

    kind: Literal["retain_insert"]
    horizon: Annotated[float, Field(gt=1, le=1e6)] = Field(
        description="c: the state also decays by 1 - 1/(c L0) at every step"
    )
    insertion: Above0 = Field(1.0, description="factor on what is written")

    @property
    def form_name(self) -> str:
        return "gains"

    @property
    def words(self) -> str:
        return f"extra decay 1 - 1/({self.horizon:g} L0)" + (
            f", writes x {self.insertion:g}" if self.insertion != 1 else ""
        )


class NormaliseStateRemedy(_Entry):
    """Clip the norm of each layer's state (Stuffed Mamba, method 2)."""

    kind: Literal["normalise_state"]
    quantile: Annotated[float, Field(gt=0, le=1)] = Field(
        0.99, description="of the largest norms within L0 over calibration images: the norm that is clipped at"
    )
    groups: Literal["layer", "channel"] = Field("layer", description="whose norm: a layer's state, or each channel's")
    every: Positive = Field(1, description="patches between two clippings")

    @property
    def form_name(self) -> str:
        return self.groups

    @property
    def calibrated(self) -> bool:
        return True

    @property
    def words(self) -> str:
        when = "every step" if self.every == 1 else f"every {self.every} steps"
        return f"|h| of a {self.groups} at most its {self.quantile:g} quantile within L0, {when}"


class WindowRemedy(_Entry):
    """Every layer's state holds what the last steps wrote (Stuffed Mamba, method 3)."""

    kind: Literal["window"]
    r: Above0 = Field(1.0, description="steps of the window, in units of L0")
    form: Literal["exact", "overlap"] = Field(
        "exact", description="exact, or overlapping segments: between r/2 and r steps"
    )

    @model_validator(mode="after")
    def _identity_up_to_L0(self):
        if self.mode == "stream" and self.r < 1:
            raise ValueError(
                f"remedy {self.name!r}: found r: {self.r:g} in stream mode, which changes what is read up to L0; expected r >= 1, "
                "or mode: prefix"
            )
        return self

    @property
    def form_name(self) -> str:
        return self.form

    @property
    def words(self) -> str:
        exactly = "" if self.form == "exact" else f"{self.r / 2:g} to "
        return f"every state holds the last {exactly}{self.r:g} L0 steps"


class ScheduleRemedy(_Entry):
    """Gains that follow t, with the calibration lengths as knots, found for all of them at once. This project's own."""

    kind: Literal["schedule"]
    gains: Literal["step_size", "modes", "channels"] = Field(
        "modes",
        description="step_size: one factor a layer on dt; modes: besides, one for each mode on what is written and read; channels: "
        "besides, one for each channel on dt and x",
    )

    @property
    def form_name(self) -> str:
        return self.gains

    @property
    def calibrated(self) -> bool:
        return True

    @property
    def words(self) -> str:
        of = {
            "step_size": "dt by layer",
            "modes": "dt by layer, B and C by mode",
            "channels": "dt and x by channel, B and C by mode",
        }
        return f"gains that follow t on {of[self.gains]}, by back-propagation"


class AssembleRemedy(_Entry):
    """The image is put together from windows of L0 steps, cell by cell from those that read the cell. This project's own."""

    kind: Literal["assemble"]
    windows: Literal["consecutive", "cover"] = Field(
        "consecutive", description="of consecutive steps, or of steps that visit different cells where they can"
    )
    take: Literal["mean", "newest"] = Field("mean", description="of the windows that read a cell")
    groupings: Annotated[int, Field(ge=1, le=1000)] = Field(
        1,
        description="ways in which steps are cut into windows, each for the cost of a pass; the others at random, in prefix mode",
    )

    @model_validator(mode="after")
    def _groupings_fit(self):
        if self.groupings > 1 and (self.mode != "prefix" or self.take != "mean"):
            raise ValueError(
                f"remedy {self.name!r}: found groupings: {self.groupings} with mode: {self.mode}, take: {self.take}; expected "
                "mode: prefix and take: mean, or groupings: 1"
            )
        return self

    @property
    def form_name(self) -> str:
        return self.windows

    @property
    def words(self) -> str:
        which = "consecutive" if self.windows == "consecutive" else "covering"
        again = f" in {self.groupings} groupings" if self.groupings > 1 else ""
        return f"{which} windows of L0 steps{again}, {'mean' if self.take == 'mean' else 'the newest'} of those that read a cell"


class Combination(Strict):
    """Other entries, one after the other from left to right, each as calibrated alone."""

    name: Name
    kind: Literal["combine"] = "combine"
    combine: list[Name] = Field(min_length=2, description="names of other entries, of the same mode")

    @property
    def calibrated(self) -> bool:
        return False

    @property
    def words(self) -> str:
        return " + ".join(self.combine)


Entry = (
    SpectrumRemedy
    | StepSizeRemedy
    | DeciMambaRemedy
    | LongMambaRemedy
    | RetainInsertRemedy
    | NormaliseStateRemedy
    | WindowRemedy
    | ScheduleRemedy
    | AssembleRemedy
)
RemedyConfig = Annotated[Entry | Combination, Field(discriminator="kind")]
Remedies = list[RemedyConfig]

NOT_COMBINED = ("decimamba", "assemble")
"""Kinds that change which steps a layer sees, so that nothing that counts steps may follow, and that read in their own way."""
SCANS = ("window",)
"""Kinds that put another recurrence in place of the scan, for every step; at most one of `SCANS` and `CUT` in a combination."""
CUT = ("retain_insert", "normalise_state")


class CalibrationConfig(Strict):
    """How the values of remedies are found, on images of the calib split."""

    images: Annotated[int, Field(ge=2, lt=1 << 31)] = Field(description="half to optimise on, half to keep the best by")
    steps: Positive = Field(description="iterations of zeroth order (two passes each) or back-propagation")
    lengths: list[Annotated[float, Field(gt=1, le=1e6)]] = Field(
        min_length=1, description="T / L0 calibrated for; between them ln s is linear in ln T"
    )
    order: Order = Field("permutation", description="visiting order of the calibration images")
    piece: Positive | None = Field(None, description="steps held in memory at a time, patches; null: probe.piece")

    @field_validator("lengths")
    @classmethod
    def _ascending(cls, lengths: list[float]) -> list[float]:
        if lengths != sorted(set(lengths)):
            raise ValueError(f"ascending factors of L0; got {lengths}")
        return lengths


class ExtensionConfig(Strict):
    """How remedies are tried."""

    runs: list[Name] = Field(min_length=1, description="runs that they are tried on, with every seed")
    factors: list[Multiple] = Field(min_length=1, description="T / L0 reported")
    orders: list[Order] = Field(min_length=1, description="visiting orders")
    images: Positive = Field(description="images of probe.split, at most")
    repeats: Positive = Field(1, description="visiting orders an image")
    calibration: CalibrationConfig

    def steps(self, L0: int) -> list[int]:
        """Steps reported for a run: some up to L0, where every remedy must change nothing, and the factors."""
        return sorted({max(1, L0 // 4), max(1, L0 // 2), L0} | {round(f * L0) for f in self.factors})


def with_kinds(entries: Any) -> Any:
    """Entries as a person writes them: a combination needs no kind."""
    if not isinstance(entries, list):
        return entries
    return [{"kind": "combine"} | e if isinstance(e, dict) and "combine" in e else e for e in entries]


def check_names(entries: Remedies) -> None:
    """Names are unique and free; combinations name other entries of one mode that go together.

    Raises:
        ValueError: names the entry, what was found and what would work.
    """
    by_name = {e.name: e for e in entries if not isinstance(e, Combination)}
    seen: set[str] = set()
    for i, entry in enumerate(entries):
        path = f"remedies.{i}"
        if entry.name in seen or entry.name in RESERVED:
            taken = "another entry has" if entry.name in seen else "a row that is always there has"
            raise ValueError(f"{path}.name: found {entry.name!r}, which {taken}; expected a name of its own")
        seen.add(entry.name)
        if isinstance(entry, Combination):
            _check_combination(path, entry, by_name)


def combined(entry: Entry | Combination, entries: Remedies) -> list[Entry]:
    """The entries that one entry applies, in their order."""
    if not isinstance(entry, Combination):
        return [entry]
    by_name = {e.name: e for e in entries}
    return [by_name[name] for name in entry.combine]


def mode_of(entry: Entry | Combination, entries: Remedies) -> Mode:
    return combined(entry, entries)[0].mode


def _check_combination(path: str, entry: Combination, by_name: dict[str, Entry]) -> None:
    for name in entry.combine:
        if name not in by_name:
            raise ValueError(
                f"{path}.combine: found {name!r}, expected names of other entries that are no combinations: {sorted(by_name)}"
            )
        if by_name[name].kind in NOT_COMBINED:
            raise ValueError(
                f"{path}.combine: found {name!r} of kind {by_name[name].kind}, which cannot be combined; expected other kinds"
            )
    kinds = [by_name[name].kind for name in entry.combine]
    if sum(kind in SCANS for kind in kinds) and sum(kind in (*SCANS, *CUT) for kind in kinds) > 1:
        raise ValueError(
            f"{path}.combine: found {entry.combine}, of which two replace the scan; expected a window without {' and '.join(CUT)}"
        )
    modes = {name: by_name[name].mode for name in entry.combine}
    if len(set(modes.values())) > 1:
        found = ", ".join(f"{name}: {mode}" for name, mode in modes.items())
        raise ValueError(f"{path}.combine: found entries of different modes ({found}); expected one mode for all")


def _factor_or_calibration(name: str, calibrate: str, factor: float | None) -> None:
    if (calibrate == "none") == (factor is None):
        raise ValueError(
            f"remedy {name!r}: expected either a factor or a way to calibrate one; got factor: {factor}, calibrate: {calibrate}"
        )


def _start_of_a_search(name: str, calibrate: str, start: str) -> None:
    if start != "one" and calibrate not in ("zeroth_order", "gradient"):
        raise ValueError(
            f"remedy {name!r}: found start: {start} with calibrate: {calibrate}; expected zeroth_order or gradient, or no start"
        )


def _bounds_of_a_calibration(name: str, calibrate: str, bounds: tuple[float, float] | None) -> None:
    if bounds is not None and (calibrate == "none" or not bounds[0] <= 1 <= bounds[1] or bounds[0] == bounds[1]):
        raise ValueError(
            f"remedy {name!r}: expected bounds: [low, high] of a calibrated factor, low <= 1 <= high and low < high; got "
            f"bounds: {list(bounds)} with calibrate: {calibrate}"
        )


def _found(calibrate: str, factor: float | None, start: str = "one", bounds: tuple[float, float] | None = None) -> str:
    ways = {"zeroth_order": "by zeroth order", "gradient": "by back-propagation", "closed_form": "in closed form"}
    found = ways.get(calibrate, f"s = {factor:g} at the longest length" if factor is not None else "")
    found += " from the closed form" if start == "closed_form" else ""
    return found + (f", s from {bounds[0]:g} to {bounds[1]:g}" if bounds is not None else "")
