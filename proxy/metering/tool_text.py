"""Tools as a chat model is told of them: declarations in TypeScript, a namespace of functions.

OpenAI does not publish this form. It is known from what models repeat and from counts of their tokens (npm
openai-chat-tokens); on the recordings in tests/data/token_pairs it is closer than any sum of constants per property.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

DEEPEST = 16
"""Levels of a schema that are written out; below them stands `any`."""


def functions_in(tools: object) -> list[Mapping[str, Any]]:
    """The functions of a request's `tools` (nested as in chat, or flat as in responses) or `functions`."""
    found: list[Mapping[str, Any]] = []
    for tool in tools if isinstance(tools, list) else ():
        if not isinstance(tool, dict):
            continue
        function = tool.get("function", tool)
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            found.append(function)
    return found


def declarations(functions: Sequence[Mapping[str, Any]]) -> str:
    lines = ["namespace functions {", ""]
    for function in functions:
        schema = function.get("parameters", function.get("input_schema"))
        lines += _comment(function.get("description"))
        if isinstance(schema, dict) and isinstance(schema.get("properties"), dict) and schema["properties"]:
            lines += [f"type {function['name']} = (_: {{", *_members(schema, 0), "}) => any;", ""]
            lines += _definitions(schema)
        else:
            lines += [f"type {function['name']} = () => any;", ""]
    lines.append("} // namespace functions")
    return "\n".join(lines)


def schema_text(schema: Mapping[str, Any]) -> str:
    """A schema that the answer has to follow."""
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))


def _comment(text: object) -> Iterator[str]:
    if isinstance(text, str):
        yield from (f"// {line.strip()}" for line in text.splitlines() if line.strip())


def _definitions(schema: Mapping[str, Any]) -> Iterator[str]:
    """What a schema refers to, once: a reference is written as a name, so that none can grow without end."""
    definitions = schema.get("$defs", schema.get("definitions"))
    for name, definition in definitions.items() if isinstance(definitions, dict) else ():
        if isinstance(definition, dict):
            yield f"type {name} = {_type(definition, 0)};"


def _members(schema: Mapping[str, Any], depth: int) -> Iterator[str]:
    named = schema.get("required")
    required = {name for name in named if isinstance(name, str)} if isinstance(named, list) else set()
    for name, member in schema["properties"].items():
        if not isinstance(member, dict):
            continue
        yield from _comment(member.get("description"))
        mark = "" if name in required else "?"
        yield f"{name}{mark}: {_type(member, depth)},"


def _type(schema: object, depth: int) -> str:
    if not isinstance(schema, dict) or depth > DEEPEST:
        return "any"
    if isinstance(reference := schema.get("$ref"), str):
        return reference.rpartition("/")[2]
    for choice in ("anyOf", "oneOf", "allOf"):
        if isinstance(members := schema.get(choice), list):
            return " | ".join(_type(member, depth + 1) for member in members)
    if isinstance(values := schema.get("enum"), list):
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in values)
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(str(one) for one in kind)
    if kind == "array":
        return f"{_type(schema.get('items'), depth + 1)}[]"
    if isinstance(properties := schema.get("properties"), dict) and properties:
        return "\n".join(("{", *_members(schema, depth + 1), "}"))
    return "number" if kind in ("integer", "number") else str(kind or "any")
