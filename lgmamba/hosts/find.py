"""Which layers of a model are Mamba layers that are known here, and whether they can be read."""

from torch import nn

from lgmamba.hosts.errors import HostError
from lgmamba.hosts.layers import ForeignLayer, Mamba1Layer, Mamba2Layer

LAYERS: dict[tuple[str, str], type[ForeignLayer]] = {
    ("transformers", "MambaMixer"): Mamba1Layer,
    ("transformers", "FalconMambaMixer"): Mamba1Layer,
    ("transformers", "JambaMambaMixer"): Mamba1Layer,
    ("transformers", "Mamba2Mixer"): Mamba2Layer,
    ("transformers", "BambaMixer"): Mamba2Layer,
    ("transformers", "Zamba2MambaMixer"): Mamba2Layer,
    ("mamba_ssm", "Mamba"): Mamba1Layer,
    ("mamba_ssm", "Mamba2"): Mamba2Layer,
}
"""(package, class) -> how it is read."""
KNOWN = "transformers' Mamba, FalconMamba, Mamba2, Jamba, Bamba and Zamba2; mamba_ssm's MambaLMHeadModel"
ATTENTION = ("q_proj", "num_heads_kv")
"""A module with one of these is an attention layer: of transformers, of mamba_ssm."""


def find_layers(model: nn.Module) -> list[ForeignLayer]:
    """The model's Mamba layers, in their order.

    Raises:
        HostError: there are none that are known here, they differ in size, or their weights are quantised.
    """
    mixers = [(kind, m) for m in model.modules() if (kind := _kind(m)) is not None]
    if not mixers:
        alike = sorted({type(m).__name__ for m in model.modules() if hasattr(m, "A_log")})
        seen = f"layers of {', '.join(alike)}" if alike else f"a {type(model).__name__} without a Mamba layer"
        raise HostError(f"found {seen}; expected a model with Mamba layers that are known here: {KNOWN}")
    for _, mixer in mixers:
        _check(mixer)
    layers = [kind(mixer, number) for number, (kind, mixer) in enumerate(mixers)]
    sizes = {(layer.channels, layer.modes) for layer in layers}
    if len(sizes) > 1:
        raise HostError(f"found Mamba layers of (channels, modes) {sorted(sizes)}; expected layers of one size")
    return layers


def has_attention(model: nn.Module) -> bool:
    """Whether it is a hybrid."""
    return any(hasattr(m, name) for m in model.modules() for name in ATTENTION)


def _kind(module: nn.Module) -> type[ForeignLayer] | None:
    for cls in type(module).__mro__:  # also what a library made of one of them, as accelerate and peft do
        if (kind := LAYERS.get((cls.__module__.partition(".")[0], cls.__name__))) is not None:
            return kind
    return None


def _check(mixer: nn.Module) -> None:
    quantised = [name for name, p in mixer.named_parameters() if not p.is_floating_point()]
    if quantised:
        raise HostError(
            f"found quantised weights ({type(mixer).__name__}.{quantised[0]}); expected float32, bfloat16 or float16: load the model "
            "without quantization_config"
        )
    if any(p.is_meta for p in mixer.parameters()):
        raise HostError(f"found weights of {type(mixer).__name__} that are offloaded; expected all of them on a device")
    activation = getattr(mixer, "activation", "silu")
    if activation not in ("silu", "swish"):
        raise HostError(f"found activation {activation!r} in {type(mixer).__name__}; expected silu")
