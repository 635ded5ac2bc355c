"""The command line: one module per verb, imported when its verb is called, so that `--help` answers at once."""

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from simengine import __version__

HELP = "Find the parameters behind observations of something physical, and show what they do."

app = App(name="simengine", help=HELP, version=__version__)
app.command("simengine.cli.run:run", name="run", help="Simulate or solve a scene; write states, pictures and a log.")
app.command("simengine.cli.fit:fit", name="fit", help="Find parameters of a scene from observations; resumable.")
app.command("simengine.cli.predict:predict", name="predict", help="Predict what was observed; report the misfits.")
app.command("simengine.cli.observe:observe", name="observe", help="Write what the instruments of a scene would see.")
app.command("simengine.cli.list:list_", name="list", help="List scenes, kinds, instruments, numbers and scalars.")
app.command("simengine.cli.explain:explain", name="explain", help="Say what a number of a scene is.")
app.command("simengine.cli.render:render", name="render", help="Picture a run directory again, as PNG, GIF or mp4.")
app.command("simengine.cli.view:view", name="view", help="Open the report of a run in a browser.")
app.command("simengine.cli.check:check", name="check", help="Pre-flight: stability, memory and gradient of a scene.")
app.command("simengine.cli.bench:bench", name="bench", help="Measure us beside a reference; print the ratios.")
app.command("simengine.cli.doctor:doctor", name="doctor", help="What is there, what is missing, what mends it.")
app.command("simengine.cli.new:new", name="new", help="Write a scene file to start from.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code: 0 done, 1 it failed, 2 the input is wrong.

    Args:
        arguments: As in `sys.argv[1:]`; None for those.

    `SIMENGINE_DEBUG=1` shows the traceback behind a message.
    """
    try:
        code = app(
            sys.argv[1:] if arguments is None else list(arguments),
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        return code if isinstance(code, int) else 0
    except CycloptsError as error:
        return _complain(error, 2)
    except (ValueError, TypeError, OSError) as error:  # what a wrong input raises, by convention
        return _complain(error, 2)
    except (RuntimeError, ArithmeticError, MemoryError) as error:
        return _complain(error, 1)
    except KeyboardInterrupt:
        print("interrupted; the same command resumes from the last checkpoint", file=sys.stderr)
        return 1


def _complain(error: BaseException, code: int) -> int:
    if os.environ.get("SIMENGINE_DEBUG"):
        raise error
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"simengine: {text}", file=sys.stderr)
    return code
