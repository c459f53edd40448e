"""Two sandboxed processes, candidate and judge, and the pipe talk between them.

The parent relays lines: requests of the judge to the candidate, answers of the candidate to the judge. It reads the
verdict from the judge's stream only and never interprets what a candidate sends. A verdict counts only with the nonce
that the judge was given through its own pipe: a candidate that can write into the pipes of others does not know it.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import secrets
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import psutil

from tasks.sandbox import cgroup
from tasks.sandbox.level import Command, Level
from tasks.sandbox.model import IsolationError, Limits, Outcome, Program, Verdict
from tasks.sandbox.patience import Meter, tree, within

READY = b"ready\n"
VERDICT = b"="
STARTS = 3
"""How often the processes of one program are started at most, where files beside the interpreter come and go."""


class SlowStart(IsolationError):
    """A sandbox was not ready within its limit."""


class Closed(Exception):
    """The other side ended its stream."""


class TooLong(Exception):
    """A line beyond the limit."""


class Peer:
    """A sandboxed process that speaks in lines."""

    def __init__(self, process: asyncio.subprocess.Process, level: Level) -> None:
        self.process = process
        self.level = level
        assert process.stdin is not None
        assert process.stdout is not None
        self.stdin = process.stdin
        self.stdout = process.stdout

    async def send(self, line: bytes) -> None:
        try:
            self.stdin.write(line)
            await self.stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed from error

    async def receive(self) -> bytes:
        try:
            return await self.stdout.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            raise Closed from error
        except asyncio.LimitOverrunError as error:
            raise TooLong from error

    async def await_ready(self, seconds: float) -> None:
        try:
            first = await within(self.receive(), seconds, Meter([self.process.pid]))
        except TimeoutError:
            raise SlowStart(f"{self.level.name} did not start within the limit of {seconds:.0f} s") from None
        except (Closed, TooLong):
            first = b""
        if first != READY:
            raise IsolationError(f"{self.level.name} did not start: {await self._errors()}")

    async def _errors(self) -> str:
        assert self.process.stderr is not None
        text = (await self.process.stderr.read(4000)).decode("utf-8", "replace").strip()
        return text.splitlines()[-1] if text else "it says nothing"

    async def exit_status(self) -> int:
        """As a shell gives it: above 128 for a signal."""
        async with asyncio.timeout(5):
            code = await self.process.wait()
        return 128 - code if code < 0 else code

    async def end(self) -> None:
        """Kill the process group; with namespaces, everything inside dies with it."""
        if self.process.returncode is None:
            for process in tree(self.process.pid) if self.level.shares_processes else ():
                with suppress(psutil.Error):  # also what left the group
                    process.kill()
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            # At level `process`, a candidate's own child may hold the pipes open, and `wait` with them.
            with suppress(TimeoutError):
                await self.exit_status()
        self.stdin.close()
        # Pipes that such a child still holds are never at their end: closed here, or the loop warns of them later.
        self.process._transport.close()  # type: ignore[attr-defined]
        await asyncio.sleep(0)


@asynccontextmanager
async def started(level: Level, command: Command, limits: Limits) -> AsyncIterator[Peer]:
    """A process of this command at `level`, not yet ready; killed at the end.

    Raises:
        IsolationError: its program cannot be started.
    """
    with _grouped(command.argv, limits) as argv:
        async with _running(argv, command, level, limits) as peer:
            yield peer


@contextmanager
def _grouped(argv: list[str], limits: Limits) -> Iterator[list[str]]:
    """The command as it starts within a control group, where those may be used."""
    groups = cgroup.delegated()
    if groups is None:
        yield argv
        return
    with groups.group(limits) as path:
        yield cgroup.entering(path, argv)


@asynccontextmanager
async def _running(argv: list[str], command: Command, level: Level, limits: Limits) -> AsyncIterator[Peer]:
    descriptors = {key: _readable(content) for key, content in command.inputs.items()}
    try:
        process = await asyncio.create_subprocess_exec(
            *(str(descriptors.get(argument, argument)) for argument in argv),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=limits.answer,
            env=dict(command.environment),
            cwd="/",
            start_new_session=True,
            pass_fds=tuple(descriptors.values()),
        )
    except OSError as error:
        raise IsolationError(f"{level.name} cannot be started: {error}") from error
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)
    peer = Peer(process, level)
    try:
        yield peer
    finally:
        await peer.end()


def _readable(content: bytes) -> int:
    """A descriptor of a file without a name that holds these bytes."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        return os.dup(file.fileno())


