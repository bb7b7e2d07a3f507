"""How far away a moment is, as people write it on a command line: 90m, 12h, 30d, 2w, or a date."""

import re
from datetime import datetime, timedelta

from proxy.cli.options import moment
from proxy.errors import UsageError

_DURATION = re.compile(r"([1-9][0-9]{0,5})([mhdw])", re.ASCII)
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def coming_moment(flag: str, text: str, now: datetime) -> datetime:
    """A moment that is still to come. Raises UsageError."""
    if found := _DURATION.fullmatch(text):
        try:
            return (now + int(found[1]) * _UNITS[found[2]]).replace(microsecond=0)
        except OverflowError:
            raise UsageError(f'{flag} "{text}": that is beyond the year 9999') from None
    try:
        at = moment(flag, text)
    except UsageError as error:
        raise UsageError(f"{error}; or a duration as 90m, 12h, 30d or 2w") from None
    if at <= now:
        raise UsageError(f'{flag} "{text}": that is past; name a moment that is still to come')
    return at
