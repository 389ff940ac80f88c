"""The reference of params.yaml, from the models that validate it."""

from typing import Any

from lgmamba.config.study import Params

INTRODUCTION = """\
# Configuration

Every key of `params.yaml`, as the models in `lgmamba/config` validate it: an unknown key, or a value that does not fit, is refused
before any job. A key without a default must be there. Where a section has several kinds, `kind` chooses among them.
[params.yaml](../../params.yaml) has the values of the default study with a comment each.

"""


def page() -> str:
    """Markdown: one table for each section, in the order in which they are first named."""
    schema = Params.model_json_schema()
    definitions = schema.pop("$defs")
    waiting: list[tuple[str, str, dict[str, Any]]] = [("params.yaml", "Params", schema)]
    places, parts = {"Params": "params.yaml"}, [INTRODUCTION]
    while waiting:
        path, name, section = waiting.pop(0)
        for key, entry in section.get("properties", {}).items():
            below = key if name == "Params" else f"{path}.{key}"
            for found in _named(entry):
                if found not in places:
                    places[found] = below
                    waiting.append((below, found, definitions[found]))
        parts.append(_section(path, name, section, definitions))
    return "".join(parts)


def _section(path: str, name: str, section: dict[str, Any], definitions: dict[str, Any]) -> str:
    kind = section.get("properties", {}).get("kind", {}).get("const")
    title = f"`{path}`" + (f", kind `{kind}`" if kind else "")
    about = " ".join(section.get("description", "").split("\n\n")[0].split())
    lines = [f"## {title} {{#{name}}}", "", about, ""] if about else [f"## {title} {{#{name}}}", ""]
    required = set(section.get("required", ()))
    if entries := section.get("properties"):
        lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        for key, entry in entries.items():
            default = "" if key in required else _default(entry)
            lines.append(
                f"| `{key}` | {_type(entry, definitions)} | {default} | {_cell(entry.get('description', ''))} |"
            )
    return "\n".join([*lines, "", ""])


def _named(entry: Any) -> list[str]:
    """Sections that an entry refers to, in order."""
    if isinstance(entry, list):
        return [name for part in entry for name in _named(part)]
    if not isinstance(entry, dict):
        return []
    if "$ref" in entry:
        return [entry["$ref"].rpartition("/")[2]]
    return [n for key, v in entry.items() if key not in ("default", "discriminator", "examples") for n in _named(v)]


def _type(entry: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "$ref" in entry:
        name = entry["$ref"].rpartition("/")[2]
        section = definitions[name]
        kind = section.get("properties", {}).get("kind", {}).get("const")
        return f"[{f'`{kind}`' if kind else 'section'}](#{name})"
    if choices := entry.get("anyOf") or entry.get("oneOf") or entry.get("allOf"):
        return " or ".join(dict.fromkeys(_type(choice, definitions) for choice in choices))
    if "const" in entry:
        return f"`{entry['const']}`"
    if "enum" in entry:
        return ", ".join(f"`{value}`" for value in entry["enum"])
    match entry.get("type"):
        case "array" if "prefixItems" in entry:
            return "list of " + ", ".join(_type(item, definitions) for item in entry["prefixItems"])
        case "array":
            return f"list of {_type(entry.get('items', {}), definitions)}"
        case "object":
            values = entry.get("additionalProperties")
            return f"mapping to {_type(values, definitions)}" if isinstance(values, dict) and values else "mapping"
        case "string":
            return "folder" if entry.get("format") == "path" else "text"
        case "integer" | "number" as kind:
            return ", ".join([kind, *_bounds(entry)])
        case None:
            return "any"
        case kind:
            return kind


def _bounds(entry: dict[str, Any]) -> list[str]:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return [f"{sign} {entry[key]:g}" for key, sign in signs.items() if key in entry and abs(entry[key]) < 1 << 31]


def _default(entry: dict[str, Any]) -> str:
    value = entry.get("default")
    return "that of its keys" if isinstance(value, dict) and _named(entry) else f"`{_value(value)}`"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(v)}" for key, v in value.items()) + "}"
    return "null" if value is None else "true" if value is True else str(value).replace("|", "\\|")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
