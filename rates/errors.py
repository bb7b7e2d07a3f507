"""What can go wrong with prices: a catalogue that cannot be read, or a model that no card prices."""


class RatesError(Exception):
    """Root of everything that `rates` raises."""


class CatalogueError(RatesError):
    """A card file is wrong. The message names the file, the line where known, the reason and the mend."""


class NotPriced(RatesError):  # noqa: N818 - a finding about a model, not a fault
    """No card prices this model, tier and date. The message says which of them is missing."""
