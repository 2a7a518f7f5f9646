"""The command `livephase`, also as `python -m pipeline`, where scripts are not on the path.

Processes that are spawned import the main module anew: the command line, which they don't need, is not in it.
"""


def main() -> None:
    """Run the command line."""
    from pipeline.cli import main as command_line  # noqa: PLC0415

    command_line()


if __name__ == "__main__":
    main()
