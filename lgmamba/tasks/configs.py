"""The kinds of `task:` in params.yaml; imports no torch. Their classes are in `lgmamba.tasks.registry`."""

from typing import Annotated, Any

from pydantic import BeforeValidator

from lgmamba.tasks.draw.config import DrawConfig


def _with_kind(values: Any) -> Any:
    """A task without a kind draws, as all did before there were kinds."""
    return {"kind": "draw"} | values if isinstance(values, dict) else values


TaskConfig = Annotated[DrawConfig, BeforeValidator(_with_kind)]
