"""The hot path in a wheel is compiled where it can be; the wheel is plain Python, and says why, where it cannot."""

import sys
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompiledHook(BuildHookInterface):  # type: ignore[misc]  # see pyproject.toml
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # `make .venv/compiled` does it there, again when a source has changed
            return
        sys.path.insert(0, self.root)
        import compiling  # noqa: PLC0415 - only then it is found

        try:
            built = compiling.build()
        except compiling.CannotCompile as reason:
            self.app.display_warning(f"taximeter is built as plain Python: {reason}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"].update({str(path): place for place, path in built.items()})
