"""The command line: one module per verb, imported when its verb is called, so that `--help` answers at once."""

import contextlib
import errno
import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from simengine import __version__
from simengine.shown import cut

HELP = "Find the parameters behind observations of something physical, and show what they do."

BROKEN_PIPE = 128 + 13  # what a shell tells of a program that SIGPIPE ended
MOST = 400  # characters of a message
# Errors of the machine, not of what was given to us, and their remedies
_MACHINE = {
    errno.ENOSPC: "free some space, or choose another --out",
    errno.EROFS: "choose another --out",
    errno.EIO: "the disk fails; choose another --out",
    **({errno.EDQUOT: "free some space, or choose another --out"} if hasattr(errno, "EDQUOT") else {}),
}

# ctrl-C is left to `main`, which says what it means; cyclopts would end with 130 and without a word
app = App(name="simengine", help=HELP, version=__version__, suppress_keyboard_interrupt=False)
app.command("simengine.cli.run:run", name="run", help="Simulate or solve a scene; write states, pictures and a log.")
app.command("simengine.cli.fit:fit", name="fit", help="Find parameters of a scene from observations; resumable.")
app.command("simengine.cli.fit:train", name="train", help="Train a model on examples of a scene; resumable.")
app.command("simengine.cli.fit:optimise", name="optimise", help="Find the design that an objective likes best.")
app.command("simengine.cli.predict:predict", name="predict", help="Predict what was observed, or use what was found.")
app.command("simengine.cli.observe:observe", name="observe", help="Write what the instruments of a scene would see.")
app.command("simengine.cli.listing:listing", name="list", help="List scenes, kinds, instruments, numbers and scalars.")
app.command("simengine.cli.listing:explain", name="explain", help="Say what a number of a scene is.")
app.command("simengine.cli.export:export", name="export", help="Write states as csv, vtp, ply, HDF5 or glTF.")
app.command("simengine.cli.schema:schema", name="schema", help="Write the schema of scenes, for editors.")
app.command("simengine.cli.render:render", name="render", help="Picture a run directory again, as PNG, GIF or mp4.")
app.command("simengine.cli.view:view", name="view", help="Open the report of a run in a browser.")
app.command("simengine.cli.check:check", name="check", help="Pre-flight: stability, memory and gradient of a scene.")
app.command("simengine.cli.calibrate:calibrate", name="calibrate", help="A camera from photographs of a checkerboard.")
app.command("simengine.cli.design:design", name="design", help="Which experiment to make next, by what it would tell.")
app.command("simengine.cli.several:compare", name="compare", help="Compare fits by held-out data and by evidence.")
app.command("simengine.cli.several:pool", name="pool", help="What fits of several members tell of their population.")
app.command("simengine.cli.sweep:sweep", name="sweep", help="A scene with many numbers, over local processes.")
app.command("simengine.cli.fit:demo", name="demo", help="Fit a scene that ships, from its file to the report.")
app.command("simengine.cli.bench:bench", name="bench", help="Measure us beside a reference; print the ratios.")
app.command("simengine.cli.doctor:doctor", name="doctor", help="What is there, what is missing, what mends it.")
app.command("simengine.cli.completion:completion", name="completion", help="Print completion for a shell.")
app.command("simengine.cli.new:new", name="new", help="Write a scene file to start from.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code: 0 done, 1 it failed, 2 the input is wrong, 141 nobody reads on.

    Args:
        arguments: As in `sys.argv[1:]`; None for those.

    `SIMENGINE_DEBUG=1` shows the traceback behind a message.
    """
    for name in ("stdout", "stderr"):  # closed by who started us: written to nowhere
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    try:
        code = app(
            sys.argv[1:] if arguments is None else list(arguments),
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except CycloptsError as error:
        return _complain(error, 2)
    except BrokenPipeError:  # as in `simengine ... | head -1`
        _write_to_nowhere()
        return BROKEN_PIPE
    except SystemExit as error:  # rich's own answer to a broken pipe, with the code 1
        if isinstance(error.__context__, BrokenPipeError):
            return BROKEN_PIPE
        raise
    except OSError as error:
        return _complain(error, 1 if error.errno in _MACHINE else 2)
    except (ValueError, TypeError) as error:  # what a wrong input raises, by convention
        return _complain(error, 2)
    except (RuntimeError, ArithmeticError, MemoryError, ImportError) as error:
        return _complain(error, 1)
    except KeyboardInterrupt:
        print("interrupted; the same command resumes from the last checkpoint", file=sys.stderr)
        return 1


def _write_to_nowhere() -> None:
    """Let what is still to be flushed at the end of the process vanish instead of failing once more."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _complain(error: BaseException, code: int) -> int:
    if os.environ.get("SIMENGINE_DEBUG"):
        raise error
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.errno in _MACHINE:
        place = f"{error.filename}: " if error.filename else "what is written: "
        text = f"{place}{os.strerror(error.errno or 0)}; {_MACHINE[error.errno]}"
        _write_to_nowhere()
    print(f"simengine: {cut(text, MOST)}", file=sys.stderr)
    return code
