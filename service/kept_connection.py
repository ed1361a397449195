"""A connection to Redis that is kept for one use, past the client's pool and its accounts of every command.

Of a batch that goes out and its reply those took longer than all else that a gateway does with them; and a client
with threads, which take turns for Python's lock with the event loop, took longer still.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from redis import ResponseError
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import ConnectionError as RedisConnectionError

Command = Sequence[bytes | str | int]


@dataclass
class KeptConnection:
    """To the server of `client`, whose retries and timeouts hold. What comes meanwhile waits for its turn.

    One that has been idle may be closed without anybody having been told. Where it `can_repeat`, commands that
    find it so are sent again over a new one; they may then be done twice.
    """

    client: AsyncRedis
    can_repeat: bool = True
    _connection: Any = field(default=None, init=False)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def execute(self, *commands: Command) -> list[Any]:
        """The answers to all `commands`, which are sent together. Raises RedisError, OSError."""
        async with self._turn:
            answers = await self._ask(commands)
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise answer
        return answers

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        if self._connection is None:
            pool: Any = self.client.connection_pool
            self._connection = await pool.get_connection()
        connection = self._connection
        attempt = partial(_answers, connection, commands)
        was_kept = connection.is_connected
        try:
            answers: list[Any] = await connection.retry.call_with_retry(attempt, lambda _: connection.disconnect())
        except RedisConnectionError:
            if not was_kept or not self.can_repeat:
                raise
            return await attempt()
        return answers


async def _answers(connection: Any, commands: Sequence[Command]) -> list[Any]:
    if not connection.is_connected:
        # What sends a command connects too, but not to the master that Sentinels name now.
        await connection.connect()
    try:
        await connection.send_packed_command(connection.pack_commands(commands))
    except RuntimeError as error:
        # uvloop's word for a connection that the other side has closed.
        raise RedisConnectionError(str(error)) from error
    return [await _answer(connection) for _ in commands]


async def _answer(connection: Any) -> Any:
    """A refusal is an answer too, after which those to the other commands come."""
    try:
        return await connection.read_response()
    except ResponseError as refusal:
        return refusal
