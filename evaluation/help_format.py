"""How the researcher's commands and the benchmarks lay out their `--help`."""

import argparse


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Print the description as it is written, and the default of each flag that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_default = not any(action.default is each for each in (None, False, argparse.SUPPRESS))
        if not action.help or not has_default or "(default" in action.help:
            return action.help
        return f"{action.help} (default: %(default)s)"


def command_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """Return the parser of `python -m MODULE`; `description` is the docstring of the module."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}", description=description, formatter_class=HelpFormatter
    )
