"""Files that people write, before anybody knows what is in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfade.faults import Misconfigured
from crossfade.mapping.written import read_text


def read(path: Path) -> str:
    return read_text(path, called="mapping", largest_mib=1, do="Look again.")


def test_a_file_of_the_largest_size_is_read_and_no_larger_one(tmp_path: Path) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_bytes(b"#" * 1024 * 1024)
    assert len(read(path)) == 1024 * 1024
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(Misconfigured, match=r"larger than 1 MiB: it is no mapping"):
        read(path)


def test_what_cannot_be_opened_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as refused:
        read(tmp_path)
    for part in (str(tmp_path), "The mapping cannot be read: Is a directory.", "Look again."):
        assert part in str(refused.value)


def test_the_first_byte_that_is_no_text_is_placed(tmp_path: Path) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_bytes("ü: a\nä: ".encode() + b"\xff\xfe")
    with pytest.raises(Misconfigured, match=r"mapping\.yaml:2:4: this file is not UTF-8 \(byte 0xFF\)"):
        read(path)
