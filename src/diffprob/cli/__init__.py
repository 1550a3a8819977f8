"""The command line: one module a verb, each with ``add_arguments(parser)``, ``run(args)`` and ``lines(result)``."""
