"""Every setting of the product, typed, with its default and its meaning.

Read from `anomaly.toml` (or the file named by ANOMALY_CONFIG); each key can be overridden from the
environment as ANOMALY_SECTION__KEY. Unknown keys are errors, so that a misspelt one cannot pass.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from anomaly import plugins
from anomaly.exceptions import SettingsError, UsageError
from anomaly.likelihoods.names import BUILT_IN as LIKELIHOODS
from anomaly.months import parse_duration, zone
from anomaly.roles import Role, is_local

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

DEFAULT_CONFIG = "anomaly.toml"
PREFIX = "ANOMALY_"
CONFIG_VARIABLE = "ANOMALY_CONFIG"
RESULT_SECTIONS = ("grid", "metric", "calendar", "cohorts", "model", "scan", "threshold")
DAY_SECONDS = 86_400
CRON_FIELDS = 5
_CRON_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_CRON_NAMES = frozenset(
    "jan feb mar apr may jun jul aug sep oct nov dec mon tue wed thu fri sat sun".split()
)


def _duration(text: str) -> str:
    try:
        parse_duration(text)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return text


def _step(text: str) -> str:
    """A length that divides a day, so that months hold whole steps."""
    seconds = int(parse_duration(_duration(text)).total_seconds())
    if DAY_SECONDS % seconds:
        raise ValueError(f"step {text!r} does not divide a day. Take 5min, 15min, 1h, 6h or 1D.")
    return text


def _horizon(text: str) -> str:
    return text if text == "auto" else _duration(text)


def _timezone(text: str) -> str:
    try:
        zone(text)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return text


def _cron(text: str) -> str:
    """Five fields: minute, hour, day of month, month, day of week."""
    if len(text.split()) != CRON_FIELDS or not all(map(_cron_field, text.split(), _CRON_RANGES)):
        raise ValueError(
            f"cron expression {text!r} is none. Write five fields, minute first: 30 2 * * *"
        )
    return text


def _cron_field(field: str, limits: tuple[int, int]) -> bool:
    return all(_cron_part(part, limits) for part in field.split(","))


def _cron_part(part: str, limits: tuple[int, int]) -> bool:
    span, _, every = part.partition("/")
    if "/" in part and not (every.isdecimal() and int(every) > 0):
        return False
    ends = span.split("-")
    return span == "*" or (len(ends) <= 2 and all(_cron_value(end, limits) for end in ends))


def _cron_value(text: str, limits: tuple[int, int]) -> bool:
    if text.isdecimal():
        return limits[0] <= int(text) <= limits[1]
    return text.lower() in _CRON_NAMES


def _prom_file(path: Path) -> Path:
    if path.suffix != ".prom":
        raise ValueError(f"{path} does not end in .prom, so node_exporter would pass it over.")
    return path


PromFile = Annotated[Path, AfterValidator(_prom_file)]


def _issuer(text: str) -> str:
    """An address as the provider writes it: compared letter by letter, so nothing is taken off."""
    parts = urlsplit(text)
    if parts.scheme == "https" or (parts.scheme == "http" and is_local(parts.hostname or "")):
        return text
    raise ValueError(f"{text!r} is no provider. Write its https:// address.")


def _web_address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path not in {"", "/"}:
        raise ValueError(f"{text!r} is no address of a site. Write: https://anomaly.example.org")
    return f"{parts.scheme}://{parts.netloc}"


def _quiet_hours(text: str) -> str:
    ends = text.split("-")
    if len(ends) != 2 or not all(_CLOCK.fullmatch(end) for end in ends):
        raise ValueError(f"quiet hours {text!r} are none. Write from-to, as in 22:00-07:00")
    return text


QuietHours = Annotated[str, AfterValidator(_quiet_hours)]


def _named(kind: plugins.Kind, *built_in: str) -> AfterValidator:
    """A name of ours, or of an entry point that is installed."""

    def known(name: str) -> str:
        if name not in built_in and name not in plugins.names(kind):
            raise ValueError(f"{name!r} {plugins.unknown(name, kind, built_in)}")
        return name

    return AfterValidator(known)


Duration = Annotated[str, AfterValidator(_duration)]
Issuer = Annotated[str, AfterValidator(_issuer)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
Step = Annotated[str, AfterValidator(_step)]
Horizon = Annotated[str, AfterValidator(_horizon)]
Timezone = Annotated[str, AfterValidator(_timezone)]
Cron = Annotated[str, AfterValidator(_cron)]
Likelihood = Annotated[str, _named("likelihoods", *LIKELIHOODS)]
Cell = Annotated[str, _named("cells", "lstm", "rnn", "gru", "feedforward", "none")]
ThresholdKind = Annotated[str, _named("thresholds", "budget", "fdr", "tail", "dynamic")]
Reader = Annotated[str, _named("sources")]


class Section(BaseModel):
    """A table of the configuration file; refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DatabaseSettings(Section):
    """Where observations, flags and the ledger live."""

    url: str = Field(
        "sqlite:///anomaly.db", description="SQLAlchemy URL: sqlite:/// or postgresql+psycopg://"
    )
    password_file: Path | None = Field(
        None, description="A file whose first line is the database's password."
    )
    retries: int = Field(
        5, ge=0, description="How often a lost connection is tried again, with backoff."
    )


