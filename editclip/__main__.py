"""`python -m editclip`: the command-line interface without installing the package."""

from editclip.cli import main

main()
