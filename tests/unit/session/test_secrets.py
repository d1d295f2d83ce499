"""What is struck out of a text before strangers see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfade.session.secrets import Secrets

SECRET = "s3cr3t'p:ss\\w rd/%"


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def test_a_password_goes_however_it_is_written(home: Path) -> None:
    secrets = Secrets([f"host=db password={_quoted(SECRET)}"], {}, home=home)
    for written in (
        SECRET,
        f"password={_quoted(SECRET)}",
        "postgresql://u:s3cr3t%27p%3Ass%5Cw%20rd%2F%25@db/shop",
        "s3cr3t%27p%3Ass%5Cw+rd%2F%25",
        '{"dsn": "s3cr3t\'p:ss\\\\w rd/%"}',
    ):
        struck = secrets.strike(f"before {written} after")
        assert "s3cr3t" not in struck, written
        assert struck.startswith("before ")
        assert struck.endswith(" after")


def test_a_password_of_a_uri(home: Path) -> None:
    secrets = Secrets(["postgresql://me:hunter%2F22@db/shop?sslpassword=key-pass"], {}, home=home)
    assert secrets.strike("hunter/22 hunter%2F22 key-pass db") == "*** *** *** db"


def test_the_environment_and_files_count_as_well(home: Path) -> None:
    (home / ".pgpass").write_text("# db:5432:*:me:comment\ndb:5432:*:me:from\\:pgpass\nshort\n")
    other = home / "other.pgpass"
    other.write_text("*:*:*:*:from-other\n")
    third = home / "third.pgpass"
    third.write_text("*:*:*:*:from-third\n")
    (home / ".pg_service.conf").write_text(f"[shop]\nhost=db\npassword=from-service\npassfile={third}\n")
    secrets = Secrets(["service=shop", f"host=db passfile={other}"], {"PGPASSWORD": "from-env"}, home=home)
    struck = secrets.strike("from:pgpass from-other from-third from-service from-env host db")
    assert struck == "*** *** *** *** *** host db"


def test_files_named_by_the_environment_take_the_place_of_the_usual(home: Path) -> None:
    (home / "pass").write_text("*:*:*:*:named-one\n")
    (home / "pg_service.conf").write_text("[shop]\nsslpassword = named-two\n")
    environment = {"PGPASSFILE": str(home / "pass"), "PGSYSCONFDIR": str(home)}
    assert Secrets([], environment, home=home).strike("named-one named-two") == "*** ***"


def test_what_looks_like_a_password_goes_although_nobody_told_it(home: Path) -> None:
    secrets = Secrets([], {}, home=home)
    assert secrets.strike("postgres://u:abc@h/d http://x:y@z") == "postgres://u:***@h/d http://x:***@z"
    assert secrets.strike("host=h password=abc user=u") == "host=h password=*** user=u"
    assert secrets.strike("PASSWORD = 'a b' x") == "PASSWORD = *** x"
    plain = "nothing: here, http://127.0.0.1:9810/metrics and 12:30:00"
    assert secrets.strike(plain) == plain


def test_the_longest_goes_first_and_the_shortest_stays(home: Path) -> None:
    secrets = Secrets([], {}, others=["abc", "abcdef", "x"], home=home)
    assert secrets.strike("abcdef abc x") == "*** *** x"


def test_a_string_libpq_cannot_read_is_a_secret_as_a_whole(home: Path) -> None:
    assert Secrets(["password='open"], {}, home=home).strike("it was password='open here") == "it was *** here"


def test_files_that_are_not_there_hold_nothing(home: Path) -> None:
    assert Secrets([], {"PGPASSFILE": "/nowhere"}, home=home).strike("text") == "text"
