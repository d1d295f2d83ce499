"""The configuration: what it means, where it comes from, every way of getting it wrong, and no secret told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.faults import Misconfigured, Policy
from crossfade.settings import Settings, explain_settings, load_settings, parse_duration

MINIMAL = """\
name = "shop"
[source]
dsn = "host=old password=hunter2"
[target]
dsn = "host=new password=hunter2"
"""


def load(tmp_path: Path, text: str, environment: Mapping[str, str] | None = None) -> Settings:
    path = tmp_path / "crossfade.toml"
    path.write_text(dedent(text), encoding="utf-8")
    return load_settings(path, environment=environment or {}, run_secrets=tmp_path / "run-secrets")


def refusal(tmp_path: Path, text: str, environment: Mapping[str, str] | None = None) -> str:
    with pytest.raises(Misconfigured) as refused:
        load(tmp_path, text, environment)
    assert refused.value.policy is Policy.CONFIGURATION
    assert refused.value.__cause__ is None
    assert "hunter2" not in str(refused.value)
    return str(refused.value)


def test_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL)
    assert settings.name == "shop"
    assert settings.mapping == tmp_path / "mapping.yaml"
    assert settings.source.dsn.get_secret_value() == "host=old password=hunter2"
    assert (settings.stream.slot, settings.stream.publication) == ("crossfade", "crossfade")
    assert settings.stream.append_publication == "crossfade_append"
    assert (settings.stream.batch_bytes, settings.stream.pipe_bytes) == (2 * 1024**2, 16 * 1024**2)
    assert settings.stream.status_interval == timedelta(seconds=10)
    assert (settings.copy_.workers, settings.copy_.lock_yield) == (2, True)
    assert settings.http.listen == "127.0.0.1:9810"
    assert (settings.log.level, settings.log.format) == ("info", "auto")
    assert settings.stop.deadline == timedelta(seconds=20)


def test_everything_can_be_said(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        MINIMAL
        + """
