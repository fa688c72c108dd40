"""Ctrl-C and SIGTERM: a command ends with one sentence that says how to resume.

It never ends half-way through a file. Only commands install signal handlers, by ``answered``; a
host program or a notebook keeps its own. The code that knows how to resume says so in a note on the
exception, which a notebook shows too.
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
    """SIGTERM arrived. It is a KeyboardInterrupt, so all code that ends on Ctrl-C ends on it."""


_EXCEPTIONS: dict[int, type[KeyboardInterrupt]] = {
    signal.SIGINT: KeyboardInterrupt,
    signal.SIGTERM: Terminated,
}
_WORDS: dict[int, str] = {signal.SIGINT: "stopped by Ctrl-C", signal.SIGTERM: "stopped by SIGTERM"}
_AGAIN = "Nothing half-written is left; give the same command again."


class _Signals:
    """The signals of this process. ``deferrals`` counts the blocks of ``deferred`` around now."""

    received: int | None = None
    waiting: int | None = None
    deferrals = 0


def exit_status(stop: KeyboardInterrupt) -> int:
    """The exit status of a command that a signal ended: 130 for Ctrl-C, 143 for SIGTERM."""
    by_type = signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT
    # Ray turns every signal into a KeyboardInterrupt.
    return 128 + (_Signals.received or by_type)


def answered(main: Callable[[Sequence[str]], int]) -> Callable[[Sequence[str]], int]:
    """Make a command's ``main`` answer Ctrl-C and SIGTERM with one sentence on stderr.

    The sentence ends with the notes of the exception, or says to give the same command again. The
    exit status is that of the signal. A second signal ends the process at once.
    """

    @functools.wraps(main)
    def answering(argv: Sequence[str]) -> int:
        try:
            with as_exceptions():
                return main(argv)
        except KeyboardInterrupt as stop:
            return _say(stop)
        # An interrupted library, or the code that cleans up after it, may raise another error;
        # errors without an interrupt behind them are raised again.
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
    advice = " ".join(getattr(stop, "__notes__", None) or [_AGAIN])
    start = "\n" if sys.stderr.isatty() else ""  # after the terminal's ^C
    with _bars_cleared():
        print(
            f"{start}recbole_genci: {_WORDS[status - 128]}. {advice}", file=sys.stderr, flush=True
        )
    return status


def _bars_cleared() -> contextlib.AbstractContextManager[None]:
    """Take progress bars off their line, which a sentence would otherwise end."""
    if "tqdm" not in sys.modules:
        return contextlib.nullcontext()
    from tqdm import tqdm

    return tqdm.external_write_mode(file=sys.stderr)


@contextlib.contextmanager
def as_exceptions() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into KeyboardInterrupt and ``Terminated``, inside the block only.

    A second signal ends the process at once. Outside the main thread this does nothing. A signal
    that the process was started to ignore stays ignored.
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
        """Send the signal again if Python dropped its exception in __del__ or a callback."""
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
    """Make a first signal wait until the block, which should be short, has ended.

    It works inside ``as_exceptions``, that is for commands only.
    """
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
    """Restore the signal handlers that a library replaces inside the block, as ray.init does
    (ray/_private/worker.py, sigterm_handler).
    """
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
    """Start processes inside the block that ignore Ctrl-C.

    A terminal sends Ctrl-C to all processes of a command; here only the parent answers it, and ends
    its children. A Ctrl-C inside the block waits for the end of the block.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow_parent() -> None:
    """Install the signal handlers of a process that was started inside ``not_inherited``.

    SIGTERM, by which the parent ends it, raises ``Terminated``. SIGINT ends the process if its
    parent has died; torch makes the system send it then (torch/multiprocessing/spawn.py, _wrap).
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


def end_processes(processes: Sequence) -> None:
    """End child processes by SIGTERM, or by SIGKILL after five seconds. None stays."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()


def end_at_once() -> None:
    """Make a signal end the process at once, with one sentence and the signal's exit status.

    For the time in which a command imports its libraries, when there is nothing to clean up. After
    its ``main`` has returned, a signal ends the process without a sentence.
    """
    for each in _EXCEPTIONS:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, _leave)


def _leave(signum: int, frame: FrameType | None) -> None:
    os.write(2, f"recbole_genci: {_WORDS[signum]}. {_AGAIN}\n".encode())
    os._exit(128 + signum)
