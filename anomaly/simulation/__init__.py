"""Made worlds: honest, hard months of behaviour with planted incidents, and their judge.

`make_world(users=240, months=4, seed=1)` gives observations, what is known of users and days, and
the incidents; `judge(world.incidents, flags, month_start, month_end, users=240)` holds flags
against them, `ranking` scores.
"""

from anomaly.simulation.judge import Judgement, Ranking, judge, ranking
from anomaly.simulation.world import World, make_world

__all__ = ["Judgement", "Ranking", "World", "judge", "make_world", "ranking"]
