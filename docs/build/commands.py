"""The reference of the command line, from the commands themselves."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer

from lgmamba.cli import app


def each(command: Any = None, name: str = "lgmamba") -> Iterator[tuple[str, Any]]:
    """Every command with the words that call it; a group after nothing, its commands after it."""
    command = typer.main.get_command(app) if command is None else command
    below = getattr(command, "commands", None)
    if below is None:
        yield name, command
        return
    for word, one in below.items():
        yield from each(one, f"{name} {word}")


def page() -> str:
    """Markdown: a table of arguments and options for each command."""
    parts = [
        "# Command line\n\n`lgmamba` (or `python -m lgmamba`) has one command for each stage; the workflow calls these, and a person may. "
        "`lgmamba show params.yaml --commands` prints every line of a study.\n"
    ]
    for name, command in each():
        if command.hidden:
            continue
        help = " ".join((command.help or "").split("\f")[0].split())
        lines = [
            f"\n## `{name}`\n",
            help,
            "",
            "| argument or option | value | default | meaning |",
            "| --- | --- | --- | --- |",
        ]
        types = get_type_hints(inspect.unwrap(command.callback))
        lines += [
            _row(parameter, types.get(parameter.name)) for parameter in command.params if parameter.name != "help"
        ]
        parts.append("\n".join(lines) + "\n")
    return "".join(parts)


def _row(parameter: Any, annotation: Any) -> str:
    option = parameter.param_type_name == "option"
    names = (
        ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
        if option
        else f"`{parameter.name.upper()}`"
    )
    default = parameter.default
    shown = (
        "required" if parameter.required else "" if default in (None, False) or callable(default) else f"`{default}`"
    )
    return f"| {names} | {_value(annotation)} | {shown} | {' '.join((parameter.help or '').split()).replace('|', chr(92) + '|')} |"


def _value(annotation: Any) -> str:
    """What an option takes, by its type."""
    if annotation is bool:
        return "switch"
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    inner = [arg for arg in get_args(annotation) if arg is not type(None)]
    if inner:
        words = ", ".join(_value(arg) for arg in inner)
        return f"{words}, several" if get_origin(annotation) is list else words
    return {Path: "path", str: "text", int: "integer", float: "number"}.get(
        annotation, getattr(annotation, "__name__", "text")
    )
