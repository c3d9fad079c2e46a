"""What a credential covers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.bus.model.submission import is_tenant
from tailrace.gateway.auth.principal import ANONYMOUS, Principal, is_run_pattern
from tailrace.gateway.auth.scopes import SCOPES
from tailrace.gateway.auth.tenant import SEPARATOR, tenant_in

READ = frozenset({"read"})
TENANTS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,8}(_[A-Za-z0-9-]{1,8}){0,2}", fullmatch=True)


def principal(tenant: str | None, runs: tuple[str, ...] | None = None) -> Principal:
    return Principal("ann", tenant, READ, runs)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("own", "run", "covered"),
    [("acme", "acme", True), ("acme", "globex", False), ("acme", None, False), (None, "acme", False)],
)
def test_a_tenant_covers_its_own_and_nobody_elses(own: str | None, run: str | None, covered: bool) -> None:
    assert principal(own).covers("any", run) is covered


def test_without_a_tenant_what_has_none_is_covered_and_with_a_star_everything() -> None:
    assert principal(None).covers("any", None)
    assert all(principal("*").covers("any", tenant) for tenant in ("acme", "globex", None))


def test_who_need_not_say_who_he_is_may_do_everything() -> None:
    assert ANONYMOUS.scopes == SCOPES
    assert ANONYMOUS.covers_all
    assert ANONYMOUS.lasts


@pytest.mark.parametrize(
    ("pattern", "run", "named"),
    [
        ("nightly-*", "nightly-7", True),
        ("nightly-*", "Nightly-7", False),
        ("nightly-*", "a-nightly-7", False),
        ("nightly-7", "nightly-7", True),
        ("nightly-7", "nightly-77", False),
        ("*", "anything", True),
        ("a*b*c", "a1b2c", True),
        ("a*b*c", "a1c2b", False),
    ],
)
def test_patterns_name_runs_with_stars_for_any_characters(pattern: str, run: str, named: bool) -> None:
    assert principal("acme", (pattern,)).covers(run, "acme") is named
    assert not principal("acme", (pattern,)).covers(run, "globex")


def test_patterns_of_nothing_name_nothing() -> None:
    assert not principal("*", ()).covers("any", "acme")
    assert not principal("*", ()).covers_all


@pytest.mark.parametrize("pattern", ["", "a b", "[ab]", "a?", "a\n", "*" * 5, "é", "a" * 129])
def test_what_no_run_can_be_called_is_no_pattern(pattern: str) -> None:
    assert not is_run_pattern(pattern)


@pytest.mark.parametrize("name", ["", "_a", "a_", "a__b", "a.b", "a:b", "*", "{a}", "é", "a" * 65, "a\n"])
def test_what_would_blur_where_a_tenant_ends_is_no_tenant(name: str) -> None:
    assert not is_tenant(name)


@given(TENANTS, TENANTS, st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True))
def test_an_id_is_chosen_in_the_name_of_one_tenant_only(tenant: str, other: str, rest: str) -> None:
    run = f"{tenant}{SEPARATOR}{rest}"
    assert tenant_in(run) == tenant
    if other != tenant:
        assert tenant_in(f"{other}{SEPARATOR}{rest}") != tenant


@pytest.mark.parametrize("run", ["a", "019a5c3e-7d51-7c3a-9f5e-0b6f0a9d2c11", "a_b", "acme__", "__x"])
def test_other_ids_are_in_nobodys_name(run: str) -> None:
    assert tenant_in(run) is None
