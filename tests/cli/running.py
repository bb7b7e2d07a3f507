"""Running command lines in the test's own process."""

from collections.abc import Callable

Cli = Callable[..., tuple[int, str, str]]
"""Words → exit code, stdout, stderr."""
