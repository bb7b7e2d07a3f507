"""Tools as declarations; total and linear for any schema."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.metering.tool_text import declarations, functions_in

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city.\n\n    Args:\n        city: a city\n",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Its name"},
                "unit": {"enum": ["C", "F"]},
                "days": {"type": "array", "items": {"type": "integer"}},
                "where": {"type": "object", "properties": {"zip": {"type": ["string", "null"]}}, "required": ["zip"]},
                "like": {"$ref": "#/$defs/Like"},
                "maybe": {"anyOf": [{"type": "number"}, {"type": "null"}]},
                "free": {},
            },
            "required": ["city", 3],
            "$defs": {"Like": {"type": "object", "properties": {"more": {"$ref": "#/$defs/Like"}}}},
        },
    },
}


def test_declarations() -> None:
    assert declarations(functions_in([WEATHER, {"type": "function", "name": "stop"}])) == (
        "namespace functions {\n"
        "\n"
        "// Weather of a city.\n"
        "// Args:\n"
        "// city: a city\n"
        "type get_weather = (_: {\n"
        "// Its name\n"
        "city: string,\n"
        'unit?: "C" | "F",\n'
        "days?: number[],\n"
        "where?: {\n"
        "zip: string | null,\n"
        "},\n"
        "like?: Like,\n"
        "maybe?: number | null,\n"
        "free?: any,\n"
        "}) => any;\n"
        "\n"
        "type Like = {\n"
        "more?: Like,\n"
        "};\n"
        "type stop = () => any;\n"
        "\n"
        "} // namespace functions"
    )


def test_deep_schemas_are_cut() -> None:
    schema: dict[str, object] = {"type": "string"}
    for _ in range(500):
        schema = {"type": "object", "properties": {"a": schema}}
    text = declarations([{"name": "f", "parameters": schema}])
    assert "any" in text
    assert len(text) < 500


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "function",
                    "parameters",
                    "properties",
                    "items",
                    "enum",
                    "anyOf",
                    "type",
                    "required",
                    "$defs",
                    "$ref",
                    "description",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=30,
)


@given(JSON)
def test_any_tools_are_told(tools: object) -> None:
    assert "namespace" in declarations(functions_in([tools, {"name": "f", "parameters": {"properties": {"a": tools}}}]))
    declarations(functions_in(tools))