class SourceSettings(Section):
    """Somebody else's database or Parquet folder, read and never written."""

    url: str | None = Field(None, description="SQLAlchemy URL of the source database.")
    password_file: Path | None = Field(
        None, description="A file whose first line is the source's password."
    )
    path: str | None = Field(
        None, description="A Parquet file or folder read in place instead of a database."
    )
    reader: Reader | None = Field(
        None, description="A reader in place of url and path: prometheus, or one that is installed."
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="What the reader is made from."
    )
    table: str | None = Field(None, description="The table to read: name or schema.name.")
    query: str | None = Field(None, description="A SELECT to read instead of a table.")
    calendar_table: str | None = Field(
        None,
        description="A table of the same database with events: kind, start and any of end, name, user_id, cohort.",
    )
    calendar_query: str | None = Field(
        None, description="A SELECT that gives events, instead of such a table."
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Maps user_id, metric, observed_at, value to the source's columns.",
    )
    events: bool = Field(
        False,
        description="Rows are events: counted (or summed, where value is mapped) per step in SQL.",
    )
    metric: str | None = Field(
        None, description="The metric's name where the source has no such column."
    )
    timezone: Timezone = Field("UTC", description="The zone of times that carry none.")
    chunk_rows: int = Field(100_000, ge=1_000, description="Rows held in memory at once.")
    overlap: Duration = Field(
        "3d", description="How far before the watermark is read again, for late rows."
    )
    late_months: int = Field(
        1,
        ge=0,
        description="As a month closes, so many months before it are read again, for late rows of theirs.",
    )
    max_rejected: float = Field(
        0.05, ge=0, le=1, description="A larger share of bad rows refuses the data."
    )

    @property
    def is_named(self) -> bool:
        """Whether a run reads rows by itself."""
        return self.url is not None or self.reader is not None or self.path is not None


class GridSettings(Section):
    """The time grid on which behaviour is laid out."""

    step: Step = Field("1h", description="Length of a step: 5min, 1h, 1D ...")
    timezone: Timezone = Field("UTC", description="The zone in which months and days begin.")


class MetricSettings(Section):
    """What one metric is."""

    kind: Literal["count", "gauge", "share"] | None = Field(
        None, description="Default: found from history."
    )
    aggregate: Literal["sum", "mean", "last", "max"] | None = Field(
        None, description="How rows within a step are joined. Default: sum for a count, else mean."
    )
    absent: Literal["zero", "missing"] | None = Field(
        None,
        description="What a step without a row means. Default: missing where history records zeros itself, else zero.",
    )
    direction: Literal["both", "up", "down"] = Field(
        "both", description="Which side is worth a flag."
    )
    minimum: float = Field(
        0.0, ge=0, description="A departure from the expected total below this is not flagged."
    )
    likelihood: Likelihood = Field(
        "auto",
        description="The family of its values, ours or one that is installed. auto: the one under which "
        "history is most likely.",
    )


class CalendarSettings(Section):
    """Days that are not like others."""

    country: str | None = Field(
        None,
        description="ISO code whose public holidays count, such as DE or US, or a calendar that is installed.",
    )
    payday: int | None = Field(
        None,
        ge=1,
        le=31,
        description="Day of the month on which people are paid, or the working day before it. 31: the last one.",
    )


class CohortSettings(Section):
    """Peer groups."""

    count: int = Field(8, ge=1, description="At most so many groups are looked for.")
    by: list[Literal["department", "role", "country"]] = Field(
        default_factory=list,
        description="Columns of users (department, role, country) that set groups instead.",
    )
    minimum_members: int = Field(5, ge=2, description="Smaller groups are compared with everyone.")


