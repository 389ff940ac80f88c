"""`model.mixer` with kind python: a mixer of the user's own. Imports the user's module, and torch with it, where it is asked what it can."""

import importlib
import re
import sys
import sysconfig
import traceback
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from lgmamba.config.base import explain
from lgmamba.mixers.base import VERBS, MixerBase, Verb

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig
    from lgmamba.mixers.contract import Mixer


def check_path(path: str) -> str:
    """Raises ValueError where it is not module:Class."""
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", path):
        raise ValueError("module:Class, such as mymodule:MyMixer")
    return path


def load_module(name: str) -> ModuleType:
    """A module that can be imported, or lies in the working directory.

    Raises:
        ImportError: there is none, or it cannot be loaded: what went wrong, and in which line of which file.
    """
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        return importlib.import_module(name)
    except SyntaxError as error:
        place = _place(error) if error.filename is None else f"{error.filename}, line {error.lineno}: "
        raise ImportError(f"{place}{error.msg}") from None
    except ImportError as error:
        raise ImportError(f"{_place(error)}{error}") from None
    except (Exception, SystemExit) as error:  # a person's module may raise any, and is not to end the command
        what = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
        raise ImportError(f"{_place(error)}{what}") from None
    finally:
        sys.path.remove(here)


def _place(error: BaseException) -> str:
    """File and line of the last code of a person's own that an error came through, before what it says; empty where it came through none."""
    libraries = (
        "<frozen ",
        __file__,
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    )
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(libraries)]
    return f"{own[-1].filename}, line {own[-1].lineno}: " if own else ""


class PythonConfig(MixerBase):
    """A class of a module that can be imported, or lies in the working directory; see docs/add_a_mixer.md."""

    SUPPORTS: ClassVar[dict[Verb, str]] = {}
    WHY_NOT: ClassVar[dict[Verb, str]] = {}
    TITLE: ClassVar[str] = "user's own"
    SOURCE: ClassVar[str] = "the user's module"

    kind: Literal["python"]
    path: Annotated[str, AfterValidator(check_path)] = Field(description="module:Class, such as mymodule:MyMixer")
    options: dict[str, Any] = Field({}, description="the mixer's own configuration: fields of its Config")

    @model_validator(mode="after")
    def _loads(self):
        try:
            self.own  # noqa: B018 - what it raises is the message
        except (ImportError, AttributeError, TypeError) as error:
            raise ValueError(f"module:Class of a mixer with a Config; got {self.path}: {error}") from None
        except ValidationError as error:
            raise ValueError(f"options that {self.path} takes:\n{explain(error, self.mixer.Config)}") from None
        return self

    @cached_property
    def mixer(self) -> "type[Mixer]":
        """The class. Raises ImportError, AttributeError or TypeError where there is none."""
        module, name = self.path.split(":")
        found = getattr(load_module(module), name)
        config = getattr(found, "Config", None)
        if not (isinstance(config, type) and issubclass(config, MixerBase)):
            raise TypeError(f"{name} has no Config, a class that derives from lgmamba.mixers.base.MixerBase")
        return found

    @cached_property
    def own(self) -> MixerBase:
        """The mixer's own configuration, which says what it supports."""
        return self.mixer.Config(**self.options)

    @property
    def supports(self) -> dict[Verb, str]:
        return self.own.supports

    @property
    def why_not(self) -> dict[Verb, str]:
        """Of every verb that the module says nothing of."""
        said = self.own.why_not
        return {verb: said.get(verb, f"{self.path} does not support it") for verb in VERBS if verb not in self.supports}

    @property
    def description(self) -> str:
        return f"{self.path}, {self.own.description}"

    @property
    def alone(self) -> str | None:
        return self.own.alone

    @property
    def period(self) -> int:
        return self.own.period

    def of_layer(self, layer: int) -> MixerBase:
        return self.own.of_layer(layer)

    def problem(self, model: "ModelConfig") -> str | None:
        return self.own.problem(model)

    def channels(self, model: "ModelConfig") -> int:
        """As its own configuration says."""
        return self.own.channels(model)

    def modes(self, model: "ModelConfig") -> int:
        """As its own configuration says."""
        return self.own.modes(model)

    def numbers(self, model: "ModelConfig") -> int:
        """As its own configuration says."""
        return self.own.numbers(model)
