"""What training leaves behind, as plain files: no pickle, no code."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly.calendar import slot_count
from anomaly.calibration import CentralMap, TailMap
from anomaly.calibration_report import Calibration
from anomaly.exceptions import ModelError, ModelFormatError
from anomaly.likelihoods.forecast import Families
from anomaly.likelihoods.links import Links
from anomaly.metrics import MetricSpec
from anomaly.networks.runtime import Network
from anomaly.networks.silent import Silent
from anomaly.networks.spec import NetworkSpec
from anomaly.panel import DAY_SECONDS
from anomaly.scan import VIEWS, Looking, Usual
from anomaly.shapes import LONGEST, Yardstick
from anomaly.states import Sizes
from anomaly.twin import TwinPrior

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


FORMAT = 8  # rises when files written by an older version can no longer be read
UNREADABLE = (KeyError, ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error)
JSON_FILE, ARRAYS_FILE, ONNX_FILE = "model.json", "arrays.npz", "network.onnx"


@dataclass(frozen=True, slots=True)
class Summary:
    """What was learnt from, and how well: recorded with every run that uses the model.

    trained_from, trained_to: seconds UTC. Losses are mean negative log-likelihoods per known value
    on later history, of the network and of its statistical twin. calibration_error: see
    `anomaly.calibration_report`. stopped: why training ended. held_out: the twin's mean log-likelihood per
    known value on later history, by metric and family. likelihood, twin_likelihood: the same, nats, of
    each metric by itself under the model's forecast and under its twin's; None where the model
    reconstructs, for then it has seen what it says.
    """

    trained_from: int
    trained_to: int
    users: int
    seed: int
    validation_loss: float
    twin_loss: float
    calibration_error: float
    steps: int
    stopped: str
    held_out: dict[str, dict[str, float]] = field(default_factory=dict)
    likelihood: float | None = None
    twin_likelihood: float | None = None


@dataclass(frozen=True)
class Model:
    """One network for many users, with everything that turns its word into calibrated evidence.

    central: for each metric by itself, then for each given those before it. tails: by way of
    looking (`anomaly.scan`) and length. final: evidence to surprise of a step. level: the evidence
    at which flags begin.
    prune: see `anomaly.thresholds.choice`. looking: how windows are read. yardstick: of courses.
    calibration: how true its tails were on fresh history.
    centres: (cohorts, profile) middles of the cohorts; centre_scale: (2, profile) mean and spread.
    """

    metrics: tuple[str, ...]
    specs: tuple[MetricSpec, ...]
    step: int
    timezone: str
    horizon: int
    network_spec: NetworkSpec
    links: Links
    prior: TwinPrior
    central: tuple[CentralMap, ...]
    usual: Usual
    tails: tuple[tuple[TailMap, ...], ...]
    final: TailMap
    level: float
    centres: NDArray[np.float32]
    centre_scale: NDArray[np.float32]
    onnx: bytes
    summary: Summary
    prune: float = 0.0
    looking: Looking = field(default_factory=Looking)
    yardstick: Yardstick = field(default_factory=Yardstick.none)
    calibration: Calibration = field(default_factory=Calibration)

    @property
    def directions(self) -> tuple[str, ...]:
        """Which sides of each metric are worth a flag."""
        return tuple(spec.direction for spec in self.specs)

    @property
    def likelihoods(self) -> dict[str, str]:
        """The family of each metric."""
        return dict(zip(self.metrics, self.prior.families.names, strict=True))

    @property
    def lengths(self) -> tuple[int, ...]:
        """Window lengths in steps, in the order of `tails`."""
        return self.looking.lengths(self.step)

    @property
    def together(self) -> int:
        """Flags of a user nearer than so many steps are one story: a window would cover both, and people go
        on with what they do the next day.
        """
        if self.looking.courses:
            return LONGEST
        return min(max(1, DAY_SECONDS // self.step), self.lengths[-1])

    @property
    def sizes(self) -> Sizes:
        """The dimensions of states."""
        return Sizes(
            slot_count(self.step), len(self.metrics), self.horizon, self.network_spec.state_arrays,
            self.network_spec.units, self.lengths[-1], len(self.lengths), self.looking.courses,
        )  # fmt: skip

    @cached_property
    def network(self) -> Network | Silent:
        """The network, ready to score, or none beside the twin."""
        if self.network_spec.cell == "none":
            return Silent(self.network_spec)
        return Network(self.network_spec, self.onnx)

    @cached_property
    def version(self) -> str:
        """The first 12 hex digits of the sha256 over all files: the same model, the same version."""
        digest = hashlib.sha256()
        for name, content in sorted(self.to_files().items()):
            digest.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
        return digest.hexdigest()[:12]

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to other processes as files: the network's session stays behind."""
        return Model.from_files, (self.to_files(),)

    def to_files(self) -> dict[str, bytes]:
        """Names and contents; the same model gives the same bytes."""
        head = {
            "format": FORMAT, "metrics": self.metrics, "specs": [asdict(spec) for spec in self.specs],
            "step": self.step, "timezone": self.timezone, "horizon": self.horizon,
            "network": asdict(self.network_spec), "links": self.links.kinds,
            "families": asdict(self.prior.families), "level": self.level,
            "prune": self.prune, "calibration": self.calibration.records(),
            "looking": asdict(self.looking), "summary": asdict(self.summary),
        }  # fmt: skip
        return {
            JSON_FILE: json.dumps(head, indent=1, sort_keys=True).encode(),
            ARRAYS_FILE: _npz(self._arrays()),
            ONNX_FILE: self.onnx,
        }

    def _arrays(self) -> dict[str, NDArray[Any]]:
        arrays = {
            "ticks": self.links.ticks, "hurdle": self.links.hurdle, "rate": self.prior.rate,
            "shape": self.prior.shape, "spread": self.prior.spread, "user_level": self.prior.level,
            "tick": self.prior.tick, "usual_mean": self.usual.mean, "usual_spread": self.usual.spread,
            "centres": self.centres, "centre_scale": self.centre_scale,
            "course_place": self.yardstick.place, "course_spread": self.yardstick.spread,
        }  # fmt: skip
        for name, tail in self._tail_maps().items():
            arrays[name] = np.stack([tail.scores, tail.surprise])
        return arrays

    def _tail_maps(self) -> dict[str, TailMap]:
        maps = {"final": self.final}
        for i, central in enumerate(self.central):
            maps[f"central_{i}_upper"], maps[f"central_{i}_lower"] = central.upper, central.lower
        for c, row in enumerate(self.tails):
            maps |= {f"tail_{c}_{length}": tail for length, tail in enumerate(row)}
        return maps

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Model:
        """Read a model back.

        Raises: ModelError if a file is missing, damaged, not finite or of another format.
        """
        try:
            return cls._read(files)
        except UNREADABLE as error:
            raise ModelError(
                f"the model's files cannot be read ({type(error).__name__}: {error}). Train again: anomaly run --force."
            ) from error

    @classmethod
    def _read(cls, files: Mapping[str, bytes]) -> Model:
        head = json.loads(files[JSON_FILE])
        if head["format"] != FORMAT:
            raise ModelFormatError(
                f"the model is of format {head['format']}, this version reads {FORMAT}. Train again."
            )
        with np.load(io.BytesIO(files[ARRAYS_FILE]), allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        for name, array in arrays.items():
            if not np.all(np.isfinite(array)):
                raise ModelError(
                    f"the model's {name} is not finite. Train again: anomaly run --force."
                )
        specs = tuple(MetricSpec(**spec) for spec in head["specs"])
        looking = Looking(**head.get("looking", {}))
        lengths = len(looking.lengths(head["step"]))

        def tail(name: str) -> TailMap:
            return TailMap(arrays[name][0], arrays[name][1])

        return cls(
            metrics=tuple(head["metrics"]), specs=specs, step=head["step"], timezone=head["timezone"],
            horizon=head["horizon"], network_spec=NetworkSpec(**head["network"]),
            links=Links(tuple(head["links"]), arrays["ticks"], arrays["hurdle"]),
            prior=TwinPrior(
                arrays["rate"], arrays["shape"], arrays["spread"], arrays["user_level"], arrays["tick"],
                arrays["hurdle"], Families(*(tuple(head["families"][key]) for key in ("names", "widths"))),
            ),
            central=tuple(
                CentralMap(tail(f"central_{i}_upper"), tail(f"central_{i}_lower")) for i in range(2 * len(specs))
            ),
            usual=Usual(arrays["usual_mean"], arrays["usual_spread"]),
            tails=tuple(tuple(tail(f"tail_{c}_{n}") for n in range(lengths)) for c in range(VIEWS)),
            final=tail("final"), level=head["level"], centres=arrays["centres"],
            centre_scale=arrays["centre_scale"], onnx=files[ONNX_FILE], summary=Summary(**head["summary"]),
            prune=head["prune"], looking=looking, calibration=Calibration.from_records(head["calibration"]),
            yardstick=Yardstick(arrays["course_place"], arrays["course_spread"]),
        )  # fmt: skip


def _npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """An .npz archive whose members carry no date: equal arrays, equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    return buffer.getvalue()