class ModelSettings(Section):
    """The network and how it is trained."""

    cell: Cell = Field(
        "lstm",
        description="lstm, rnn, gru, feedforward, or one that is installed. none: the statistical twin alone.",
    )
    layers: int = Field(1, ge=1, le=4, description="Recurrent layers on top of each other.")
    units: int = Field(48, ge=4, le=512, description="Memory cells in each layer.")
    bidirectional: bool = Field(
        False, description="Read both ways; only to reconstruct, many-to-many."
    )
    objective: Literal["forecast", "reconstruct", "both"] = Field(
        "both", description="What the network learns to say of a step; both: a head for each."
    )
    mapping: Literal["many-to-many", "many-to-one", "one-to-many", "one-to-one"] = Field(
        "many-to-many", description="What it reads and what it says."
    )
    truncate_steps: int = Field(96, ge=1, description="Gradients flow back through so many steps.")
    clip_norm: float = Field(1.0, gt=0, description="Gradients are scaled down to this norm.")
    horizon: Horizon = Field(
        "auto", description="How far ahead is forecast: 1h, 1D ...; auto: one step."
    )
    history_months: int = Field(
        12, ge=1, description="At most so many months before the scored one are learnt from."
    )
    retrain_months: int = Field(
        3, ge=1, description="A champion trained longer ago than this is replaced."
    )
    sample_users: int = Field(
        2_000,
        ge=1,
        description="At most so many users are trained on, some of each department and role.",
    )
    steps: int = Field(
        600, ge=1, description="Training ends after so many gradient steps at the latest."
    )
    batch: int = Field(64, ge=1, description="Sequences in a gradient step.")
    patience: int = Field(
        4, ge=1, description="Training ends when validation has not improved so many times."
    )
    learning_rate: float = Field(6e-3, gt=0, description="Adam's step size.")
    seed: int = Field(0, ge=0, description="Everything random follows from it.")


class ScanSettings(Section):
    """What is looked at: parts that can be switched off, to measure what each brings."""

    windows: bool = Field(
        True, description="Windows of several lengths; false: each step by itself."
    )
    own_history: bool = Field(
        True, description="Windows are set against the user's own; false: against everyone's alone."
    )
    common_shock: bool = Field(
        True, description="What hits everyone in a step explains deviations."
    )
    combine: Literal["mean", "highest", "loud", "steady"] = Field(
        "mean",
        description="Evidence of a step: the mean over ways and lengths, the highest, or one way alone.",
    )
    courses: bool | None = Field(
        None,
        description="Whether courses of values are held against the past too. Default: with fewer than 20 users.",
    )


class ThresholdSettings(Section):
    """Where flags begin."""

    kind: ThresholdKind | None = Field(
        None,
        description="budget, fdr, tail, dynamic, or one that is installed. Default: budget; with fewer than "
        "20 users, tail.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="What a threshold that is installed is made from."
    )
    false_flags_per_1000_user_months: float = Field(
        20.0, gt=0, description="The budget of false flags."
    )
    fdr: float = Field(
        0.1, gt=0, lt=1, description="The share of flags allowed to be false, for kind = fdr."
    )
    correction: Literal["bh", "by"] = Field(
        "bh",
        description="by: allows for any dependence between windows (Benjamini-Yekutieli), for kind = fdr.",
    )
    tail: float = Field(
        0.5,
        gt=0,
        description="Flags expected by chance per series and year (10,000 steps on grids finer than "
        "an hour), for kind = tail.",
    )


class FeedbackSettings(Section):
    """What follows from verdicts. Neither scores nor the names of flags depend on it."""

    margin: float = Field(
        1.25,
        ge=1,
        description="After a false alarm, similar flags need its score times this to be shown as open.",
    )
    keep: Duration = Field("180d", description="How long that lasts unless it is revoked.")
    refit: bool = Field(
        True,
        description="Each run asks for more evidence where verdicts show that false flags exceed the budget.",
    )


class ScheduleSettings(Section):
    """When work is done. Cron expressions (five fields)."""

    timezone: Timezone = Field("UTC", description="The zone of the expressions.")
    ingest: Cron = Field("15 1 * * *", description="Reads the source.")
    train: Cron = Field("0 2 1 * *", description="Trains a candidate if one is due.")
    score: Cron = Field(
        "30 2 * * *",
        description="Scores the month so far, and closes months whose lateness has passed.",
    )


