"""Ctrl-C and SIGTERM: a command ends with one sentence that says how to go on, and never half-way
through a file.

Only commands install handlers, by ``answered``; a host program or a notebook keeps its own. What
knows how to go on adds it to the exception as a note, which a notebook shows too.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM: whatever gives way to Ctrl-C gives way to it."""


_EXCEPTIONS: dict[int, type[KeyboardInterrupt]] = {
    signal.SIGINT: KeyboardInterrupt,
    signal.SIGTERM: Terminated,
}
_WORDS: dict[int, str] = {signal.SIGINT: "stopped by Ctrl-C", signal.SIGTERM: "stopped by SIGTERM"}
_AGAIN = "Nothing half-written is left; give the same command again."


class _Signals:
    """What this process has received. ``deferrals`` counts the blocks of ``deferred`` that it is
    in."""

    received: int | None = None
    waiting: int | None = None
    deferrals = 0


def exit_status(stop: KeyboardInterrupt) -> int:
    """A shell's status of a command that a signal ended: 130 for Ctrl-C, 143 for SIGTERM."""
    by_type = signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT
    # Ray turns every signal that it hears into a KeyboardInterrupt.
    return 128 + (_Signals.received or by_type)


def answered(main: Callable[[Sequence[str]], int]) -> Callable[[Sequence[str]], int]:
    """Let a command's ``main`` answer Ctrl-C and SIGTERM by one sentence on stderr and the exit
    status of the signal.

    The sentence ends with the notes of the exception, or says to give the same command again. A
    second signal ends the process at once.
    """

    @functools.wraps(main)
    def answering(argv: Sequence[str]) -> int:
        try:
            with as_exceptions():
                return main(argv)
        except KeyboardInterrupt as stop:
            return _say(stop)
        # Of a library that was interrupted, or of what cleared up after it; all others are raised.
        except Exception as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, KeyboardInterrupt):
                cause = cause.__cause__ or cause.__context__
            if cause is None:
                raise
            return _say(cause)

    return answering


def _say(stop: KeyboardInterrupt) -> int:
    status = exit_status(stop)
    said = " ".join(getattr(stop, "__notes__", None) or [_AGAIN])
    start = "\n" if sys.stderr.isatty() else ""  # after the terminal's ^C
    with _bars_cleared():
        print(f"{start}recbole_genci: {_WORDS[status - 128]}. {said}", file=sys.stderr, flush=True)
    return status


def _bars_cleared():
    """Take progress bars off their line, which a sentence would otherwise end."""
    if "tqdm" not in sys.modules:
        return contextlib.nullcontext()
    from tqdm import tqdm

    return tqdm.external_write_mode(file=sys.stderr)


@contextlib.contextmanager
def as_exceptions() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into KeyboardInterrupt and ``Terminated``, inside the block only; a
    second one ends the process at once. Does nothing outside the main thread, and leaves a signal
    alone that the process was started to ignore.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.getsignal(each) for each in _EXCEPTIONS}
    show_ignored = sys.unraisablehook
    _Signals.received = _Signals.waiting = None

    def install() -> None:
        for each, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(each, _receive)

    def deliver_again(unraisable: sys.UnraisableHookArgs) -> None:
        """Python drops an exception that a signal raises within __del__ or a callback: the signal
        would be lost."""
        if not isinstance(unraisable.exc_value, KeyboardInterrupt) or _Signals.received is None:
            show_ignored(unraisable)
            return
        install()
        again = threading.Timer(
            0.05, signal.pthread_kill, (threading.main_thread().ident, _Signals.received)
        )
        again.daemon = True
        again.start()

    sys.unraisablehook = deliver_again
    install()
    try:
        yield
    finally:
        sys.unraisablehook = show_ignored
        for each, handler in before.items():
            signal.signal(each, signal.SIG_DFL if handler in (None, _leave) else handler)


def _receive(signum: int, frame: FrameType | None) -> None:
    for each in _EXCEPTIONS:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, signal.SIG_DFL)
    _Signals.received = signum
    if _Signals.deferrals:
        _Signals.waiting = signum
        return
    raise _EXCEPTIONS[signum]


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Let a first signal wait until the block, a short one, has ended. Only of commands: see
    ``as_exceptions``."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Signals.deferrals += 1
    try:
        yield
    finally:
        _Signals.deferrals -= 1
        waiting = _Signals.waiting
        if waiting is not None and not _Signals.deferrals:
            _Signals.waiting = None
            raise _EXCEPTIONS[waiting]


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """Put the handlers back that a library replaces inside the block, as ray.init does
    (ray/_private/worker.py, sigterm_handler)."""
    before = {each: signal.getsignal(each) for each in _EXCEPTIONS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for each, handler in before.items():
                if handler is not None and signal.getsignal(each) is not handler:
                    signal.signal(each, handler)


@contextlib.contextmanager
def not_inherited() -> Iterator[None]:
    """Start processes inside the block that do not hear Ctrl-C, which a terminal sends to all of a
    command's processes: their parent hears it and ends them. One that comes inside the block
    waits."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow_parent() -> None:
    """In a process that was started inside ``not_inherited``: SIGTERM, by which the parent ends it,
    unwinds it without a traceback; SIGINT, which torch has the system send when the parent dies
    (torch/multiprocessing/spawn.py, _wrap), ends it.
    """
    parent = os.getppid()

    def orphaned(signum: int, frame: FrameType | None) -> None:
        if os.getppid() != parent:
            os._exit(128 + signum)

    def terminate(signum: int, frame: FrameType | None) -> None:
        signal.signal(signum, signal.SIG_DFL)
        raise Terminated

    signal.signal(signal.SIGINT, orphaned)
    signal.signal(signal.SIGTERM, terminate)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def end_processes(processes: Sequence, patience: float = 5.0) -> None:
    """End child processes: by SIGTERM, and where one has not ended after ``patience`` seconds, by
    SIGKILL. None stays a zombie."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(patience)
        if process.is_alive():
            process.kill()
            process.join()


def end_at_once() -> None:
    """While a command's libraries are being imported there is nothing to clear up: end by the
    signal's status, with a sentence. Once its ``main`` has returned, a signal ends it without one.
    """
    for each in _EXCEPTIONS:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, _leave)


def _leave(signum: int, frame: FrameType | None) -> None:
    os.write(2, f"recbole_genci: {_WORDS[signum]}. {_AGAIN}\n".encode())
    os._exit(128 + signum)
