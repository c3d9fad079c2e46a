"""What is taken back stays so, and only that."""

from __future__ import annotations

from typing import Any

import pytest

from tailrace.bus.model.keys import Keys
from tailrace.gateway.auth import revocations
from tailrace.gateway.auth.principal import Principal
from tailrace.gateway.auth.revoked import Revocation, Revoked, parse_revocation
from tailrace.gateway.http.problems import ProblemError

AT_MS = 1_000_000_500
ENTRY = f"{AT_MS}-3"


def principal(**said: Any) -> Principal:
    plain: dict[str, Any] = {"subject": "ann", "tenant": "acme", "scopes": frozenset({"read"}), "token_id": "t1"}
    return Principal(**{**plain, **said})


def revoked(*revocations: Revocation) -> Revoked:
    known = Revoked()
    for revocation in revocations:
        known.add(revocation, ENTRY)
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
    known.add(Revocation("subject", "acme", "ann"), f"{AT_MS - 10_000}-0")
    assert known.has(principal(issued_at=AT_MS / 1000 - 1))


def test_a_ticket_is_revoked_with_what_it_was_made_of() -> None:
    assert revoked(Revocation("api_key", "acme", "ci")).has(principal(credential="ticket", api_key="ci", token_id=None))


def test_what_no_token_can_outlive_is_forgotten() -> None:
    known = revoked(Revocation("token", "acme", "t1"))
    assert known.forget_before(AT_MS) == []
    assert len(known) == 1
    assert known.forget_before(AT_MS + 1) == [ENTRY]
    assert (len(known), known.of_tenant("acme")) == (0, 0)
    assert not known.has(principal())


def test_attack_62_an_api_key_stays_revoked_since_it_need_not_expire() -> None:
    known = revoked(Revocation("api_key", "acme", "ci"), Revocation("subject", "acme", "ann"))
    assert known.forget_before(AT_MS + 10**12) == []
    assert known.has(principal(credential="api_key", token_id=None, api_key="ci", issued_at=9e9))
    assert known.has(principal(credential="api_key", token_id=None, issued_at=1.0))


class Stream:
    """The one stream of the list, in memory."""

    def __init__(self) -> None:
        self.entries: dict[int, list[bytes]] = {}
        self.last = 0

    async def command(self, *command: bytes | str | float) -> Any:
        match command:
            case ("XADD", _, "*", *fields):
                self.last += 1
                self.entries[self.last] = [str(field).encode() for field in fields]
            case ("XDEL", _, *ids):
                for each in ids:
                    self.entries.pop(int(str(each).partition("-")[2]), None)
            case ("XRANGE", _, str(after), *_):
                seen = int(after.partition("-")[2])
                return [(b"%d-%d" % (AT_MS, n), fields) for n, fields in self.entries.items() if n > seen][:1000]
        return None

    async def aclose(self) -> None: ...


@pytest.mark.anyio
async def test_attack_46_the_admin_of_one_tenant_cannot_fill_the_list_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocations, "MAX_OF_TENANT", 3)
    monkeypatch.setattr(revocations, "MAX_REVOCATIONS", 5)
    stream = Stream()
    listed = revocations.Revocations(stream, Keys("tr"), kept_seconds=60.0, now=lambda: AT_MS / 1000)

    async def revoke(tenant: str | None, value: str) -> bool:
        try:
            await listed.revoke(Revocation("api_key", tenant, value))
        except ProblemError as error:
            return error.problem.code != "too_many_revocations"
        return True

    assert [await revoke("acme", str(number)) for number in range(4)] == [True, True, True, False]
    # The same again is no entry more.
    assert [await revoke("acme", "0") for _ in range(9)] == [True] * 9
    assert len(stream.entries) == 3
    assert [await revoke("globex", str(number)) for number in range(3)] == [True, True, False]
    assert await revoke("*", "of the operator")
    assert await revoke(None, "of nobody's")


@pytest.mark.parametrize("tenant", [None, "acme", "*"])
def test_a_revocation_is_read_as_it_was_written(tenant: str | None) -> None:
    revocation = Revocation("subject", tenant, "ann")
    fields = [field.encode() for field in revocation.fields()]
    assert parse_revocation(dict(zip(fields[::2], fields[1::2], strict=True))) == revocation


@pytest.mark.parametrize("fields", [{}, {b"k": b"token"}, {b"k": b"x", b"v": b"y"}, {b"k": b"\xff", b"v": b"\xff"}])
def test_what_a_stranger_wrote_there_is_none(fields: dict[bytes, bytes]) -> None:
    assert parse_revocation(fields) is None