class RunSettings(Section):
    """How a run is carried out."""

    engine: Literal["local", "ray"] = Field("local", description="Where shards are scored.")
    workers: int = Field(
        0, ge=0, description="Shards scored at the same time; 0: as many as cores and memory allow."
    )
    attempts: int = Field(
        3, ge=1, description="How often a shard is tried before users are set aside."
    )
    shard_users: int = Field(500, ge=1, description="Users scored and published together.")
    lease: Duration = Field("30s", description="A holder silent for longer has lost its run.")
    stage_limit: Duration = Field(
        "6h", description="A stage, or a shard's part of it, that takes longer is ended as stuck."
    )
    stop: Duration = Field(
        "15s", description="After SIGTERM work may unwind for so long; then it is cut off."
    )
    lateness: Duration = Field(
        "3d", description="A month is complete when a run starts this long after its end."
    )
    artefacts: Path | None = Field(
        None,
        description="Folder of models. Default: beside SQLite's file, else anomaly-artefacts where the command starts.",
    )
    ray_address: str | None = Field(
        None,
        description="Of the cluster: ray://HOST:10001, HOST:6379 or auto (one on this machine). Default: "
        "RAY_ADDRESS, which ray job submit sets, else Ray on this machine for the run alone.",
    )


class NotifySettings(Section):
    """Whom to tell: of a month when it is complete, of what cannot wait at once."""

    urls: list[str] = Field(
        default_factory=list,
        repr=False,
        description="Addresses as apprise has them, such as mailto://… or slack://…; NAME=… names one.",
    )
    urls_file: Path | None = Field(
        None, description="A file with more of them, one a line: they hold passwords."
    )
    urgent: Literal["low", "medium", "high", "critical", "never"] = Field(
        "critical", description="Flags of this severity and above are told at once."
    )
    recent: Duration = Field(
        "45d", description="Nothing is told of months that ended longer ago, such as in a backfill."
    )
    per_hour: int = Field(
        10, ge=1, description="At most so many messages a channel; others wait and are joined."
    )
    quiet: QuietHours | None = Field(
        None, description="Nothing is sent in these hours of [grid] timezone: 22:00-07:00."
    )


