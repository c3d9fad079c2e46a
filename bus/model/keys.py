"""The only place a Redis key is spelled. Pure.

Every key of an execution carries its id as hash tag, so that all of them live in one cluster slot.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    prefix: str = "tr"

    def log(self, execution_id: str) -> str:
        return f"{self.prefix}:{{{execution_id}}}:log"

    def meta(self, execution_id: str) -> str:
        return f"{self.prefix}:{{{execution_id}}}:meta"

    def control(self, execution_id: str) -> str:
        return f"{self.prefix}:{{{execution_id}}}:ctl"

    def checkpoints(self, execution_id: str) -> str:
        return f"{self.prefix}:{{{execution_id}}}:ckpt"

    def of_execution(self, execution_id: str) -> tuple[str, str, str, str]:
        """Log, meta, control and checkpoints: what expires together."""
        return (
            self.log(execution_id),
            self.meta(execution_id),
            self.control(execution_id),
            self.checkpoints(execution_id),
        )

    def replication_mark(self, execution_id: str) -> str:
        """Written to be replicated behind what was written before."""
        return f"{self.prefix}:{{{execution_id}}}:mark"

    def jobs(self, queue: str) -> str:
        return f"{self.prefix}:{{q:{queue}}}:jobs"

    def delayed_jobs(self, queue: str) -> str:
        return f"{self.prefix}:{{q:{queue}}}:delayed"

    def dead_letters(self, queue: str) -> str:
        return f"{self.prefix}:{{q:{queue}}}:dead"

    def queues(self) -> str:
        return f"{self.prefix}:queues"

    def concurrency(self, tenant: str | None, concurrency_key: str) -> str:
        return f"{self.prefix}:{{ck:{tenant or ''}:{concurrency_key}}}:holder"

    def due(self) -> str:
        """When to look at which execution that has not ended."""
        return f"{self.prefix}:index:due"

    def sessions(self) -> str:
        """Session of each process → the id of the connection that it holds to Redis."""
        return f"{self.prefix}:index:sessions"

    def missing_sessions(self) -> str:
        """Sessions whose connection was gone at a look → that connection's id, and when that was seen first."""
        return f"{self.prefix}:index:sessions:missing"

    def session_executions(self, session: str) -> str:
        """What a session's process runs."""
        return f"{self.prefix}:index:session:{session}"

    def executions(self, tenant: str | None) -> str:
        """A tenant's executions by the time of their creation; of all tenants for None."""
        return f"{self.prefix}:index:executions" + ("" if tenant is None else f":{tenant}")

    def labelled(self, tenant: str | None, digest: str) -> str:
        """Those of one label, by the time of their creation; of all tenants for None."""
        return f"{self.prefix}:index:label:{digest}" + ("" if tenant is None else f":{tenant}")

    def activity(self) -> str:
        return f"{self.prefix}:activity"

    def bookmark(self, execution_id: str, group: str) -> str:
        """How far a group of readers has come in an execution's log."""
        return f"{self.prefix}:{{{execution_id}}}:read:{group}"

    def undelivered(self, group: str) -> str:
        """Events at which a handler of a group has failed for good."""
        return f"{self.prefix}:{{g:{group}}}:dead"

    def redeliveries(self, group: str) -> str:
        """Those that are to be tried again."""
        return f"{self.prefix}:{{g:{group}}}:again"

    def revocations(self) -> str:
        return f"{self.prefix}:auth:revoked"

    def ticket_secret(self) -> str:
        return f"{self.prefix}:auth:ticket"

    def used_ticket(self, ticket_id: str) -> str:
        return f"{self.prefix}:auth:used:{ticket_id}"

    def bucket(self, kind: str, account: str) -> str:
        """How much of a rate an account has left."""
        return f"{self.prefix}:limit:{kind}:{account}"

    def gateways(self) -> str:
        """Which gateways are alive, and until when they are believed to be."""
        return f"{self.prefix}:gw"

    def unwatched(self, phase: str) -> str:
        """Executions to be cancelled when nobody watches them: ``watched`` still, or ``alone``."""
        return f"{self.prefix}:gw:unwatched:{phase}"

    def gateway_probe(self, gateway: str) -> str:
        """Written to find out whether Redis takes writes."""
        return f"{self.prefix}:gw:{{{gateway}}}:probe"

    def gateway_clients(self, gateway: str) -> str:
        return f"{self.prefix}:gw:{{{gateway}}}:clients"

    def gateway_viewers(self, gateway: str) -> str:
        return f"{self.prefix}:gw:{{{gateway}}}:viewers"

    def gateway_holders(self, gateway: str) -> str:
        """How many connections each subject and each address has there."""
        return f"{self.prefix}:gw:{{{gateway}}}:holders"

    def gateway_orders(self, gateway: str) -> str:
        return f"{self.prefix}:gw:{{{gateway}}}:orders"
