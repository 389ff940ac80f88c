"""The kinds of `task:` in params.yaml; imports no torch. Their classes are in `lgmamba.tasks.registry`."""

from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field

from lgmamba.tasks.automaton.config import AutomatonConfig
from lgmamba.tasks.bytes.config import BytesConfig
from lgmamba.tasks.composite.config import CompositeConfig
from lgmamba.tasks.copying.config import CopyingConfig
from lgmamba.tasks.draw.config import DrawConfig
from lgmamba.tasks.forecast.config import ForecastConfig
from lgmamba.tasks.inverse.config import InverseConfig
from lgmamba.tasks.mqar.config import MqarConfig
from lgmamba.tasks.next_item.config import NextItemConfig
from lgmamba.tasks.passkey.config import PasskeyConfig
from lgmamba.tasks.queried.config import QueriedConfig
from lgmamba.tasks.regression.config import RegressionConfig


def _with_kind(values: Any) -> Any:
    """A task without a kind draws, as all did before there were kinds."""
    return {"kind": "draw"} | values if isinstance(values, dict) else values


Kinds = (
    DrawConfig
    | QueriedConfig
    | RegressionConfig
    | MqarConfig
    | CopyingConfig
    | AutomatonConfig
    | CompositeConfig
    | InverseConfig
    | BytesConfig
    | PasskeyConfig
    | ForecastConfig
    | NextItemConfig
)


def kinds() -> list[str]:
    """Names of all tasks, in the order above."""
    return [get_args(config.model_fields["kind"].annotation)[0] for config in get_args(Kinds)]


TaskConfig = Annotated[Annotated[Kinds, Field(discriminator="kind")], BeforeValidator(_with_kind)]