class WebSettings(Section):
    """The page and the API, and who may use them."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8090, ge=0, le=65535, description="Port to listen on.")
    authentication: Literal["auto", "required", "none"] = Field(
        "auto",
        description="auto: nobody need log on while this listens on localhost and no token was ever "
        "made. none: the same for good, on localhost alone.",
    )
    public_url: WebAddress | None = Field(
        None, description="Where browsers find this, such as https://anomaly.example.org."
    )
    trusted_proxies: list[str] = Field(
        default_factory=list,
        description="Addresses or networks of proxies whose X-Forwarded-For and -Proto are believed.",
    )
    session: Duration = Field("12h", description="A log-on lasts so long.")
    session_key_file: Path | None = Field(
        None, description="The key that signs cookies. Default: made at first, beside the models."
    )
    first_token_file: Path | None = Field(
        None,
        description="A file with an administrator's token of 32 characters or more, for the first log-on.",
    )
    log_ons_per_minute: int = Field(
        10, ge=1, description="Attempts to log on that one address may make."
    )
    metrics_public: bool = Field(
        False, description="/metrics may be read without a token, also where others need one."
    )
    issuer: Issuer | None = Field(
        None, description="A provider of identities (OpenID Connect) with which people log on."
    )
    client_id: str | None = Field(None, description="How the provider knows this server.")
    client_secret_file: Path | None = Field(
        None, description="A file whose first line is the secret shared with the provider."
    )
    scopes: str = Field("openid profile email", description="What the provider is asked for.")
    name_claim: str = Field(
        "preferred_username", description="The claim by which a person is called here."
    )
    role_claim: str = Field(
        "groups", description="The claim that gives roles; dots lead inwards: realm_access.roles."
    )
    roles: dict[str, Role] = Field(
        default_factory=dict,
        description='Values of the role claim and their roles: { "soc-team" = "analyst" }.',
    )
    default_role: Role | None = Field(
        None, description="The role of everyone else whom the provider knows. None: no entry."
    )

    @model_validator(mode="after")
    def _known_to_the_provider(self) -> Self:
        if self.issuer and not self.client_id:
            raise ValueError("issuer needs a client_id, which the provider gives.")
        if self.issuer and not (self.roles or self.default_role):
            raise ValueError("issuer needs roles or a default_role, else nobody has a role here.")
        return self


class PrivacySettings(Section):
    """Names of people."""

    pseudonymise: bool = Field(
        False, description="Users are replaced by keyed hashes as they are read."
    )
    key_file: Path | None = Field(None, description="The file that holds the key.")


class RetentionSettings(Section):
    """How long things are kept."""

    observations_months: int | None = Field(
        None, ge=1, description="Months of observations before this one; none: all."
    )
    superseded_months: int | None = Field(
        None,
        ge=1,
        description="Results of superseded and failed runs of so many months; none: all.",
    )
    rejects_months: int | None = Field(
        None, ge=1, description="Rows that were set aside in so many months; none: all."
    )


class TelemetrySettings(Section):
    """What operators see."""

    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: readable on a terminal, else JSON."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least level written."
    )
    pushgateway: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Address of a Prometheus Pushgateway that gets the figures when a command ends.",
    )
    textfile: PromFile | None = Field(
        None,
        description="A file ending in .prom, for node_exporter's textfile collector, written when a command ends.",
    )
    otlp: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Address of an OpenTelemetry collector (OTLP over HTTP, port 4318) that gets runs and stages as "
        "spans. Needs the extra otel.",
    )
    mlflow: str | None = Field(
        None,
        pattern=r"^(https?|file)://",
        description="Tracking URI of MLflow, which gets the figures of each model that is trained. Needs the extra "
        "mlflow.",
    )


class Settings(Section):
    """All sections. See `load`."""

    database: DatabaseSettings = DatabaseSettings()
    source: SourceSettings = SourceSettings()
    grid: GridSettings = GridSettings()
    metric: dict[str, MetricSettings] = Field(default_factory=dict)
    calendar: CalendarSettings = CalendarSettings()
    cohorts: CohortSettings = CohortSettings()
    model: ModelSettings = ModelSettings()
    scan: ScanSettings = ScanSettings()
    threshold: ThresholdSettings = ThresholdSettings()
    feedback: FeedbackSettings = FeedbackSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    run: RunSettings = RunSettings()
    notify: NotifySettings = NotifySettings()
    web: WebSettings = WebSettings()
    privacy: PrivacySettings = PrivacySettings()
    retention: RetentionSettings = RetentionSettings()
    telemetry: TelemetrySettings = TelemetrySettings()


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings: the file's values, overridden by the environment's.

    Args: path: the file; default: ANOMALY_CONFIG, else ./anomaly.toml where there is one.
        environ: variables named ANOMALY_SECTION__KEY; default: this process's. Lists and tables
            are written as JSON.
    Raises: SettingsError naming the file or variable, the key and the nearest known name.
    """
    environ = os.environ if environ is None else environ
    file = config_file(path, environ)
    values = {} if file is None else _read_file(file)
    origins = {key: str(file) for key, _ in _flat(values)}
    for variable, key, value in _variables(environ):
        _put(values, key, value)
        for depth in range(1, len(key)):
            origins.setdefault(key[:depth], variable)
        origins[key] = variable
    for key, _ in _flat(values):
        _refuse_unknown(key, _origin(origins, key, "settings"))
    return _validated(values, origins, "settings")


def secret_in(file: Path, setting: str) -> str:
    """The first line of a file that holds a password or a token.

    Args: setting: which one names the file, for messages.
    Raises: SettingsError if it cannot be read or its first line is empty.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise SettingsError(
            f"{setting} {file}: cannot be read ({reason}). Check its path and rights."
        ) from error
    if not lines or not lines[0].strip():
        raise SettingsError(f"{setting} {file}: its first line is empty. Write the secret there.")
    return lines[0]


def config_file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The settings file that counts: the one named, else ./anomaly.toml if it is there."""
    named = path or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    default = Path(DEFAULT_CONFIG)
    return named or (default if default.exists() else None)


def with_values(settings: Settings, origin: str, section: str, **values: Any) -> Settings:
    """The same settings with some values of a section changed.

    Args: origin: who says so, such as an option's name.
    Raises: SettingsError naming the origin and the key.
    """
    changed = settings.model_dump(exclude_unset=True)
    changed[section] = {**changed.get(section, {}), **values}
    return _validated(changed, {}, origin)


