"""How the length-adaptive runs of a study work, in plain words."""

from lgmamba.config.run import LengthTokenConfig, RunConfig
from lgmamba.config.study import Params
from lgmamba.report.wording import listed

MOVES = {
    "dt_bias": "moves the step sizes of every block",
    "film": "scales and shifts what every block reads, and scales what it passes on",
    "both": "moves the step sizes of every block, scales and shifts what it reads, and scales what it passes on",
    "film_readout": "scales and shifts what every block and the decoder read, and scales what blocks pass on",
}
BEYOND = {
    "extrapolate": "Beyond L0 it is told T and t as they are, which it never was in training.",
    "clamp": "Beyond L0 it is told L0 for T, and 1 for a t/T above it.",
    "rescale": "Beyond L0 it is told L0 for T, and step sizes are multiplied by L0 / T: it reads on as if time ran slower, and its "
    "states go through what they went through in training",
}


def describe_adaptive(params: Params) -> str | None:
    """What the length-adaptive runs are told and what that moves; None where a study has none, or several forms.

    Several forms have a table of their own.
    """
    words = {name: _words(run) for name, run in params.runs_by_name().items() if run.model.adaptive is not None}
    if len(set(words.values())) != 1:
        return None
    return f"{listed([f'`{name}`' for name in words])}: {words.popitem()[1]}"


def _words(run: RunConfig) -> str:
    adaptive = run.model.adaptive
    if isinstance(adaptive, LengthTokenConfig):
        return _token(adaptive)
    assert adaptive is not None  # of a length-adaptive run
    told = "the length T at which the image will be drawn (log T and 1 / T)"
    if adaptive.features == "T_and_t":
        told += " and, at every step t, how far it is (t / T, log t and the logarithm of the steps to go)"
    words = [f"a network of {adaptive.hidden} hidden units is told {told}, and {MOVES[adaptive.kind]}."]
    if adaptive.code == "normalised":
        words.append(
            "Its code is centred and of one size, so that neighbouring lengths can be told apart from the start."
        )
    if run.train.length_power:
        words.append(
            f"In the loss a sequence of T patches weighs (T / L0)^{run.train.length_power:g}, since short sequences have most of the error."
        )
    beyond = BEYOND[adaptive.beyond]
    if adaptive.beyond == "rescale":
        beyond += (
            "."
            if adaptive.slowest is None
            else f"; of more than {adaptive.slowest:g} L0 patches it reads the last {adaptive.slowest:g} L0."
        )
    return " ".join([*words, beyond])


def _token(config: LengthTokenConfig) -> str:
    told = {
        "own": "the length T at which the output will be read",
        "shuffled": "in training the length of another sequence, afterwards L0",
        "constant": f"always {config.constant}",
    }[config.told]
    beyond = (
        f" Beyond L0 it is told {'T as it is' if config.beyond == 'extrapolate' else 'L0'}."
        if config.told == "own"
        else ""
    )
    return f"a token before the first step tells {told}, as a linear function of it / {config.scale:g}.{beyond}"
