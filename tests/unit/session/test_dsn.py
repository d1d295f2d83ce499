"""Connection strings without their secrets."""

from __future__ import annotations

import pytest

from crossfade.faults import Misconfigured
from crossfade.session.dsn import masked, without_secrets

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("dsn", "kept", "secrets"),
    [
        (f"host=db dbname=shop user=me password={SECRET}", "user=me dbname=shop host=db", ("password",)),
        (f"postgresql://me:{SECRET}@db:5433/shop?sslmode=require", "shop", ("password",)),
        (f"host=db sslpassword={SECRET} password='{SECRET} x'", "host=db", ("password", "sslpassword")),
        ("host=db passfile=/etc/pg/pass user=me", "passfile=/etc/pg/pass", ()),
        ("service=shop", "service=shop", ()),
    ],
)
def test_secrets_are_taken_out(dsn: str, kept: str, secrets: tuple[str, ...]) -> None:
    found = without_secrets(dsn, where="--source")
    assert kept in found.text
    assert found.secrets == secrets
    for text in (found.text, masked(dsn), str(found)):
        assert SECRET not in text
    assert ("***" in masked(dsn)) == bool(secrets)


def test_what_libpq_cannot_read_is_not_shown() -> None:
    with pytest.raises(Misconfigured) as refused:
        without_secrets(f"host {SECRET}", where="--source")
    assert SECRET not in str(refused.value)
    assert "--source" in str(refused.value)
    assert masked(f"host {SECRET}") == "***"