[stream]
slot = "shop_1"
publication = "shop"
batch_bytes = "64 KiB"
pipe_bytes = 1000000
status_interval = "500ms"
[copy]
workers = 8
lock_yield = false
[http]
listen = ""
[log]
level = "debug"
format = "json"
[stop]
deadline = "1.5m"
""",
    )
    assert (settings.stream.batch_bytes, settings.stream.pipe_bytes) == (65536, 1_000_000)
    assert settings.stream.status_interval == timedelta(milliseconds=500)
    assert (settings.copy_.workers, settings.copy_.lock_yield) == (8, False)
    assert settings.http.listen == ""
    assert settings.stop.deadline == timedelta(seconds=90)


def test_the_mapping_is_relative_to_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, 'mapping = "sub/m.yaml"\n' + MINIMAL).mapping == tmp_path / "sub" / "m.yaml"
    assert load(tmp_path, 'mapping = "/etc/m.yaml"\n' + MINIMAL).mapping == Path("/etc/m.yaml")


def test_no_secret_in_any_repr(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL)
    for shown in (repr(settings), str(settings), repr(settings.source), str(settings.model_dump())):
        assert "hunter2" not in shown


def test_the_environment_wins_over_secret_files_and_these_over_the_file(tmp_path: Path) -> None:
    run_secrets, credentials, secrets = (tmp_path / one for one in ("run-secrets", "credentials", "secrets"))
    for directory, dsn in ((run_secrets, "host=run"), (credentials, "host=systemd"), (secrets, "host=own")):
        directory.mkdir()
        (directory / "source__dsn").write_text(dsn + "\n")
        (directory / "somebody_elses").write_text("x")
        (directory / "unknown__dsn").write_text("x")
    environment: dict[str, str] = {}
    assert load(tmp_path, MINIMAL, environment).source.dsn.get_secret_value() == "host=run"
    environment["CREDENTIALS_DIRECTORY"] = str(credentials)
    assert load(tmp_path, MINIMAL, environment).source.dsn.get_secret_value() == "host=systemd"
    environment["CROSSFADE_SECRETS_DIR"] = str(secrets)
    assert load(tmp_path, MINIMAL, environment).source.dsn.get_secret_value() == "host=own"
    environment["CROSSFADE_SOURCE__DSN"] = "host=env"
    settings = load(tmp_path, MINIMAL, environment)
    assert settings.source.dsn.get_secret_value() == "host=env"
    assert settings.target.dsn.get_secret_value() == "host=new password=hunter2"


def test_a_dsn_may_be_missing_in_the_file(tmp_path: Path) -> None:
    environment = {"CROSSFADE_SOURCE__DSN": "host=a", "CROSSFADE_TARGET__DSN": "host=b"}
    assert load(tmp_path, 'name = "shop"', environment).target.dsn.get_secret_value() == "host=b"
    assert load(tmp_path, 'name = "shop"\n[source]\n', environment).source.dsn.get_secret_value() == "host=a"
    (tmp_path / "run-secrets").mkdir()
    (tmp_path / "run-secrets" / "crossfade_target__dsn").write_text("host=file")
    assert load(tmp_path, MINIMAL).target.dsn.get_secret_value() == "host=file"


def test_environment_values_are_read_like_the_files(tmp_path: Path) -> None:
    environment = {
        "CROSSFADE_NAME": "other",
        "CROSSFADE_COPY__WORKERS": "7",
        "CROSSFADE_COPY__LOCK_YIELD": "false",
        "CROSSFADE_HTTP__LISTEN": "",
        "CROSSFADE_STOP__DEADLINE": "6h",
        "CROSSFADE_STREAM__BATCH_BYTES": "3 MiB",
        "CROSSFADE_MAPPING": "other.yaml",
        "CROSSFADE_CONFIG": "not a setting",
        "CROSSFADE_PORT": "tcp://10.0.0.1:9810",  # Kubernetes gives us these when a service is called crossfade
        "CROSSFADE_PORT_9810_TCP_ADDR": "10.0.0.1",
    }
    settings = load(tmp_path, MINIMAL, environment)
    assert settings.name == "other"
    assert (settings.copy_.workers, settings.copy_.lock_yield) == (7, False)
    assert settings.http.listen == ""
    assert settings.stop.deadline == timedelta(hours=6)
    assert settings.stream.batch_bytes == 3 * 1024**2
    assert settings.mapping == tmp_path / "other.yaml"


@pytest.mark.parametrize(
    "setting", ["NAME", "MAPPING", "SOURCE__DSN", "HTTP__LISTEN", "LOG__LEVEL", "SOURCE__D\udcffSN"]
)
def test_bytes_of_the_environment_that_are_no_text_are_refused(tmp_path: Path, setting: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        load(tmp_path, MINIMAL, {f"CROSSFADE_{setting}": "hunter3\udcff:1"})
    name = setting.replace("\udcff", "\\udcff")
    assert str(refused.value) == f"environment variable CROSSFADE_{name}: this is not UTF-8 text."


def test_an_unknown_section_whose_name_is_no_text_can_be_told(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as refused:
        load(tmp_path, MINIMAL, {"CROSSFADE_\udcff__DSN": "x"})
    assert "there is no section" in str(refused.value).encode().decode()


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("500ms", timedelta(milliseconds=500)),
        ("30s", timedelta(seconds=30)),
        ("10m", timedelta(minutes=10)),
        ("6h", timedelta(hours=6)),
        ("0s", timedelta(0)),
        ("0.5 s", timedelta(milliseconds=500)),
    ],
)
def test_durations(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


# What is wrong (appended to a minimal file of five lines), and what is said of it.
WRONG: list[tuple[str, str]] = [
    ("tagret = 1", "6:1: target.tagret: unknown key. Known here: dsn, disk_capacity."),
    ("[stram]\nslot = 'a'", "6:1: stram: unknown key. Did you mean 'stream'?"),
    ("[stream]\nslto = 'a'", "7:1: stream.slto: unknown key. Did you mean 'slot'?"),
    ("[copy]\nworker = 1", "7:1: copy.worker: unknown key. Did you mean 'workers'?"),
    ("[http]\n  port = 1", "7:3: http.port: unknown key. Known here: listen."),
    ("[stream]\nslot = 'Shop-1'", "7:1: stream.slot: expected 1 to 63 lower case letters, digits and _"),
    (f"[stream]\nslot = '{'a' * 64}'", "7:1: stream.slot: expected 1 to 63 lower case"),
    ("[stream]\nslot = 5", "7:1: stream.slot: expected 1 to 63 lower case"),
    (f"[stream]\npublication = '{'a' * 57}'", "7:1: stream.publication: expected 1 to 56 letters"),
    ("[stream]\nbatch_bytes = 'many'", "7:1: stream.batch_bytes: expected a number of bytes, or a text such as"),
    ("[stream]\nbatch_bytes = 5", "7:1: stream.batch_bytes: expected greater than or equal to 1024."),
    ("[stream]\nbatch_bytes = '32 MiB'", "6:1: stream: pipe_bytes must not be less than batch_bytes."),
    ("[stream]\nstatus_interval = 10", '7:1: stream.status_interval: expected a duration such as "500ms"'),
    ("[stream]\nstatus_interval = '10 days'", "7:1: stream.status_interval: expected a duration"),
    ("[stream]\nstatus_interval = '1ms'", "7:1: stream.status_interval: expected greater than or equal to"),
    ("[copy]\nworkers = true", "7:1: copy.workers: expected a whole number."),
    ("[copy]\nworkers = 0", "7:1: copy.workers: expected greater than or equal to 1."),
    ("[copy]\nworkers = 'two'", "7:1: copy.workers: expected a valid integer"),
    ("[copy]\nlock_yield = 'maybe'", "7:1: copy.lock_yield: expected a valid boolean"),
    ("[http]\nlisten = '9810'", '7:1: http.listen: expected host:port such as "127.0.0.1:9810", or "" for none.'),
    ("[http]\nlisten = 'localhost:98100'", "7:1: http.listen: expected host:port"),
    ("[log]\nlevel = 'loud'", "7:1: log.level: expected 'debug', 'info', 'warning' or 'error'."),
    ("[log]\nformat = 1", "7:1: log.format: expected 'auto', 'json' or 'console'."),
    ("[stop]\ndeadline = '-5s'", "7:1: stop.deadline: expected a duration"),
    ("stop = 5", "6:1: target.stop: unknown key."),
    ("[stop]\ndeadline = ", "7:12: this is not TOML: "),
    ("[stop\n", "6:6: this is not TOML: "),
    ("[stop]\n[stop]\n", "7:6: this is not TOML: cannot declare"),
    ("[stop]\ndeadline = '5s'\ndeadline = '6s'", "8:16: this is not TOML: cannot overwrite a value"),
    ("[stop]\ndeadline = '''5s", "7:"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_configuration_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, MINIMAL + text).startswith(f"crossfade.toml:{message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "crossfade.toml:1:1: name: missing: give it here, or in the environment as CROSSFADE_NAME."),
        ('name = ""', "crossfade.toml:1:1: name: expected 1 to 63 letters"),
        ('name = "a b"', "crossfade.toml:1:1: name: expected 1 to 63 letters"),
        ("name = 5", "crossfade.toml:1:1: name: expected 1 to 63 letters"),
        ("source = 5", "crossfade.toml:1:1: source: expected a table: write [source] and its keys below."),
        ('source.dsn = ""', "crossfade.toml:1:1: source.dsn: expected a connection string"),
        (
            "[source]\n",
            "crossfade.toml:1:1: source.dsn: missing: give it here, or in the environment as CROSSFADE_SOURCE__",
        ),
    ],
)
def test_what_is_needed(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(tmp_path, text)


def test_all_problems_come_at_once_wherever_they_were_written(tmp_path: Path) -> None:
    (tmp_path / "run-secrets").mkdir()
    (tmp_path / "run-secrets" / "target__dsnn").write_text("hunter2")
    text = refusal(
        tmp_path,
        """\
        nmae = "shop"
        name = "the shop"
        [source]
        dsn = 5
        [target]
        dsn = "x"
        [copy]
        workers = 100
        """,
        {
            "CROSSFADE_LOG__LEVEL": "hunter2",
            "CROSSFADE_SORCE__DSN": "hunter2",
            "CROSSFADE_SECRETS_DIR": "/nowhere/at/all",
        },
    )
    heads = [line for line in text.split("\n") if not line.startswith("    ")]
    assert heads == [
        "crossfade.toml:1:1: nmae: unknown key. Did you mean 'name'?",
        "crossfade.toml:2:1: name: expected 1 to 63 letters, digits, dots, _ and -, a letter or digit first.",
        'crossfade.toml:4:1: source.dsn: expected a connection string such as "host=db dbname=shop user=crossfade".',
        "crossfade.toml:8:1: copy.workers: expected less than or equal to 64.",
        "environment variable CROSSFADE_SORCE__DSN: there is no section 'sorce'. Did you mean 'source'?",
        "environment variable CROSSFADE_SECRETS_DIR: this names no directory.",
        f"secret file {tmp_path}/run-secrets/target__dsnn: target.dsnn: unknown key. Did you mean 'dsn'?",
        "environment variable CROSSFADE_LOG__LEVEL: log.level: expected 'debug', 'info', 'warning' or 'error'.",
    ]


def test_the_line_and_a_caret_are_shown(tmp_path: Path) -> None:
    text = refusal(tmp_path, MINIMAL + "[log]\n  level = 'loud' # too\n")
    assert text.split("\n")[1:] == ["      level = 'loud' # too", "      ^"]


@pytest.mark.parametrize(
    "line",
    [
        'dsn = "host=x password=hunter2',
        "dsn = hunter2",
        'dns = "host=x password=hunter2"',
        '"dsn" = ["hunter2"]',
        'password = "hunter2"',
        'x = """\nhunter2\n""" y',
        'dsn = """\nhost=x\npassword=hunter2',
        'name = "postgres://crossfade:hunter2@host/db" x',
        "hunter2",
        "= hunter2",
        "a.dsn = hunter2",
        "source = {dsn = 'hunter2', x = 'hunter2'}",
    ],
)
def test_a_shown_line_never_holds_a_secret(tmp_path: Path, line: str) -> None:
    assert refusal(tmp_path, line)
    assert refusal(tmp_path, f"{MINIMAL}{line}\n[log]\nlevel = 1\n")


