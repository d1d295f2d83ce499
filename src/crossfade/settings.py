"""The configuration file, the environment and secret files, parsed once into plain values.

Precedence: environment (`CROSSFADE_SOURCE__DSN`), then secret files (`source__dsn` in $CROSSFADE_SECRETS_DIR,
systemd's $CREDENTIALS_DIRECTORY or /run/secrets), then the TOML file, then defaults. Refuses to know what the values
are used for, and the mapping beyond its path. The invariant: every problem is told at once, with its place and line,
and no secret appears in an error or a repr; a shown line ends at its `=` where it could hold one.

TOML 1.0.0: toml.io/en/v1.0.0. systemd.exec: "Credentials".
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SecretStr,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from crossfade.faults import Misconfigured
from crossfade.mapping.places import Place, Report, did_you_mean
from crossfade.mapping.written import read_text

_PREFIX: Final = "CROSSFADE_"
_NOT_SETTINGS: Final = frozenset({"CROSSFADE_CONFIG", "CROSSFADE_SECRETS_DIR"})
_LARGEST_MIB: Final = 1  # of the configuration
_LARGEST_SECRET: Final = 1024 * 1024  # bytes
_RUN_SECRETS: Final = Path("/run/secrets")

DURATION_PATTERN: Final = r"(\d{1,9}(?:\.\d{1,6})?)\s*(ms|s|m|h)"
_DURATION: Final = re.compile(DURATION_PATTERN)
_SECONDS: Final[Mapping[str, float]] = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
_SIZE: Final = re.compile(r"(\d{1,12})\s*(KiB|MiB|GiB)")
_BYTES: Final[Mapping[str, int]] = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def parse_duration(text: object) -> object:
    """`500ms`, `30s`, `10m`, `6h` as a timedelta. Raises a pydantic error, without the text, for anything else."""
    if isinstance(text, timedelta):
        return text
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise PydanticCustomError("duration", 'expected a duration such as "500ms", "30s", "10m" or "6h"')
    return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])


def _parse_size(value: object) -> object:
    """Bytes as a number, or as `4 MiB`."""
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)) is not None:
        return int(match[1]) * _BYTES[match[2]]
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, str) and value.isdigit())):
        raise PydanticCustomError("size", 'expected a number of bytes, or a text such as "4 MiB"')
    return value


def _no_truth_value(value: object) -> object:
    """TOML's `true` would pass as the integer 1."""
    if isinstance(value, bool):
        raise PydanticCustomError("integer", "expected a whole number")
    return value


_LISTEN: Final = r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):(\d{1,5})"
_LISTEN_SCHEMA: Final = {
    "type": "string",
    "pattern": f"^(?:{_LISTEN})?$",
    "description": 'Where HTTP is served, host:port; "" for nowhere.',
}


def _check_listen(value: object) -> object:
    if value == "":
        return value
    match = re.fullmatch(_LISTEN, value) if isinstance(value, str) else None
    if match is None or int(match[1]) > 65535:  # the largest TCP port
        raise PydanticCustomError("listen", 'expected host:port such as "127.0.0.1:9810", or "" for none')
    return value


@dataclass(frozen=True, slots=True)
class _Matching:
    """A text that fits the pattern; the sentence says what is expected."""

    pattern: str
    sentence: str

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$", "description": f"Expected: {self.sentence}."}

    def _check(self, value: object) -> object:
        if not isinstance(value, str) or re.fullmatch(self.pattern, value) is None:
            raise PydanticCustomError("pattern", "expected {sentence}", {"sentence": self.sentence})
        return value


def _check_dsn(value: object) -> object:
    if isinstance(value, SecretStr):
        return value
    if not isinstance(value, str) or not value.strip():
        raise PydanticCustomError("dsn", 'expected a connection string such as "host=db dbname=shop user=crossfade"')
    return value


