"""The schema's history, run by `anomaly db upgrade` and `anomaly db downgrade`."""
