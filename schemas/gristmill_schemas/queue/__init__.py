"""The queue: how urgent a job is, what waits, and how much of it is whose."""

from gristmill_schemas.queue.ahead import Ahead
from gristmill_schemas.queue.priority import Priority
from gristmill_schemas.queue.report import ModelQueue, QueuedJob, QueueReport
from gristmill_schemas.queue.tenants import TenantWork

__all__ = ["Ahead", "ModelQueue", "Priority", "QueueReport", "QueuedJob", "TenantWork"]
