"""``python -m tailrace.gateway.auth.new_key ci --tenant acme --scopes read,publish``: make an API key.

Prints the key, which is told this once, and the entry for the file of ``TAILRACE_API_KEYS_FILE``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

from tailrace.gateway.auth.api_keys import UnusableApiKeysError, new_api_key, parse_api_keys


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tailrace.gateway.auth.new_key", description="Make an API key.")
    parser.add_argument("id", help="a name for the key: lower-case letters, digits and '-'")
    parser.add_argument("--subject", help="the subject, who uses the key; by default its id")
    parser.add_argument("--tenant", help="the tenant whose executions it covers; '*' for all")
    parser.add_argument("--scopes", default="read", help="separated by commas: read, publish, control, submit, admin")
    parser.add_argument("--runs", help="patterns of execution ids, separated by commas")
    given = parser.parse_args(arguments)
    key, digest = new_api_key(given.id)
    entry = {
        "id": given.id,
        "sha256": digest,
        "subject": given.subject or given.id,
        "scopes": given.scopes.split(","),
        "created": int(time.time()),
    }
    if given.tenant is not None:
        entry["tenant"] = given.tenant
    if given.runs is not None:
        entry["runs"] = given.runs.split(",")
    try:
        parse_api_keys(json.dumps([entry]))
    except UnusableApiKeysError as error:
        parser.error(str(error))
    sys.stdout.write(f"{key}\n{json.dumps(entry)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