def _validated(values: Mapping[str, Any], origins: Mapping[Key, str], otherwise: str) -> Settings:
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(
            "; ".join(_mistake(one, origins, otherwise) for one in error.errors())
        ) from error


def _mistake(found: ErrorDetails, origins: Mapping[Key, str], otherwise: str) -> str:
    """Where a value comes from, whose it is, and what is wrong with it."""
    key = tuple(str(part) for part in found["loc"])
    message = found["msg"].removeprefix("Value error, ")
    return f"{_origin(origins, key, otherwise)}: {_dotted(key)}: {message}"


def configuration_hash(settings: Settings) -> str:
    """Name the settings that shape a result, and only those: 16 hexadecimal digits.

    Addresses, paths, workers, shard sizes and lateness are left out, so that the same data give
    the same flag ids on every machine.
    """
    shaping = settings.model_dump(mode="json", include=set(RESULT_SECTIONS))
    if settings.scan == ScanSettings():
        del shaping["scan"]  # configurations from before this section keep their hashes
    if settings.calendar.payday is None:
        del shaping["calendar"]["payday"]
    if not settings.threshold.options:
        del shaping["threshold"]["options"]
    text = json.dumps(shaping, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def template() -> str:
    """A settings file that changes nothing: every setting with its meaning, its default commented out."""
    parts = ["# Settings of anomaly. Lines that begin with # show the defaults.\n"]
    for name, section in Settings.model_fields.items():
        model = section.annotation if name != "metric" else MetricSettings
        header = f"[{name}]" if name != "metric" else "# [metric.NAME]"
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        parts.append(f"\n# {(model.__doc__ or '').strip()}\n{header}\n")
        for key, field in model.model_fields.items():
            default = field.get_default(call_default_factory=True)
            parts.append(f"# {key} = {_toml(default)}  # {field.description}\n")
    return "".join(parts)


def _toml(value: Any) -> str:
    """A default as TOML; what has none is shown empty."""
    if value is None:
        return '""'
    return "{}" if value == {} else json.dumps(value)


Key = tuple[str, ...]


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"{file}: cannot be read ({error.strerror}). Write one with: anomaly init"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: is no TOML: {error}") from error


def _variables(environ: Mapping[str, str]) -> Iterable[tuple[str, Key, Any]]:
    """Variables that name a setting; those without a double underscore belong to others."""
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and "__" in variable:
            key = tuple(variable.removeprefix(PREFIX).lower().split("__"))
            yield variable, key, _value(environ[variable])


def _value(text: str) -> Any:
    """Lists and tables are JSON; anything else is taken as it stands and converted by its type."""
    if not text.startswith(("[", "{")):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _put(values: dict[str, Any], key: Key, value: Any) -> None:
    table = values
    for part in key[:-1]:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            return
        table = inner
    table[key[-1]] = value


def _flat(values: Mapping[str, Any], prefix: Key = ()) -> Iterable[tuple[Key, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield (*prefix, name), value
            yield from _flat(value, (*prefix, name))
        else:
            yield (*prefix, name), value


def _refuse_unknown(key: Key, origin: str) -> None:
    known = _known(key[:-1])
    if known is None or key[-1] in known:
        return
    near = difflib.get_close_matches(key[-1], known, n=1)
    hint = (
        f" Did you mean {_dotted((*key[:-1], near[0]))}?"
        if near
        else f" Known: {', '.join(known)}."
    )
    raise SettingsError(f"{origin}: {_dotted(key)} is no setting.{hint}")


def _known(table: Key) -> list[str] | None:
    """The keys a table may hold; None where names are the user's own."""
    if not table:
        return list(Settings.model_fields)
    if table[0] == "metric":
        return None if len(table) == 1 else list(MetricSettings.model_fields)
    if table[0] not in Settings.model_fields or len(table) > 1:
        return None  # columns, options: names are somebody else's
    section = Settings.model_fields[table[0]].annotation
    assert isinstance(section, type)
    assert issubclass(section, BaseModel)
    return list(section.model_fields)


def _origin(origins: Mapping[Key, str], key: Key, otherwise: str) -> str:
    """Where a key, or the table that holds it, was written."""
    while key and key not in origins:
        key = key[:-1]
    return origins.get(key, otherwise)


def _dotted(key: Key) -> str:
    return (
        f"[{'.'.join(key[:-1])}] {key[-1]}"
        if len(key) > 1
        else f"[{key[0]}]"
        if key
        else "settings"
    )
