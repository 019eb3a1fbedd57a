"""The page, the JSON API and the probes: `anomaly.web.app.create_app`."""
