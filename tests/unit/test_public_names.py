"""What others may build on, held to a snapshot: a change here is a change for them."""

from __future__ import annotations

import griffe

PROMISED = {
    "anomaly.detect": ["frame", "train_until", "config", "model", "progress"],
    "anomaly.Detector.__init__": ["self", "config"],
    "anomaly.Detector.fit": ["self", "frame"],
    "anomaly.Detector.score": ["self", "frame"],
    "anomaly.Detector.get_params": ["self", "deep"],
    "anomaly.Detector.set_params": ["self", "config"],
    "anomaly.settings.load": ["path", "environ"],
    "anomaly.sources.readers.Reader.read": ["self", "since", "until", "step"],
    "anomaly.thresholds.choice.Threshold.level": ["self", "evidence", "seen", "step"],
    "anomaly.likelihoods.law.Law.size_tails": ["self", "said", "low", "high"],
    "anomaly.likelihoods.law.Law.size_likelihood": ["self", "said", "low", "high"],
    "anomaly.likelihoods.law.Law.size_quantile": ["self", "said", "u"],
}
ERRORS = {
    "UsageError", "SettingsError", "SourceError", "SchemaError", "DataError", "ShapeError", "ModelError", "BusyError",
}  # fmt: skip


def test_promised_functions_take_what_they_took(repository):
    package = griffe.load("anomaly", search_paths=[repository], allow_inspection=False)
    for name, wanted in PROMISED.items():
        path = name.removeprefix("anomaly.")
        if path.split(".")[0] in {"detect", "Detector"}:
            path = f"detector.{path}"
        given = [parameter.name for parameter in package[path].parameters]
        assert given[: len(wanted)] == wanted, name
        added = list(package[path].parameters)[len(wanted) :]
        assert all(parameter.default is not None for parameter in added), name


def test_what_is_exported_is_there():
    import anomaly

    assert set(anomaly.__all__) == {"Detection", "Detector", "__version__", "detect"}
    for name in anomaly.__all__:
        assert getattr(anomaly, name)


def test_the_tree_of_errors_stands():
    from anomaly import exceptions

    for name in ERRORS:
        assert issubclass(getattr(exceptions, name), exceptions.AnomalyError)
