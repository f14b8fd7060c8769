"""`python -m onnxcam` is the command line."""

from onnxcam.cli import main

main()
