"""The command ``adaptive-scan``. Each sub-command is a module of this package that is imported only when it is used."""

from __future__ import annotations

import argparse
import collections.abc
import importlib
import os
import sys
import typing

from adaptive_core.errors import AdaptiveScanError, InvalidInputError

COMMANDS: typing.Final = {
    "scan": "make an adaptive scan without a window",
    "app": "start Nion Swift with the plug-in",
    "demo": "make an adaptive scan and leave a Swift project and a picture of it",
    "replay": "rebuild the estimate and the picture of a run from its journal",
    "align": "centre the bright-field disk without a window",
    "ptychography": "make an adaptive ptychographic scan without a window, or on a recorded one",
    "benchmark": "compare policies in simulations",
    "train": "train a model",
    "sweep": "train many models at once, here or on a cluster",
    "models": "list, show, verify and add models",
}
"""Names and summaries of the sub-commands; the module of the same name has ``add_arguments`` and ``run``."""

BAD_INPUT: typing.Final = 2
FAILED: typing.Final = 1
INTERRUPTED: typing.Final = 130


class _Parser(argparse.ArgumentParser):
    """Refuses bad arguments like any other bad input: with one line and exit status 2."""

    def error(self, message: str) -> typing.NoReturn:
        raise InvalidInputError(f"{message} (see {self.prog} --help)")


def main(arguments: collections.abc.Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0 done, 1 failed, 2 bad input."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parser(words).parse_args(words)
        status = int(_module(options.command).run(options))
        sys.stdout.flush()
        return status
    except InvalidInputError as error:
        return _refuse(error, BAD_INPUT)
    except AdaptiveScanError as error:
        return _refuse(error, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python must not try to write the rest as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _refuse(error: AdaptiveScanError, status: int) -> int:
    print(f"adaptive-scan: {' '.join(str(error).split())}", file=sys.stderr)
    return status


def _module(command: str) -> typing.Any:
    return importlib.import_module(f"{__name__}.{command}")


def _parser(words: collections.abc.Sequence[str]) -> argparse.ArgumentParser:
    """The parser of all commands; only the one in use has arguments, since its module has to be imported for them."""
    parser = _Parser("adaptive-scan", description="Adaptive scanning for Nion Swift.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", required=True)
    used = next((word for word in words if not word.startswith("-")), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == used:
            _module(name).add_arguments(command)
    return parser
