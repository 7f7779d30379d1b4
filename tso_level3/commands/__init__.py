"""The commands of `tso-level3`, one module each; `tso_level3.commands.main` runs them.

A module has ``TEXTS`` (description and epilog of its page of help), ``add_arguments(parser)`` and
``run(args, parser)``, which returns an exit status, or None for 0.
"""
