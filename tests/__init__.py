"""All tests. A package, so that tests.programs and tests.fakes are found wherever a test lies."""
