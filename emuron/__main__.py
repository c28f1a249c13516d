"""`python -m emuron` is the `emuron` command."""

from emuron.cli.main import run

if __name__ == "__main__":
    run()