def _no_truth_number(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("number", "expected a number")
    return value


def _parse_argv(value: object) -> object:
    """A list of texts; from the environment, a JSON list. Never a command line: no shell is to take it apart."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value else []
        except ValueError:
            value = None
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise PydanticCustomError("argv", 'expected a list: a program and its arguments, such as ["/opt/page", "me"]')
    if value and not value[0]:
        raise PydanticCustomError("argv", "the first of the list is the program, and must not be empty")
    return tuple(value)


def _check_address(value: object) -> object:
    """An address that may hold a token, so it is never shown."""
    if value is None or isinstance(value, SecretStr):
        return value
    if not isinstance(value, str) or re.fullmatch(r"https?://[^\s/]+(?:/\S*)?", value) is None:
        raise PydanticCustomError("address", 'expected an address such as "https://pager.example.com/hooks/crossfade"')
    return value


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
_SIZE_SCHEMA: Final = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": f"^(?:{_SIZE.pattern}|\\d+)$"}],
    "description": 'Bytes as a number, or as "4 MiB".',
}
Size = Annotated[int, BeforeValidator(_parse_size), WithJsonSchema(_SIZE_SCHEMA)]
Count = Annotated[int, BeforeValidator(_no_truth_value)]
Dsn = Annotated[SecretStr, BeforeValidator(_check_dsn)]
Ratio = Annotated[float, BeforeValidator(_no_truth_number)]
Argv = Annotated[tuple[str, ...], BeforeValidator(_parse_argv)]


class StrictModel(BaseModel):
    """Unknown keys are errors, at every level: `extra` on the outermost model alone does not reach nested ones."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=True)


class Database(StrictModel):
    """One side. `dsn` is a libpq connection string or URI; libpq honours passfile, service and PG* variables.

    `disk_capacity` is how large the disk of data and WAL is, in bytes, which SQL cannot see; None: not said.
    """

    dsn: Dsn
    disk_capacity: Annotated[Size | None, Field(ge=1)] = None


class Stream(StrictModel):
    """What we own on the source, and how much of its changes is in memory at a time (bytes)."""

    slot: Annotated[
        str, _Matching(r"[a-z0-9_]{1,63}", "1 to 63 lower case letters, digits and _, as PostgreSQL requires of a slot")
    ] = "crossfade"
    # The second publication's name is seven characters longer and must fit 63 bytes as well.
    publication: Annotated[
        str, _Matching(r"[A-Za-z_][A-Za-z0-9_]{0,55}", "1 to 56 letters, digits and _, not a digit first")
    ] = "crossfade"
    batch_bytes: Annotated[Size, Field(ge=1024, le=1024**3)] = 2 * 1024**2
    pipe_bytes: Annotated[Size, Field(ge=1024, le=16 * 1024**3)] = 16 * 1024**2
    # `exact`: change by change, for whoever suspects what is faster.
    apply: Literal["fast", "exact"] = "fast"
    wire: Literal["auto", "text"] = "auto"
    status_interval: Annotated[Duration, Field(ge=timedelta(milliseconds=100), le=timedelta(minutes=1))] = timedelta(
        seconds=10
    )

    @property
    def append_publication(self) -> str:
        """The publication of append_only tables: INSERT and TRUNCATE only."""
        return f"{self.publication}_append"

    @model_validator(mode="after")
    def _pipe_holds_a_batch(self) -> Self:
        if self.pipe_bytes < self.batch_bytes:
            raise PydanticCustomError("pipe_bytes", "pipe_bytes must not be less than batch_bytes")
        return self


class Copy(StrictModel):
    """The initial copy: parts at a time, how large a part is (bytes on the source, TOAST included), and whether to let
    go of a table when somebody queues for it."""

    workers: Annotated[Count, Field(ge=1, le=64)] = 2
    part_bytes: Annotated[Size, Field(ge=8192, le=1024**4)] = 32 * 1024**2
    lock_yield: bool = True


class Capacity(StrictModel):
    """Free space on the disks of either server, in bytes, which SQL cannot see: for `check` alone. None: not said."""

    source_free: Annotated[Size | None, Field(ge=1)] = None
    target_free: Annotated[Size | None, Field(ge=1)] = None


class Guards(StrictModel):
    """What crossfade does by itself before harm is done. Sizes in bytes; None: no such limit.

    `own_disk_path` "" leaves our own disk unwatched.
    """

    own_disk_path: str = "."
    own_disk_reserve: Annotated[Size, Field(ge=0)] = 256 * 1024**2
    error_ratio: Annotated[Ratio, Field(gt=0, le=1)] = 0.5
    probe_interval: Annotated[Duration, Field(ge=timedelta(milliseconds=100), le=timedelta(hours=1))] = timedelta(
        seconds=30
    )
    wal_soft_limit: Annotated[Size | None, Field(ge=1)] = None
    wal_hard_limit: Annotated[Size | None, Field(ge=1)] = None
    on_wal_hard_limit: Literal["alarm", "give_up_slot"] = "alarm"

    @model_validator(mode="after")
    def _soft_comes_first(self) -> Self:
        soft, hard = self.wal_soft_limit, self.wal_hard_limit
        if soft is not None and hard is not None and soft > hard:
            raise PydanticCustomError("wal_limits", "wal_soft_limit must not be more than wal_hard_limit")
        if hard is None and self.on_wal_hard_limit == "give_up_slot":
            raise PydanticCustomError("wal_limits", "give_up_slot needs a wal_hard_limit")
        return self


class Alerts(StrictModel):
    """From where on the status, the hooks and (with the same numbers) deploy/prometheus/alerts.yml raise an alert."""

    lag_warning: Duration = timedelta(seconds=60)
    lag_critical: Duration = timedelta(minutes=15)
    lag_shrinking_rate: Annotated[Ratio, Field(gt=0)] = 0.1
    lag_growing_rate: Annotated[Ratio, Field(gt=0)] = 0.2
    lag_growing: Duration = timedelta(minutes=2)
    stalled_lag: Size = 16 * 1024**2
    migration_stalled_rate: Annotated[Ratio, Field(gt=0)] = 100
    migration_stalled_lag: Duration = timedelta(seconds=30)
    heartbeat_missing: Duration = timedelta(minutes=2)
    error_ratio: Annotated[Ratio, Field(gt=0, le=1)] = 0.01
    conflicts: Annotated[Count, Field(ge=0)] = 10
    slot_retention_warning: Annotated[Ratio, Field(gt=0, le=1)] = 0.5
    slot_retention_critical: Annotated[Ratio, Field(gt=0, le=1)] = 0.8
    slot_retained_unlimited: Annotated[Size, Field(ge=1)] = 10 * 1024**3
    slot_lost_within: Duration = timedelta(hours=4)
    long_transaction: Duration = timedelta(hours=1)
    disk_free_ratio: Annotated[Ratio, Field(gt=0, le=1)] = 0.2
    queue_full_ratio: Annotated[Ratio, Field(gt=0, le=1)] = 0.9
    performance_factor: Annotated[Ratio, Field(gt=1)] = 1.5
    performance_least_rate: Annotated[Ratio, Field(ge=0)] = 20


class Hooks(StrictModel):
    """Who is told of alerts, without Prometheus. The addresses may hold secrets; None: nobody.

    `on_alert` is a program and its arguments, run without a shell; `alertmanager` the address before /api/v2/alerts.
    """

    on_alert: Argv = ()
    webhook: Annotated[SecretStr | None, BeforeValidator(_check_address)] = None
    webhook_token: SecretStr | None = None
    alertmanager: Annotated[SecretStr | None, BeforeValidator(_check_address)] = None
    timeout: Annotated[Duration, Field(ge=timedelta(milliseconds=100), le=timedelta(minutes=5))] = timedelta(seconds=10)


class Http(StrictModel):
    """`listen` "" switches the HTTP surface off."""

    listen: Annotated[str, BeforeValidator(_check_listen), WithJsonSchema(_LISTEN_SCHEMA)] = "127.0.0.1:9810"


class Log(StrictModel):
    """`auto` writes console lines to a terminal and JSON elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class Stop(StrictModel):
    """How long the first SIGTERM may spend on draining."""

    deadline: Annotated[Duration, Field(ge=timedelta(0), le=timedelta(hours=24))] = timedelta(seconds=20)


class Settings(BaseSettings):
    """One workflow's configuration. `mapping` is absolute, or relative to the working directory, once loaded."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=True, env_prefix=_PREFIX
    )

    name: Annotated[
        str,
        _Matching(
            r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", "1 to 63 letters, digits, dots, _ and -, a letter or digit first"
        ),
    ]
    mapping: Path = Path("mapping.yaml")
    source: Database
    target: Database
    stream: Stream = Stream()
    copy_: Copy = Field(default=Copy(), alias="copy")  # pydantic models already have a `copy`
    capacity: Capacity = Capacity()
    guards: Guards = Guards()
    alerts: Alerts = Alerts()
    hooks: Hooks = Hooks()
    http: Http = Http()
    log: Log = Log()
    stop: Stop = Stop()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # the signature is pydantic-settings'
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what it is called with: `load_settings` reads the layers, to say where each value came from."""
        return (init_settings,)


_Values = dict[str, object]
_KeyPath = tuple[str, ...]


class _Layer(PydanticBaseSettingsSource):
    """Values somebody gave in one way, nested like the settings, and the words for where each stands."""

    def __init__(self, values: _Values, origins: Mapping[_KeyPath, str]) -> None:
        super().__init__(Settings)
        self.values = values
        self.origins = origins

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[object, str, bool]:
        name = field.alias or field_name
        return self.values.get(name), name, False

    def __call__(self) -> _Values:
        return self.values


def load_settings(
    path: Path, *, environment: Mapping[str, str] | None = None, run_secrets: Path = _RUN_SECRETS
) -> Settings:
    """Read a configuration. Raises one `Misconfigured` that lists every problem, and never a value of it.

    `environment` None is the process's own; a relative `mapping` is taken relative to the file.
    """
    settings, _, _ = _load(path, environment, run_secrets)
    if settings.mapping.is_absolute():
        return settings
    return settings.model_copy(update={"mapping": path.parent / settings.mapping})


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting in force, as it would be written. `value` of a secret is the secret: mask it before it is shown."""

    key: str
    value: str
    origin: str
    is_secret: bool


