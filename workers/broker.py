"""kombu's transport of Redis, such that a value in the broker that is none of our messages ends no worker.

Whatever else lies in a queue is dropped, and a key of ours that holds another type is deleted, with a line in the
log. kombu itself raises out of the consumer's loop, and the worker ends, once for each such value.
"""

from collections.abc import Callable
from typing import Any

import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from redis import RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from workers.contract.queues import Queue

# What kombu and Celery raise on a message that lacks what every message has.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError)
WRONG_TYPE = "WRONGTYPE"
log = structlog.get_logger()


class _TolerantQoS(kombu_redis.QoS):
    channel: Any

    def append(self, message: Any, delivery_tag: Any) -> None:
        self._again_if_foreign(lambda: super(_TolerantQoS, self).append(message, delivery_tag))

    def ack(self, delivery_tag: Any) -> None:
        try:
            self._again_if_foreign(lambda: super(_TolerantQoS, self).ack(delivery_tag))
        except (RedisConnectionError, RedisTimeoutError, OSError):
            # The message comes again, and is known then. If it went on to count as in hand, a worker of one slot
            # would never ask for another one, and so never notice that its connection is gone.
            virtual.QoS.ack(self, delivery_tag)
            raise

    def restore_visible(self, *args: Any, **options: Any) -> None:
        self._again_if_foreign(lambda: super(_TolerantQoS, self).restore_visible(*args, **options))

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        try:
            super().restore_by_tag(tag, client, leftmost)
        except UNREADABLE as error:
            log.error("message.dropped", reason=f"not an unacknowledged message of Celery's: {error!r}")
            with self.channel.conn_or_acquire(client) as connection:
                connection.pipeline().zrem(self.unacked_index_key, tag).hdel(self.unacked_key, tag).execute()

    def _again_if_foreign(self, do: Callable[[], Any]) -> Any:
        try:
            return do()
        except ResponseError as error:
            if WRONG_TYPE not in str(error):
                raise
            delete_foreign(self.channel)
            return do()


class _Tolerant:
    """For a channel of kombu's; its own methods are called for everything that is in order."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except UNREADABLE as error:
            log.error("message.dropped", reason=f"not a message of Celery's: {error!r}")
            return True
        except ResponseError as error:
            if WRONG_TYPE not in str(error):
                raise
            delete_foreign(self)
            return True


class TolerantChannel(_Tolerant, kombu_redis.Channel):
    QoS = _TolerantQoS


class TolerantSentinelChannel(_Tolerant, kombu_redis.SentinelChannel):
    QoS = _TolerantQoS


def delete_foreign(channel: Any) -> None:
    """Of the keys that a worker's channel reads and writes, those of another type than kombu gives them."""
    queues = [queue.value for queue in Queue]
    types = {
        **dict.fromkeys(queues, "list"),
        **{f"_kombu.binding.{queue}": "set" for queue in queues},
        channel.unacked_key: "hash",
        channel.unacked_index_key: "zset",
    }
    with channel.conn_or_acquire() as client:
        for name, expected in types.items():
            # Past the client's own prefixing, which does not know every command.
            key = channel.global_keyprefix + name
            found = client.execute_command("TYPE", key)
            found = found.decode() if isinstance(found, bytes) else found
            if found not in (expected, "none"):
                log.error("broker.foreign_value", key=key, type=found, expected=expected)
                client.execute_command("UNLINK", key)


def tolerate_foreign_values(app: Celery) -> None:
    """For every connection to a broker that this process makes from now on; what lies there goes at once."""
    kombu_redis.Transport.Channel = TolerantChannel
    kombu_redis.SentinelTransport.Channel = TolerantSentinelChannel
    try:
        with app.connection_for_read() as connection:
            connection.ensure_connection(max_retries=1, timeout=1)
            delete_foreign(connection.default_channel)
    except (OperationalError, RedisError, OSError) as error:
        # The consumer goes on trying.
        log.warning("broker.not_ready", reason=str(error))
