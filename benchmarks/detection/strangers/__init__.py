"""Worlds of another maker: a second simulator of behaviour by the hour, which shares no code with the product's.

Who tunes an engine on worlds of his own making may have tuned it to his own idea of people. Here people
have a site (time zone, holidays), a department, own hours and rates; a day has a state, an intensity
that lingers, bursts; an hour has presence, and each metric a hurdle and a size. Incidents are edits of
what people did, in the last month only.
"""

from benchmarks.detection.strangers.plan import BUSY, CLEAN, Plan
from benchmarks.detection.strangers.world import make_strangers

__all__ = ["BUSY", "CLEAN", "Plan", "make_strangers"]
