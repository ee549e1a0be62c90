"""What composer.py, conductor.py and member.py are made of.

Flat, one idea a module. Imports run one way only: pure modules (format, wire,
picker, choker, registry) <- input and output (storage, tracker client)
<- threads (reader, writer, connection, announcer) <- orchestrator <- programs.
tests/unit/test_layers.py holds the table and fails when an import runs upward.
"""

__version__ = "0.1.0"
