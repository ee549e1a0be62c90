"""What composer.py, conductor.py and member.py are made of.

Flat, one idea a module. Imports run one way only: pure modules (format, wire,
picker, choker, registry) <- input and output (storage, tracker client)
<- threads (reader, writer, connection, announcer) <- orchestrator <- programs.
tests/unit/test_layers.py holds the table and fails when an import runs upward.
"""

from importlib.util import find_spec

__version__ = "0.1.0"

# Whoever starts a program outside its environment is told so, before the first import fails.
for _package in ("progressbar", "waitress"):
    if find_spec(_package) is None:
        raise SystemExit(
            f"the package {_package} is missing: activate the environment (. .venv/bin/activate), "
            "or install what is needed: pip install -r requirements.txt"
        )