def explain_settings(
    path: Path, *, environment: Mapping[str, str] | None = None, run_secrets: Path = _RUN_SECRETS
) -> tuple[Shown, ...]:
    """Every setting and where it came from, in the order of the documentation. Raises as `load_settings` does."""
    settings, layers, places = _load(path, environment, run_secrets)
    shown = []
    for section, below in _sections().items():
        part = getattr(settings, "copy_" if section == "copy" else section)
        given: list[tuple[_KeyPath, object]] = [((section, key), getattr(part, key)) for key in below]
        for keys, value in given or [((section,), part)]:
            origin = "default"
            for layer in layers:
                if _has(layer.values, keys):
                    origin = layer.origins.get(keys) or f"{path.name}:{places.get(keys, Place(1, 1)).line}"
                    break
            shown.append(Shown(".".join(keys), _written(value), origin, isinstance(value, SecretStr)))
    return tuple(shown)


def _load(
    path: Path, environment: Mapping[str, str] | None, run_secrets: Path
) -> tuple[Settings, Sequence[_Layer], Mapping[_KeyPath, Place]]:
    environment = os.environ if environment is None else environment
    text = read_text(
        path,
        called="configuration",
        largest_mib=_LARGEST_MIB,
        do="Name the file with --config or $CROSSFADE_CONFIG.",
    )
    report = Report(path.name, text, redact=_redact)
    elsewhere: list[str] = []
    values = _parse_toml(text, report)
    report.raise_if_any()
    places = _key_places(text)
    layers = (
        _environment(environment, elsewhere),
        _secret_files(_secret_dirs(environment, run_secrets, elsewhere), elsewhere),
        _Layer(values, {}),
    )

    class FromLayers(Settings):
        """Settings fed by these layers, first wins."""

        @classmethod
        def settings_customise_sources(
            cls, *_: object, **__: object
        ) -> tuple[PydanticBaseSettingsSource, ...]:  # fewer names than pydantic-settings hands over
            return layers

    settings: Settings | None = None
    try:
        settings = FromLayers()  # type: ignore[call-arg]  # the layers bring what the signature asks for
    except ValidationError as error:
        for detail in error.errors(include_input=False, include_url=False, include_context=False):
            _tell(detail, layers, places, report, elsewhere)
    if elsewhere or report.problems or settings is None:
        raise Misconfigured("\n".join([*report.render(), *elsewhere]))
    return settings, layers, places


