"""The command line: one module a verb, each with ``add_arguments``, ``run`` and ``format_result``."""
