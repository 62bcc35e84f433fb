"""``python -m dfdet``: the same as the ``dfdet`` command."""

from dfdet.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
