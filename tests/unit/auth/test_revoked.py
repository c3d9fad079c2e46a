"""What is taken back stays so, and only that."""

from __future__ import annotations

from typing import Any

import pytest

from tailrace.gateway.auth.principal import Principal
from tailrace.gateway.auth.revoked import Revocation, Revoked, parse_revocation

AT_MS = 1_000_000_500


def principal(**said: Any) -> Principal:
    plain: dict[str, Any] = {"subject": "ann", "tenant": "acme", "scopes": frozenset({"read"}), "token_id": "t1"}
    return Principal(**{**plain, **said})


def revoked(*revocations: Revocation) -> Revoked:
    known = Revoked()
    for revocation in revocations:
        known.add(revocation, AT_MS)
    return known


def test_a_token_is_revoked_by_its_id_in_its_tenant_only() -> None:
    known = revoked(Revocation("token", "acme", "t1"))
    assert known.has(principal())
    assert not known.has(principal(token_id="t2"))
    assert not known.has(principal(token_id=None))
    assert not known.has(principal(tenant="globex"))
    assert not known.has(principal(tenant=None))


def test_a_revocation_for_all_tenants_is_one_for_each() -> None:
    known = revoked(Revocation("token", "*", "t1"))
    assert known.has(principal())
    assert known.has(principal(tenant=None))
    assert known.has(principal(tenant="*"))


def test_a_subjects_revocation_is_about_what_it_was_given_until_then() -> None:
    known = revoked(Revocation("subject", "acme", "ann"))
    assert known.has(principal(issued_at=AT_MS / 1000 - 1))
    assert known.has(principal(issued_at=AT_MS // 1000))
    assert not known.has(principal(issued_at=AT_MS // 1000 + 1))
    assert known.has(principal(issued_at=0.0)), "what does not say when it was issued may be older"
    assert not known.has(principal(subject="bob"))


def test_a_later_revocation_counts_and_an_earlier_one_that_is_read_late_does_not_undo_it() -> None:
    known = revoked(Revocation("subject", "acme", "ann"))
    known.add(Revocation("subject", "acme", "ann"), AT_MS - 10_000)
    assert known.has(principal(issued_at=AT_MS / 1000 - 1))


def test_a_ticket_is_revoked_with_what_it_was_made_of() -> None:
    assert revoked(Revocation("api_key", "acme", "ci")).has(principal(credential="ticket", api_key="ci", token_id=None))


def test_what_no_token_can_outlive_is_forgotten() -> None:
    known = revoked(Revocation("token", "acme", "t1"))
    known.forget_before(AT_MS)
    assert len(known) == 1
    known.forget_before(AT_MS + 1)
    assert len(known) == 0
    assert not known.has(principal())


@pytest.mark.parametrize("tenant", [None, "acme", "*"])
def test_a_revocation_is_read_as_it_was_written(tenant: str | None) -> None:
    revocation = Revocation("subject", tenant, "ann")
    fields = [field.encode() for field in revocation.fields()]
    assert parse_revocation(dict(zip(fields[::2], fields[1::2], strict=True))) == revocation


@pytest.mark.parametrize("fields", [{}, {b"k": b"token"}, {b"k": b"x", b"v": b"y"}, {b"k": b"\xff", b"v": b"\xff"}])
def test_what_a_stranger_wrote_there_is_none(fields: dict[bytes, bytes]) -> None:
    assert parse_revocation(fields) is None