@given(
    key=st.sampled_from(["dsn", "dns", "x", "a.dsn", '"q"']),
    value=st.text(max_size=30).map(lambda noise: f"{noise}hunter2{noise}"),
    quote=st.sampled_from(["", '"', "'", '"""', "'''"]),
)
def test_no_secret_is_told_whatever_surrounds_it(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: str, quote: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(f"[source]\n{key} = {quote}{value}\n[log]\nlevel = 1\n", encoding="utf-8", errors="ignore")
    with pytest.raises(Misconfigured) as refused:
        load_settings(path, environment={}, run_secrets=path.parent / "none")
    assert "hunter2" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"none\.toml: The configuration cannot be read: No such file"):
        load_settings(tmp_path / "none.toml", environment={})
    (tmp_path / "latin.toml").write_bytes(b'name = "gr\xf6\xdfe"')
    with pytest.raises(Misconfigured, match=r"latin\.toml:1:11: this file is not UTF-8 \(byte 0xF6\)"):
        load_settings(tmp_path / "latin.toml", environment={})


def test_keys_inside_strings_are_no_places(tmp_path: Path) -> None:
    text = refusal(tmp_path, 'name = """\nworkers = 1\n"""\n[copy]\nworkers = "x"\n')
    assert "crossfade.toml:5:1: copy.workers:" in text