def _has(values: Mapping[str, object], keys: _KeyPath) -> bool:
    here: object = values
    for key in keys:
        if not isinstance(here, dict) or key not in here:
            return False
        here = here[key]
    return True


def _written(value: object) -> str:
    """A value as the file would have it; '' for what is not set."""
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        return f"{seconds * 1000:g}ms" if seconds % 1 else f"{seconds:g}s"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return json.dumps(value)
    if isinstance(value, int):
        unit = next((name for name in ("GiB", "MiB", "KiB") if value and value % _BYTES[name] == 0), None)
        return f"{value // _BYTES[unit]} {unit}" if unit else str(value)
    return str(value)


# -- reading -------------------------------------------------------------------------------------------------------


def _parse_toml(text: str, report: Report) -> _Values:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        at = re.search(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)\s*$", message)
        reason = message[: at.start()] if at is not None else message
        if at is not None and at[1] is not None:
            place = Place(int(at[1]), int(at[2]))
        else:
            lines = text.rstrip("\n").split("\n")
            place = Place(len(lines), len(lines[-1]) + 1)
        report.add(place, "", f"this is not TOML: {reason[:1].lower()}{reason[1:]}.")
    except RecursionError:
        report.add(Place(1, 1), "", "this is not a configuration: nested too deeply.")
    return {}


