"""Real servers for the tests: Redis, Qdrant and workers as child processes on free loopback ports, with throwaway data."""

from services.model_server import ModelServer
from services.process import Server, ServerError, ServiceMissing, free_port
from services.qdrant import QdrantServer, find_qdrant
from services.redis import RedisServer, find_redis
from services.worker import WorkerProcess

__all__ = [
    "ModelServer",
    "QdrantServer",
    "RedisServer",
    "Server",
    "ServerError",
    "ServiceMissing",
    "WorkerProcess",
    "find_qdrant",
    "find_redis",
    "free_port",
]