def test_settings_are_frozen(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        settings.name = "other"
    with pytest.raises(ValueError, match="frozen"):
        settings.copy_.workers = 3


def test_every_setting_is_explained_with_its_origin(tmp_path: Path) -> None:
    config = tmp_path / "crossfade.toml"
    config.write_text(
        'name = "shop"\n[source]\ndsn = "host=a"\n[target]\ndsn = "host=b"\n[stop]\ndeadline = "1500ms"\n'
    )
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "target__dsn").write_text("host=c password=hunter2\n")
    environment = {
        "CROSSFADE_STREAM__BATCH_BYTES": "1 MiB",
        "CROSSFADE_SECRETS_DIR": str(secrets),
        "CROSSFADE_LOG__LEVEL": "debug",
    }
    shown = {
        each.key: each for each in explain_settings(config, environment=environment, run_secrets=tmp_path / "none")
    }
    assert {key: each.origin for key, each in shown.items() if each.origin != "default"} == {
        "name": "crossfade.toml:1",
        "source.dsn": "crossfade.toml:3",
        "target.dsn": f"secret file {secrets / 'target__dsn'}",
        "stream.batch_bytes": "environment variable CROSSFADE_STREAM__BATCH_BYTES",
        "log.level": "environment variable CROSSFADE_LOG__LEVEL",
        "stop.deadline": "crossfade.toml:7",
    }
    assert shown["stream.batch_bytes"].value == "1 MiB"
    assert shown["stop.deadline"].value == "1500ms"
    assert shown["stream.status_interval"].value == "10s"
    assert shown["copy.lock_yield"].value == "true"
    assert [each.key for each in shown.values() if each.is_secret] == ["source.dsn", "target.dsn"]
    # What is shown is what the file would say: read back, nothing changes.
    sections: dict[str, list[str]] = {}
    for each in shown.values():
        section, _, name = each.key.partition(".")
        if name and each.value and not each.is_secret:
            value = each.value if each.value in {"true", "false"} or each.value.isdigit() else f'"{each.value}"'
            sections.setdefault(section, []).append(f"{name} = {value}")
    again = tmp_path / "again.toml"
    text = "\n".join(line for section, lines in sections.items() for line in (f"[{section}]", *lines))
    again.write_text(f'name = "shop"\nsource.dsn = "host=a"\ntarget.dsn = "host=b"\n{text}\n')
    first = load_settings(config, environment=environment, run_secrets=tmp_path / "none")
    assert load_settings(again, environment={}, run_secrets=tmp_path / "none").model_dump(
        exclude={"source", "target"}
    ) == first.model_dump(exclude={"source", "target"})
