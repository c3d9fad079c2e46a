"""Keys decide who shares a cluster slot, and that no id can reach another one's key."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from tailrace.bus.model.keys import Keys

ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", fullmatch=True)
prefixes = st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True)


@given(prefixes, ids)
def test_all_keys_of_an_execution_live_in_one_slot(prefix: str, execution_id: str) -> None:
    keys = Keys(prefix).of_execution(execution_id)
    assert len(set(keys)) == 4
    assert {key_slot(key.encode()) for key in keys} == {key_slot(execution_id.encode())}


@given(prefixes, ids, prefixes, ids)
def test_no_two_executions_share_a_key(prefix: str, one: str, other_prefix: str, other: str) -> None:
    shared = set(Keys(prefix).of_execution(one)) & set(Keys(other_prefix).of_execution(other))
    assert bool(shared) == ((prefix, one) == (other_prefix, other))


@given(ids, ids)
def test_no_queue_shares_a_key_with_an_execution(queue: str, execution_id: str) -> None:
    keys = Keys()
    assert keys.jobs(queue) not in keys.of_execution(execution_id)


def test_the_spelling_of_keys_is_fixed_because_other_programs_write_them() -> None:
    keys = Keys()
    assert keys.of_execution("run-1") == ("tr:{run-1}:log", "tr:{run-1}:meta", "tr:{run-1}:ctl", "tr:{run-1}:ckpt")
    assert keys.jobs("default") == "tr:{q:default}:jobs"
