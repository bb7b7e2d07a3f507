"""Imported cards: one file a provider, made by `scripts/import_rates.py`, read when the provider is first asked.

There are thousands of them, and a proxy has one upstream: the other providers' files are never opened.
"""

from collections.abc import Sequence
from pathlib import Path

from rates.card_file import read_card_file
from rates.layer import Layer, lay


class Imported:
    """The imported cards of a folder."""

    def __init__(self, folder: Path) -> None:
        self._files = {path.stem: path for path in sorted(folder.glob("*.toml"))}
        self._layers: dict[str, Layer] = {}

    @property
    def providers(self) -> Sequence[str]:
        return tuple(self._files)

    def layer(self, provider: str) -> Layer | None:
        """The provider's cards, or None: nothing of it was imported. Raises CatalogueError for a spoilt file."""
        layer = self._layers.get(provider)
        if layer is None and provider in self._files:
            layer = self._layers[provider] = lay("imported", read_card_file(self._files[provider]))
        return layer
