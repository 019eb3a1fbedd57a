"""How well anomalies are found, in tables: `python -m benchmarks.detection --help`.

arms.py       what is compared: the product's settings, changed or not, and simple baselines
sets.py       on what: labelled folders, and made worlds
runner.py     each arm on each part of a set, kept so that an interrupted run goes on
judging.py    scores and flags against labels: figures
report.py     figures: tables
"""
