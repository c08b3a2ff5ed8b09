"""The command line; script/bench prints the help."""
import argparse
import re
import sys
from pathlib import Path

from figures import FIGURES

UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
SIZE = "1GiB"
SIZE_QUICK = "64MiB"


class Parser(argparse.ArgumentParser):
    def error(self, message):
        print(f"bench: {message}; see --help", file=sys.stderr)
        sys.exit(1)


def parse(words):
    parser = Parser(add_help=False, allow_abbrev=False)
    # These are script/bench's own business.
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", type=names_of_figures, default=list(FIGURES))
    parser.add_argument("--targets", type=lambda text: text.split(","), default=None)
    parser.add_argument("--size", type=size, default=None)
    parser.add_argument("--peer", default=None)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--write", type=Path, default=None)
    arguments = parser.parse_args(words)
    if arguments.size is None:
        arguments.size = size(SIZE_QUICK if arguments.quick else SIZE)
    return arguments


def names_of_figures(text):
    wanted = text.split(",")
    for name in wanted:
        if name not in FIGURES:
            raise argparse.ArgumentTypeError(f"no figure `{name}`; there are {', '.join(FIGURES)}")
    return [name for name in FIGURES if name in wanted]


def size(text):
    match = re.fullmatch(r"([1-9][0-9]*)(|KiB|MiB|GiB)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"`{text}` is no size such as 512MiB")
    return int(match[1]) * UNITS[match[2]]
