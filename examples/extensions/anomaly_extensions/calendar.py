"""A calendar: the days on which a factory stands still."""

from __future__ import annotations

import datetime as dt


class Factory:
    """The last week of each July, and the days between the years."""

    def days(self, years: range) -> set[dt.date]:
        """Free days of these years."""
        july = {dt.date(year, 7, day) for year in years for day in range(25, 32)}
        return july | {dt.date(year, 12, day) for year in years for day in range(27, 32)}