async def run(program: Program, level: Level, limits: Limits, seconds: float) -> Verdict:
    """Judge one program within `seconds` (see `tasks.sandbox.patience`).

    A process that does not start has run nothing of the program. A command names what it covers beside the interpreter,
    so it fails where a file has gone since, and what it would be now is started, STARTS times at most. (It may be the
    same again: a file can have come back.) One that takes too long is not started again.
    """
    said = ""
    for _ in range(STARTS):
        commands = level.command("worker", limits), level.judge().command("judge", limits)
        try:
            return await _judged(program, level, commands, limits, seconds)
        except IsolationError as error:
            said = str(error)
            if isinstance(error, SlowStart):
                break
    return Verdict(Outcome.ISOLATION_ERROR, said, 0.0, level.name)


async def _judged(
    program: Program, level: Level, commands: tuple[Command, Command], limits: Limits, seconds: float
) -> Verdict:
    """Raises:
    IsolationError: a process did not start.
    """
    async with (
        started(level, commands[0], limits) as worker,
        started(level.judge(), commands[1], limits) as judge,
    ):
        await worker.await_ready(limits.startup)
        await judge.await_ready(limits.startup)
        meter = Meter((worker.process.pid, judge.process.pid))
        try:
            outcome, detail = await within(_talk(program, worker, judge), seconds, meter)
        except TimeoutError:
            outcome, detail = Outcome.TIMEOUT, f"no verdict within the limit of {seconds:.1f} s"
        return Verdict(outcome, detail, meter.wall(), level.name, meter.used())


async def _talk(program: Program, worker: Peer, judge: Peer) -> tuple[Outcome, str]:
    nonce = secrets.token_hex(32)
    task = {
        "setup": program.setup,
        "tests": program.tests,
        "functions": program.functions,
        "needed": program.needed,
        "nonce": nonce,
    }
    try:
        await judge.send(_line(task))
        try:
            await worker.send(_line({"code": program.code}))
            await judge.send(await worker.receive())
            while not (line := await judge.receive()).startswith(VERDICT):
                await worker.send(line[1:])
                await judge.send(await worker.receive())
        except TooLong:
            return Outcome.FAILED, "the answer is too long"
    except Closed:
        return await _ended(worker)
    return _authentic(line.removeprefix(VERDICT), nonce.encode("ascii"))


def _authentic(line: bytes, nonce: bytes) -> tuple[Outcome, str]:
    """The verdict of a line that only the judge can have written."""
    signed, verdict = line[: len(nonce)], line[len(nonce) :]
    if not hmac.compare_digest(signed, nonce):
        return Outcome.CRASHED, "a verdict that is not the judge's was written into the judge's pipe"
    try:
        decision = json.loads(verdict)
        return Outcome(decision["outcome"]), str(decision["detail"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return Outcome.CRASHED, "the judge's verdict is cut off"


async def _ended(worker: Peer) -> tuple[Outcome, str]:
    """One of the two is gone. That is the candidate's doing unless its process still runs."""
    try:
        status = await worker.exit_status()
    except TimeoutError:
        return Outcome.CRASHED, "the candidate closed its pipe, or its answers ended the judge"
    if status <= 128:
        return Outcome.FAILED, f"the candidate ended its process with status {status}"
    number = status - 128
    if number == signal.SIGXCPU:
        return Outcome.TIMEOUT, "the candidate used up its processor time"
    if number == signal.SIGKILL:
        return Outcome.MEMORY, "the system killed the candidate, most likely for want of memory"
    return Outcome.CRASHED, f"signal {signal.strsignal(number) or number}"


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode("ascii") + b"\n"
