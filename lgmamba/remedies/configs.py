"""`remedies:` of params.yaml: the configuration of each kind. Imports no torch; what they do is in `lgmamba.remedies.registry`."""

from typing import get_args

from lgmamba.remedies.assemble.config import AssembleConfig
from lgmamba.remedies.decimamba.config import DeciMambaConfig
from lgmamba.remedies.entry import Mode, RemedyEntry
from lgmamba.remedies.longmamba.config import LongMambaConfig
from lgmamba.remedies.normalise_state.config import NormaliseStateConfig
from lgmamba.remedies.retain_insert.config import RetainInsertConfig
from lgmamba.remedies.schedule.config import ScheduleConfig
from lgmamba.remedies.spectrum.config import SpectrumConfig
from lgmamba.remedies.step_size.config import StepSizeConfig
from lgmamba.remedies.taper.config import TaperConfig
from lgmamba.remedies.window.config import WindowConfig

Entry = (
    StepSizeConfig
    | SpectrumConfig
    | DeciMambaConfig
    | LongMambaConfig
    | RetainInsertConfig
    | TaperConfig
    | NormaliseStateConfig
    | WindowConfig
    | ScheduleConfig
    | AssembleConfig
)
CONFIGS: dict[str, type[RemedyEntry]] = {get_args(c.model_fields["kind"].annotation)[0]: c for c in get_args(Entry)}
"""Kind -> class."""
MODES: dict[tuple[str, str], tuple[Mode, ...]] = {
    (kind, form): modes for kind, config in CONFIGS.items() for form, modes in config.MODES.items()
}
"""(kind, form) -> the modes in which it runs."""