def _sections() -> dict[str, tuple[str, ...]]:
    """Each key of the file with the keys under it; () for plain values."""
    sections: dict[str, tuple[str, ...]] = {}
    for name, field in Settings.model_fields.items():
        model: object = field.annotation
        below = tuple(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else ()
        sections[field.alias or name] = below
    return sections


def _environment(environment: Mapping[str, str], elsewhere: list[str]) -> _Layer:
    """CROSSFADE_<SECTION>__<KEY>. Names without `__` that are no setting are let pass: Kubernetes gives every
    container CROSSFADE_PORT and the like when a service is called crossfade."""
    values: _Values = {}
    origins: dict[_KeyPath, str] = {}
    sections = _sections()
    for variable, value in sorted(environment.items()):
        if not variable.startswith(_PREFIX) or variable in _NOT_SETTINGS:
            continue
        keys = tuple(variable.removeprefix(_PREFIX).lower().split("__"))
        if keys[0] not in sections:
            if len(keys) > 1:
                hint = did_you_mean(keys[0], sections)
                elsewhere.append(f"environment variable {_shown(variable)}: there is no section {keys[0]!r}.{hint}")
            continue
        if (len(keys) == 1) == bool(sections[keys[0]]):
            continue
        if not _is_text(variable + value):
            elsewhere.append(f"environment variable {_shown(variable)}: this is not UTF-8 text.")
            continue
        _put(values, keys, value)
        origins[keys] = f"environment variable {variable}"
    return _Layer(values, origins)


def _is_text(given: str) -> bool:
    """Bytes of the environment that are not UTF-8 arrive as lone surrogates, which no log, page or database takes."""
    try:
        given.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _secret_dirs(environment: Mapping[str, str], run_secrets: Path, elsewhere: list[str]) -> list[Path]:
    """Most general first, so that later ones win."""
    dirs = [run_secrets]
    if given := environment.get("CREDENTIALS_DIRECTORY"):
        dirs.append(Path(given))
    if given := environment.get("CROSSFADE_SECRETS_DIR"):
        if not Path(given).is_dir():
            elsewhere.append("environment variable CROSSFADE_SECRETS_DIR: this names no directory.")
        dirs.append(Path(given))
    return dirs


def _secret_files(dirs: Sequence[Path], elsewhere: list[str]) -> _Layer:
    """Files named like `source__dsn` (or `crossfade_source__dsn`); anything else there is somebody else's secret."""
    values: _Values = {}
    origins: dict[_KeyPath, str] = {}
    sections = _sections()
    for directory in dirs:
        try:
            names = sorted(file.name for file in directory.iterdir())
        except OSError:
            continue  # /run/secrets is there only where something mounted it
        for name in names:
            keys = tuple(name.lower().removeprefix(_PREFIX.lower()).split("__"))
            if len(keys) != 2 or not sections.get(keys[0]):  # section and key
                continue
            file = directory / name
            try:
                text = file.read_bytes()[:_LARGEST_SECRET].decode("utf-8")
            except (OSError, UnicodeDecodeError):
                elsewhere.append(f"secret file {file}: this cannot be read as UTF-8 text.")
                text = ""
            _put(values, keys, text.rstrip("\r\n"))
            origins[keys] = f"secret file {file}"
    return _Layer(values, origins)


def _put(values: _Values, keys: _KeyPath, value: object) -> None:
    here = values
    for key in keys[:-1]:
        below = here.setdefault(key, {})
        if not isinstance(below, dict):
            return
        here = below
    here[keys[-1]] = value


# -- telling -------------------------------------------------------------------------------------------------------


def _tell(
    detail: ErrorDetails,
    layers: Sequence[_Layer],
    places: Mapping[_KeyPath, Place],
    report: Report,
    elsewhere: list[str],
) -> None:
    """One pydantic error, at the place where the value was given."""
    keys = tuple("copy" if part == "copy_" else str(part) for part in detail["loc"])
    dotted = ".".join(keys)
    text = _sentence(detail, keys)
    for layer in layers:
        origin = layer.origins.get(keys)
        if origin is not None:
            elsewhere.append(f"{origin}: {dotted}: {text}")
            return
    place = next((places[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in places), Place(1, 1))
    report.add(place, dotted, text)


def _sentence(detail: ErrorDetails, keys: _KeyPath) -> str:
    """Pydantic's words made ours. Never the value: it may be a secret."""
    kind = detail["type"]
    sections = _sections()
    if kind == "extra_forbidden":
        known = tuple(sections) if len(keys) == 1 else sections.get(keys[0], ())
        return f"unknown key.{did_you_mean(keys[-1], known) or ' Known here: ' + ', '.join(known) + '.'}"
    if kind == "missing":
        variable = _PREFIX + "__".join(keys).upper()
        if sections.get(keys[-1]) and len(keys) == 1:
            return f"missing: add [{keys[0]}] with its {sections[keys[0]][0]}, or set {variable}__DSN."
        return f"missing: give it here, or in the environment as {variable}."
    if kind in {"model_type", "model_attributes_type", "dict_type"}:
        return f"expected a table: write [{keys[0]}] and its keys below."
    message = detail["msg"]
    for theirs in ("Input should be ", "Value should be "):
        if message.startswith(theirs):
            message = "expected " + message.removeprefix(theirs)
    return message if message.endswith(".") else f"{message}."


_HEADER: Final = re.compile(r"\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?")
_ASSIGNMENT: Final = re.compile(
    r"""(\s*)((?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*)\s*="""
)


def _key_places(text: str) -> dict[_KeyPath, Place]:
    """Where each key and section of a valid TOML file stands. Inline tables are not looked into: their key will do."""
    places: dict[_KeyPath, Place] = {}
    section: _KeyPath = ()
    closing = ""
    for number, line in enumerate(text.split("\n"), start=1):
        if closing:  # inside a multi-line string nothing is a key
            closing = "" if closing in line else closing
            continue
        if (header := _HEADER.fullmatch(line)) is not None:
            section = _keys(header[1])
            places.setdefault(section, Place(number, line.index("[") + 1))
        elif (assignment := _ASSIGNMENT.match(line)) is not None:
            keys = (*section, *_keys(assignment[2]))
            for n in range(len(section) + 1, len(keys) + 1):
                places.setdefault(keys[:n], Place(number, len(assignment[1]) + 1))
            closing = next((quote for quote in ('"""', "'''") if line[assignment.end() :].count(quote) % 2 == 1), "")
    return places


def _keys(dotted: str) -> _KeyPath:
    return tuple(part.strip("\"'") for part in re.findall(r""""[^"]*"|'[^']*'|[^.\s]+""", dotted))


# Keys whose values are worth showing beside an error and cannot hold a secret.
_HARMLESS: Final = frozenset(
    {"name", "mapping", "slot", "publication", "batch_bytes", "pipe_bytes", "status_interval", "workers", "lock_yield",
     "listen", "level", "format", "deadline", "probe_interval", "error_ratio", "wal_soft_limit", "wal_hard_limit",
     "on_wal_hard_limit", "own_disk_reserve", "disk_capacity"}
)  # fmt: skip


def _redact(line: str) -> str:
    """A line as it may be shown: whole where it is a section, a comment or a harmless key, else up to its `=`."""
    if _HEADER.fullmatch(line) is not None:
        return line
    assignment = _ASSIGNMENT.match(line)
    if assignment is None:
        return ""  # the middle of a string, or not TOML: no telling what it holds
    suspicious = re.search(r"dsn|passw|://|secret|token", line[assignment.end() :], re.IGNORECASE)
    if _keys(assignment[2])[-1] in _HARMLESS and not suspicious:
        return line
    return f"{assignment[0]} ***"
