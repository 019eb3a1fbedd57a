"""Where flags begin: one module for each way of choosing it. All are fixed before the month is seen.

Each is told the evidence of later history, judged as fresh data will be: (users, steps) float32,
-log10 of a chance, of the best window that covers a step. None sees the month, so that neither the
order of users nor their shards can move the level.
"""
