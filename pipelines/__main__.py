"""`python -m pipelines` is the command line too, where its script is not installed."""

from pipelines.cli import main

main()
